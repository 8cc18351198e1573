"""Networks of searched cells: of DARTS_V2, of a genotype in a file, and of one in a saved folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Invoke
from torch import nn

from seclcompress import artefact, networks
from seclcompress.errors import NetworkError
from seclcompress.networks.darts_genotype import DARTS_V2, read_genotype

#: The first-order cells of DARTS, as its file of genotypes has them.
DARTS_V1 = """
Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)],
normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2),
('max_pool_3x3', 0), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2),
('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])
"""
EVERY_OPERATION = {
    "normal": [
        ["none", 0], ["skip_connect", 1], ["max_pool_3x3", 0], ["avg_pool_3x3", 2],
        ["sep_conv_3x3", 0], ["sep_conv_5x5", 1], ["sep_conv_7x7", 3], ["dil_conv_3x3", 4],
        ["dil_conv_5x5", 0], ["conv_7x1_1x7", 1],
    ],
    "normal_concat": [2, 4, 6],
}  # fmt: skip
EVERY_OPERATION |= {
    "reduce": EVERY_OPERATION["normal"],
    "reduce_concat": [5, 3],
}


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def of_file(file: Path, text: str, name: str = "darts_cifar") -> nn.Module:
    file.write_text(text)
    return networks.build(networks.named_spec(f"{name}@{file}"), skeleton=True)


def test_the_first_order_cells(tmp_path: Path) -> None:
    """The same genotype assigned to a name, with a range, and as JSON; a cell by hand."""
    written = [DARTS_V1, f"DARTS_V1 = {DARTS_V1.strip()}", f"genotypes.{DARTS_V1.strip()}"]
    written.append(DARTS_V1.replace("[2, 3, 4, 5]", "range(2, 6)"))
    found = {parameters(of_file(tmp_path / "v1.txt", text)) for text in written}
    fields = read_genotype(tmp_path / "v1.txt").model_dump_json()
    found.add(parameters(of_file(tmp_path / "v1.json", fields)))
    assert len(found) == 1
    normal = of_file(tmp_path / "v1.txt", DARTS_V1).get_submodule("cells.1")
    # 36 channels: two 1×1 preprocessings of 108 or 144 channels, five separable operations.
    separable = 2 * (9 * 36 + 36**2 + 2 * 36)
    assert parameters(normal) == 36 * (108 + 144) + 4 * 36 + 5 * separable


def test_darts_v2_in_a_file_is_the_default(tmp_path: Path) -> None:
    own = of_file(tmp_path / "v2.json", DARTS_V2.model_dump_json())
    default = networks.build(networks.named_spec("darts_cifar"), skeleton=True)
    assert str(own) == str(default)


def test_every_operation_runs(tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text(json.dumps(EVERY_OPERATION))
    spec = networks.named_spec(f"darts3_4_cifar@{tmp_path / 'all.json'}", 7)
    assert (spec.source, spec.name, spec.num_classes) == ("darts_cifar", "darts3_4_cifar", 7)
    network = networks.build_untrained(spec).train()
    output = network(torch.randn(2, 3, 32, 32))
    assert output.shape == (2, 7)
    output.sum().backward()
    assert network.classifier.in_features == 2 * 4 * 4  # two nodes of twice doubled channels


def test_a_cell_by_hand() -> None:
    """DARTS_V2's normal cell, node by node (Liu et al., figure 4)."""
    torch.manual_seed(0)
    network = networks.build(networks.named_spec("darts3_4_cifar")).eval()
    cell: Any = network.cells[0]
    x, y = torch.randn(2, 2, 12, 8, 8).unbind(0)
    # With three cells the first is none of the reductions, which are the second and the third.
    with torch.no_grad():
        s0, s1 = cell.preprocess0(x), cell.preprocess1(y)
        ops = cell._ops
        n2 = ops[0](s0) + ops[1](s1)
        n3 = ops[2](s0) + ops[3](s1)
        n4 = ops[4](s1) + s0
        n5 = s0 + ops[7](n2)
        torch.testing.assert_close(cell(x, y), torch.cat([n2, n3, n4, n5], 1))
        halves = network.cells[2].preprocess0
        z = torch.relu(torch.randn(1, 16, 8, 8))
        even, odd = halves.conv_1.weight, halves.conv_2.weight
        parts = [
            torch.einsum("oc,bchw->bohw", even[:, :, 0, 0], z[:, :, ::2, ::2]),
            torch.einsum("oc,bchw->bohw", odd[:, :, 0, 0], z[:, :, 1::2, 1::2]),
        ]
        torch.testing.assert_close(halves(z), halves.bn(torch.cat(parts, 1)))


def test_a_folder_holds_the_genotype(tmp_path: Path, invoke: Invoke) -> None:
    file = tmp_path / "all.json"
    file.write_text(json.dumps(EVERY_OPERATION))
    invoke("convert", f"darts3_8_cifar@{file}", "--depth", 1, "-o", "small")
    file.unlink()
    spec = artefact.read_config(Path("small")).network
    assert spec.name == "darts3_8_cifar"
    assert json.loads(spec.model_dump_json())["options"] == EVERY_OPERATION
    assert artefact.load("small")(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    assert "convolutions rewritten" in invoke("count", "small").stdout


def changed(**fields: Any) -> str:
    return json.dumps({**EVERY_OPERATION, **fields})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"is not one Genotype\(…\)"),
        ("{", "holds no genotype"),
        ("[]", r"is not one Genotype\(…\)"),
        ("Genotype([], [], [], [])", "are given by name"),
        ("Genotype(**{})", "are given by name"),
        ("Genotype(normal=1)", "normal"),
        ("Other(normal=1)", r"is not one Genotype\(…\)"),
        ("import os", r"is not one Genotype\(…\)"),
        ("Genotype(normal=open('gone', 'w'))", "holds no genotype"),
        ("Genotype(normal=__import__('os').mkdir('gone'))", "holds no genotype"),
        ("Genotype(normal_concat=range(2, 10**12))", "normal"),
        ("Genotype(normal_concat=range('a'))", "holds no genotype"),
        ("Genotype(normal=" + "[" * 5000 + "]" * 5000 + ")", "holds no genotype"),
        ("x" * 20_001, "more than 20,000 characters"),
        (changed(normal=[["sep_conv_3x3", 0]] * 3), "3 edges; every node has two"),
        (changed(normal=[["sep_conv_3x3", 2]] * 2), "node 2 sees only the states 0 to 1"),
        (changed(normal=[["sep_conv_3x3", -1]] * 2), "greater than or equal to 0"),
        (changed(normal=[["conv_9x9", 0]] * 2), "sep_conv_3x3"),
        (changed(normal=[["none", 0]] * 18), "at most 16"),
        (changed(reduce_concat=[1]), "some of the nodes 2 to 6"),
        (changed(reduce_concat=[2, 2]), "each once"),
        (changed(reduce_concat=[]), "reduce_concat"),
        (changed(more=1), "more"),
    ],
)
def test_what_is_no_genotype(text: str, words: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NetworkError, match=words):
        of_file(tmp_path / "cell.txt", text)
    assert not (tmp_path / "gone").exists()


def test_a_strangers_genotype_is_checked_too() -> None:
    spec = networks.named_spec("darts_cifar")
    odd = {**EVERY_OPERATION, "normal": [["sep_conv_3x3", 5]] * 2}
    for options in ({"normal": 1}, odd, {**EVERY_OPERATION, "path": "x"}):
        with pytest.raises(NetworkError, match="no genotype"):
            networks.build(networks.named_spec("darts_cifar", options=options))
    named = spec.model_copy(update={"name": "darts_cifar@/dev/zero"})
    with pytest.raises(NetworkError, match="There is no darts_cifar@/dev/zero among"):
        networks.build(named)


def test_files_that_are_none(tmp_path: Path, invoke: Invoke) -> None:
    assert "no such file with a genotype" in invoke("count", "darts_cifar@gone", code=1).stderr
    assert "no such file" in invoke("count", f"darts_cifar@{tmp_path}", code=1).stderr
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    invoke("count", f"darts_cifar@{tmp_path / 'bytes'}", code=1)
    invoke("count", "darts_cifar@/dev/zero", code=1)
    assert "Did you mean darts8_16_cifar" in invoke("count", "darts8_15_cifar", code=1).stderr
