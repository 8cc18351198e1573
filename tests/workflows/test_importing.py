"""Trained networks of the SECL authors' programs are taken over: the same outputs, or words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scipy.fft
import torch
from listening import Listening
from their_networks import theirs
from torch import Tensor

from seclcompress import artefact
from seclcompress.errors import ArtefactError, UsageError, WeightsError
from seclcompress.workflows import convert, import_secl


def saved(path: Path, state: dict[str, Any], **beside: Any) -> Path:
    torch.save({"net": state, "epoch": 200, "error_history": [9.1, 8.57], **beside}, path)
    return path


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize(
    ("name", "n", "width", "depth"),
    [("wrn10_1", 1, 1, 3), ("wrn16_2", 2, 2, 11), ("wrn10_3", 1, 3, 1)],
)
def test_it_computes_what_theirs_computes(
    tmp_path: Path, name: str, n: int, width: int, depth: int, extra: bool
) -> None:
    network = theirs(n, width, depth, extra)
    file = saved(tmp_path / "secl.t7", network.state_dict())
    listening = Listening()
    done = import_secl(name, file, tmp_path / "out", extra_riffle=extra or None, observer=listening)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():  # in float64, so that only a wrong formula differs
        expected, found = network.double()(x), artefact.load(tmp_path / "out").double()(x)
        other = theirs(n, width, depth, not extra).double()(x)
    assert float((found - expected).abs().max()) < 1e-9 * float(expected.abs().max())
    if depth * n * width > 1:
        assert float((other - expected).abs().max()) > 1e-3 * float(expected.abs().max())
    assumed = "does not tell whether its ACDC layers ran with a riffle between the transforms"
    assert any(assumed in line for line in listening.messages) == (not extra)
    assert done.count.columns["dense"].parameters == sum(p.numel() for p in network.parameters())
    assert len(done.plan.rewritten) == 6 * n
    assert {layer.config["order"] for layer in done.plan.rewritten} == {"transposed"}


def test_names_of_data_parallel_and_files_of_tensors_alone(tmp_path: Path) -> None:
    network = theirs()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    x = torch.randn(2, 3, 32, 32)
    for place, content in enumerate([{"net": state}, network.state_dict()]):
        # as torch wrote files in 2018, and today
        torch.save(content, tmp_path / "secl.pth", _use_new_zipfile_serialization=place == 1)
        import_secl("wrn10_1", tmp_path / "secl.pth", tmp_path / str(place), extra_riffle=False)
        with torch.no_grad():
            torch.testing.assert_close(artefact.load(tmp_path / str(place))(x), network(x))


def test_files_of_torch_before_batches_were_counted(tmp_path: Path) -> None:
    network = theirs()
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    import_secl("wrn10_1", saved(tmp_path / "secl.pth", state), tmp_path / "out")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(artefact.load(tmp_path / "out")(x), network(x))


def test_single_layers_have_no_permutation(tmp_path: Path) -> None:
    """ConvACDC: x C D C⁻¹ A, or with its riffle x C D P C⁻¹ A."""
    state = theirs(depth=1).state_dict()
    alone = {key.replace("pointwise.layers.0.", ""): value for key, value in state.items()}
    assert "block1.0.layer.0.conv1.A" in alone
    import_secl("wrn10_1", saved(tmp_path / "secl.pth", alone), tmp_path / "out")
    built = artefact.load(tmp_path / "out").group2[0].conv1
    assert built.pointwise.form.permutation == "none"
    c = torch.from_numpy(scipy.fft.dct(torch.eye(32).double().numpy(), norm="ortho"))
    a, d = (alone[f"block2.0.layer.0.conv1.{which}"][:, 0].double() for which in "AD")
    whole = c @ torch.diag(d) @ c.mT @ torch.diag(a)
    expected = (whole[:16] + whole[16:]).mT
    found = built.pointwise.make_weight().detach().double()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def _without(part: str) -> Callable[[dict[str, Tensor]], None]:
    def change(state: dict[str, Tensor]) -> None:
        for key in [key for key in state if part in key]:
            del state[key]

    return change


def _with(key: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.update({key: value})


FIRST = "block1.0.layer.0.conv1.pointwise.layers.1"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "wrn10_2",
            _with("x.weight", torch.ones(1)),
            "tensors that this program does not know: x.w",
        ),
        ("wrn10_2", _without("nothing"), "is of another network: its stack for group1.0.conv1 has"),
        (
            "wrn10_1",
            _without(f"{FIRST}.A"),
            "group1.0.conv1 needs one A and one D; there are A of 0",
        ),
        (
            "wrn10_1",
            _with(f"{FIRST}.A", torch.ones(15, 1)),
            "not of one length: [(15, 1), (16, 1)]",
        ),
        ("wrn10_1", _with(f"{FIRST}.A", torch.ones(4, 4)), "not of one length: [(4, 4), (16, 1)]"),
        ("wrn10_1", _with(f"{FIRST}.A", torch.full((16, 1), float("nan"))), "NaN or infinite"),
        (
            "wrn10_1",
            _without("bn2.weight"),
            "does not fit the network: missing group1.0.bn2.weight",
        ),
        ("wrn10_1", _with("conv1.bias", torch.ones(16)), "unexpected conv1.bias"),
        (
            "wrn10_1",
            _with("fc.weight", torch.ones(7, 64)),
            "fc.weight has shape 7×64 instead of 10×64",
        ),
        ("wrn16_1", _without("nothing"), "missing group1.1."),
        ("vgg11", _without("nothing"), "is of another network: vgg11 has no group1.0.conv1"),
    ],
)
def test_another_file_or_network_is_an_error_in_words(
    tmp_path: Path, name: str, change: Callable[[dict[str, Tensor]], None], words: str
) -> None:
    state = dict(theirs().state_dict())
    change(state)
    file = saved(tmp_path / "secl.pth", state)
    with pytest.raises(WeightsError) as raised:
        import_secl(name, file, tmp_path / "out")
    assert words in str(raised.value)
    assert str(file) in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_files_without_their_layers(tmp_path: Path) -> None:
    network = theirs()
    dense = {k: v for k, v in network.state_dict().items() if "layers" not in k}
    for state, words in (
        ({"fc.weight": torch.ones(2, 2)}, "no checkpoint of the SECL authors' wide residual"),
        ({}, "it has no tensors|holds a dict, not weights"),
        (dense, "has no ACDC layers, only dense convolutions"),
    ):
        with pytest.raises(WeightsError, match=words):
            import_secl("wrn10_1", saved(tmp_path / "secl.pth", state), tmp_path / "out")


def test_no_code_of_the_file_is_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (ran,))

    file = saved(tmp_path / "secl.pth", dict(theirs().state_dict()), extra=Hostile())
    with pytest.raises(WeightsError, match="could run code"):
        import_secl("wrn10_1", file, tmp_path / "out")
    assert not ran.exists()


def test_channels_that_are_no_multiple_are_refused(tmp_path: Path) -> None:
    """wrn10_1.5 maps 16 to 24 channels, which theirs and ours repeat in another way."""
    state = {}
    for key, value in theirs().state_dict().items():
        state[key] = value.new_ones(24, 1) if "block1.0.layer.0.conv1.point" in key else value
    only = {k: v for k, v in state.items() if "layers" not in k or "block1.0.layer.0.conv1" in k}
    file = saved(tmp_path / "secl.pth", only)
    with pytest.raises(
        WeightsError, match="group1.0.conv1 maps 16 to 24 channels. Theirs and ours"
    ):
        import_secl("wrn10_1.5", file, tmp_path / "out")


def test_a_taken_place_and_a_folder_as_network(tmp_path: Path) -> None:
    file = saved(tmp_path / "secl.pth", theirs().state_dict())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ArtefactError, match="out"):
        import_secl("wrn10_1", file, tmp_path / "out")
    convert("wrn10_1", tmp_path / "folder")
    with pytest.raises(UsageError, match="has weights already"):
        import_secl(tmp_path / "folder", file, tmp_path / "new")


def test_stacks_for_layers_that_would_not_shrink_are_taken_over(tmp_path: Path) -> None:
    """A stack may have more numbers than the 1×1 convolution that it replaces."""
    network = theirs(depth=2)
    state = dict(network.state_dict())
    del state["block2.0.layer.0.convShortcut.weight"]
    for place in range(11):
        for which in "AD":
            state[f"block2.0.layer.0.convShortcut.layers.{place}.{which}"] = torch.ones(32, 1)
    done = import_secl("wrn10_1", saved(tmp_path / "secl.pth", state), tmp_path / "out")
    (entry,) = [layer for layer in done.plan.layers if layer.name == "group2.0.shortcut"]
    assert (entry.action, entry.cost.parameters) == ("rewrite", 2 * 32 * 11)
    found = artefact.load(tmp_path / "out").group2[0].shortcut.pointwise.make_weight()
    assert found.shape == (32, 16)


def test_a_stack_in_the_stems_place_is_seen(tmp_path: Path) -> None:
    state = dict(theirs().state_dict())
    del state["conv1.weight"]
    state["conv1.grouped.weight"] = torch.randn(3, 1, 3, 3)
    for which in "AD":
        state[f"conv1.layers.0.{which}"] = torch.ones(16, 1)
    file = saved(tmp_path / "secl.pth", state)
    with pytest.raises(WeightsError, match="conv1 maps 3 to 16 channels"):
        import_secl("wrn10_1", file, tmp_path / "out")
