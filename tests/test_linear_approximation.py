"""experiments/linear_approximation.py: what is compared, with what, and that the fits are right."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scripts import ROOT, run_script

from seclcompress import networks

sys.path.insert(0, str(ROOT / "experiments"))  # as where Python runs a script of that folder

import candidates
import fits
import goals
import pieces
import research_log


def fitted(family: str, goal: goals.Goal, method: str, **options: Any) -> dict[str, Any]:
    one = candidates.Candidate(family, family, options)
    return fits.run(one, goal, method, steps=200, patience=60)


class TestCandidates:
    def test_every_affine_family_takes_part_and_no_other(self) -> None:
        there = candidates.candidates(16)
        affine = {family.name for family in candidates.affine_families()}
        assert "bottleneck" not in affine
        # cp makes of a matrix what low_rank makes of it
        assert {one.family for one in there} == affine - {"cp"}

    def test_all_values_of_the_options_are_swept(self) -> None:
        there = candidates.candidates(32)
        stacks = {
            (one.options["depth"], one.options["permutation"])
            for one in there
            if one.family == "acdc" and "permutation" in one.options
        }
        assert stacks == {
            (d, p) for d in (1, 2, 4, 8, 16, 32) for p in ("riffle", "random", "none")
        }
        forms = {one.options["form"] for one in there if one.family == "symmetric"}
        assert forms >= {"triangular", "eigen", "chunk-4", "triangle-8"}
        curves = {one.curve for one in there}
        assert {"acdc riffle", "afdf none", "acdc blocks, depth 2", "shuffle 2 layers"} <= curves

    @pytest.mark.parametrize("size", [8, 30])
    def test_parameters_are_those_of_what_is_built(self, size: int) -> None:
        goal = goals.random_goal(size, 0)
        for one in candidates.candidates(size):
            layer, _ = fits.build(one, goal)
            assert one.parameters == sum(p.numel() for p in layer.parameters()), one.label
            assert one.parameters <= 4 * size**2
            assert layer(goal.inputs).shape == (size, size)

    def test_what_a_family_refuses_is_left_out(self) -> None:
        there = [one for one in candidates.candidates(30) if one.family == "shuffle"]
        assert {one.options["groups"] for one in there} == {2}  # 4, 8 and 16 do not divide 30


class TestGoals:
    def test_a_random_matrix_is_of_its_seed(self) -> None:
        goal = goals.random_goal(64, 3)
        assert torch.equal(goal.matrix, goals.random_goal(64, 3).matrix)
        assert not torch.equal(goal.matrix, goals.random_goal(64, 4).matrix)
        assert float(goal.matrix.square().sum(1).mean()) == pytest.approx(1, abs=0.1)

    @pytest.mark.parametrize("size", [32, 64])
    def test_the_logs_best_constant_leaves_one_36th(self, size: int) -> None:
        left = []
        for seed in range(5):
            goal = goals.log_goal(size, seed, bias=True, examples=2000)
            left.append(float(goal.outputs.var(0).mean()))
        assert sum(left) / 5 == pytest.approx(research_log.CONSTANT, rel=0.03)

    def test_the_logs_lines_have_as_many_parameters_here(self) -> None:
        assert len(research_log.LINES) == 40
        for line in research_log.LINES:
            one = candidates.Candidate(line.name, line.family, line.options)
            layer, _ = fits.build(one, goals.log_goal(32, 0, bias=line.bias))
            biases = 32 if line.name.startswith("BDACDC_2") else 0  # one between the log's layers
            numbers = sum(p.numel() for p in layer.parameters())
            assert numbers + biases == line.parameters, line.name

    def test_layers_of_a_network_with_weights_of_a_file(self, tmp_path: Path) -> None:
        spec = networks.named_spec("wrn10_1")
        network = networks.build_untrained(spec, seed=5)
        save_file(network.state_dict(), tmp_path / "weights.safetensors")
        fresh = goals.network_goals("wrn10_1", 16, 1)
        loaded = goals.network_goals(f"wrn10_1={tmp_path / 'weights.safetensors'}", 16, 3)
        assert [goal.kind for goal in fresh] == ["wrn10_1 (fresh)"]
        assert {goal.kind for goal in loaded} == {"wrn10_1"}
        for goal in loaded:
            conv = network.get_submodule(goal.name.split()[-1])
            filters = conv.weight.detach().double().flatten(2)  # (out, in, positions)
            # the nearest split: first singular vectors, for the kernels of each input channel
            u, s, _ = torch.linalg.svd(filters.transpose(0, 1), full_matrices=False)
            wanted = (u[..., 0] * s[..., 0, None].sqrt()).T
            torch.testing.assert_close(goal.matrix.abs(), wanted.abs(), atol=1e-5, rtol=1e-4)
        assert goals.network_goals("wrn10_1", 17, 2) == []


class TestFits:
    @settings(max_examples=10)
    @given(st.integers(0, 1000))
    def test_closed_forms_are_the_nearest(self, seed: int) -> None:
        goal = goals.random_goal(8, seed)
        total = goal.matrix.square().sum()
        skew = (goal.matrix - goal.matrix.mT) / 2
        blocks = torch.block_diag(goal.matrix[:4, :4], goal.matrix[4:, 4:])
        for family, options, left in (
            ("separable", {}, 0.0),
            ("symmetric", {"form": "triangular"}, skew.square().sum() / total),
            ("shuffle", {"layers": 1, "groups": 2}, 1 - blocks.square().sum() / total),
        ):
            closed = fitted(family, goal, "closed form", **options)
            assert closed["error"] == pytest.approx(float(left), abs=1e-9)
            by_lbfgs = fitted(family, goal, "l-bfgs", **options)
            assert by_lbfgs["error"] == pytest.approx(float(left), abs=1e-6)

    def test_descent_is_no_closed_form(self) -> None:
        goal = goals.random_goal(8, 0)
        none = fitted("acdc", goal, "closed form", depth=2)
        assert none == {"parameters": 32, "left_out": "no closed form"}
        # its optimiser works again afterwards
        assert fitted("acdc", goal, "adam", depth=2)["error"] < 1

    def test_lbfgs_comes_nearer_than_a_few_steps_of_adam(self) -> None:
        goal = goals.random_goal(8, 1)
        errors = {m: fitted("acdc", goal, m, depth=4)["error"] for m in ("adam", "l-bfgs")}
        assert 0 < errors["l-bfgs"] < errors["adam"] < 1

    def test_the_examples_of_the_log_are_fitted(self) -> None:
        """Enough parameters for 4 examples: nothing is left, though the matrices differ."""
        goal = goals.log_goal(8, 0, bias=True, examples=4)
        found = fitted("separable", goal, "l-bfgs")
        assert found["mse"] < 1e-8
        assert fitted("separable", goal, "closed form")["left_out"] == "no closed form"

    def test_a_fit_that_would_take_too_long_waits_for_more_patience(self, tmp_path: Path) -> None:
        from linear_approximation import fit_all

        job = (candidates.Candidate("acdc", "acdc", {"depth": 2}), goals.random_goal(8, 0), "adam")
        cells = pieces.Cells(tmp_path / "cells.jsonl")
        fit_all([job], cells, steps=20, patience=1e-6)
        assert cells.finished == []
        fit_all([job], cells, steps=20, patience=60)
        [(_, found)] = cells.finished
        assert found["error"] > 0


class TestCells:
    def test_a_cell_is_done_once(self, tmp_path: Path) -> None:
        file = tmp_path / "cells.jsonl"
        cells = pieces.Cells(file)
        assert cells.fill({"a": 1, "b": 2}, lambda: {"error": 3})
        assert not cells.fill({"b": 2, "a": 1}, lambda: {"error": 4})
        assert pieces.Cells(file).get({"a": 1, "b": 2}) == {"error": 3}
        assert pieces.Cells(file).get({"a": 1}) is None

    def test_a_line_that_was_cut_off_is_done_again(self, tmp_path: Path) -> None:
        file = tmp_path / "cells.jsonl"
        cells = pieces.Cells(file)
        cells.fill({"a": 1}, lambda: {"error": 1})
        cells.fill({"a": 2}, lambda: {"error": 2})
        file.write_bytes(file.read_bytes()[:-4])
        cells = pieces.Cells(file)
        assert cells.get({"a": 2}) is None
        cells.fill({"a": 2}, lambda: {"error": 5})
        assert [found["error"] for _, found in pieces.Cells(file).finished] == [1, 5]


@pytest.mark.slow
def test_the_script_goes_on_where_it_stopped(tmp_path: Path) -> None:
    script = "experiments/linear_approximation.py"
    small = ("--work", "work", "--quick", "--networks", "--picture", "picture.png")
    done = run_script(script, tmp_path, *small)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    for one in candidates.candidates(8):
        assert f"\n| {one.curve} |" in done.stdout
    file = tmp_path / "work" / "cells.jsonl"
    lines = file.read_text().splitlines()
    assert all(math.isfinite(json.loads(line)["found"].get("error", 0)) for line in lines)
    file.write_text("".join(line + "\n" for line in lines[:-1]))
    again = run_script(script, tmp_path, *small)
    assert again.returncode == 0
    assert again.stdout.count("random-0:") == 1  # nothing is done twice
    assert again.stdout.partition("**N")[2] == done.stdout.partition("**N")[2]


@pytest.mark.slow
def test_the_logs_table(tmp_path: Path) -> None:
    """Its report compares with the log's figures; here one map of it, fitted in a moment."""
    name = "ShuffleNet_1_16"
    [line] = [line for line in research_log.LINES if line.name == name]
    one = candidates.Candidate(line.name, line.family, line.options)
    goal = goals.log_goal(32, 0, bias=True)
    from linear_approximation import cell, fit_all

    (tmp_path / "work").mkdir()
    cells = pieces.Cells(tmp_path / "work" / "cells.jsonl")
    fit_all([(one, goal, "l-bfgs")], cells, 1000, 60)
    assert cells.get(cell((one, goal, "l-bfgs"), 1000)) is not None
    done = run_script("experiments/linear_approximation.py", tmp_path, "--work", "work", "--report")
    assert done.returncode == 0, done.stderr
    [row] = [row for row in done.stdout.splitlines() if row.startswith(f"| {name} |")]
    assert "| 96 | 0.0254 ± 0.0010 | 0.02" in row  # least squares: the log's figure must come out
