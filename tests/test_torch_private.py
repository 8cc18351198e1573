"""torch's private names: each does what it is used for, and no other file uses one.

If a test fails after an update of torch, the test's name tells what torch has changed.
"""

from __future__ import annotations

import ast
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from seclcompress import torch_private as private

PACKAGE = Path(private.__file__).parent


def private_names(path: Path) -> list[str]:
    """Names with one leading underscore that a file uses but that are not its own."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            ("torch.", "torchvis")
        ):
            parts = [*str(node.module).split("."), *[alias.name for alias in node.names]]
            found += [ast.unparse(node) for part in parts if part.startswith("_")]
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            mine = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not mine and not node.attr.startswith("__"):
                found.append(ast.unparse(node))
    return found


#: Documented names of Python, a method that torch documents for subclasses, and one name of Optuna that
#: `workflows.studies` gives its reason for.
ALLOWED = {"os._exit", "batch._replace", "super()._apply", "frozen._trial_id"}


def test_private_names_stand_in_one_file() -> None:
    strange = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        for name in private_names(path)
        if path.name != "torch_private.py" and name not in ALLOWED
    }
    assert strange == set()


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d])
def test_convolutions_have_a_common_class(kind: type[nn.Module]) -> None:
    conv = kind(2, 2, 1)
    assert isinstance(conv, private.ConvNd)
    assert isinstance(conv, private.ConvTransposeNd) == (kind is nn.ConvTranspose2d)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_batch_norms_have_a_common_class(kind: type[nn.Module]) -> None:
    assert isinstance(kind(2), private.BatchNorm)


def test_own_parameters_are_all_names_of_the_module_alone() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False))
    module[0].second = module[0].weight
    assert private.own_parameters(module) == {}
    assert list(private.own_parameters(module[0])) == ["weight", "bias", "second"]
    assert private.own_parameters(module[0])["bias"] is None


def test_children_have_all_their_names() -> None:
    one = nn.ReLU()
    module = nn.Sequential(OrderedDict(a=one, b=one))
    assert list(private.children_by_name(module)) == ["a", "b"]


def test_shared_state_is_one() -> None:
    first, second = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    private.share_state(second, first)
    with torch.no_grad():
        first.weight.fill_(7)
        first.running_mean.fill_(3)
    assert torch.equal(second.weight, first.weight)
    assert torch.equal(second.running_mean, first.running_mean)


def test_hooks_of_every_kind_are_seen() -> None:
    def quiet(*args: object) -> None:
        return None

    for register, forward in (
        ("register_forward_hook", True),
        ("register_forward_pre_hook", True),
        ("register_full_backward_hook", False),
        ("register_full_backward_pre_hook", False),
    ):
        module = nn.ReLU()
        assert not private.has_hooks(module)
        handle = getattr(module, register)(quiet)
        assert private.has_hooks(module), register
        assert private.has_forward_hooks(module) == forward, register
        handle.remove()
        assert not private.has_hooks(module)


def test_a_subclass_that_computes_otherwise_is_seen() -> None:
    class Named(nn.Conv2d):
        pass

    class Own(nn.Conv2d):
        def _conv_forward(self, x: object, weight: object, bias: object) -> object:
            return x

    assert private.computes_as(Named(1, 1, 1), nn.Conv2d)
    assert not private.computes_as(Own(1, 1, 1), nn.Conv2d)
    assert torch.equal(Own(1, 1, 1)(torch.ones(1)), torch.ones(1)), "it is what a convolution runs"


def test_versions_lie_beside_a_state_dict() -> None:
    network = models.mnasnet0_5(weights=None)
    versions = private.module_versions(network.state_dict())
    assert versions[""]["version"] == 2
    plain = OrderedDict(network.state_dict().items())
    assert private.module_versions(plain) == {}
    private.set_module_versions(plain, versions)
    network.load_state_dict(plain)
    assert private.module_versions({"_metadata": 3}) == {}


def test_tensors_are_scaled_in_place() -> None:
    tensors = [torch.ones(2), torch.full((3,), 2.0)]
    private.scale_all(tensors, 0.5)
    assert [t.tolist() for t in tensors] == [[0.5, 0.5], [1, 1, 1]]


def test_a_dispatch_mode_sees_operators_with_names_and_packets() -> None:
    seen = []

    class Sees(private.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append((private.operator_name(func), private.overload_packet(func)))
            return func(*args, **(kwargs or {}))

    with Sees():
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert ("aten::mm", torch.ops.aten.mm) in seen


def test_tensors_in_containers() -> None:
    one, two = torch.ones(1), torch.ones(2)
    leaves = private.tree_leaves({"a": [one, (two, 3)]})
    assert leaves[0] is one
    assert leaves[1] is two
    assert leaves[2] == 3


def test_modes_tracers_and_transforms_are_seen() -> None:
    quiet = private.included_dispatch_keys().raw_repr()
    assert private.forward_mode_level() == -1
    assert not private.inside_a_transform()
    assert private.torch_function_modes() == 0
    with torch.autograd.forward_ad.dual_level():
        assert private.forward_mode_level() == 0
    seen: list[bool] = []

    def looks(x: torch.Tensor) -> torch.Tensor:
        seen.append(private.inside_a_transform())
        return x

    torch.func.grad(looks)(torch.tensor(1.0))
    assert seen == [True]
    with torch.overrides.TorchFunctionMode():
        assert private.torch_function_modes() == 1

    class Mode(private.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    with Mode():
        assert private.included_dispatch_keys().raw_repr() != quiet
    plain = private.dispatch_keys(torch.empty(0)).raw_repr()
    assert private.dispatch_keys(torch.empty(1)).raw_repr() == plain
    assert private.dispatch_keys(torch.empty(0).to_sparse()).raw_repr() != plain


def test_transforms_of_classification_are_told_from_others() -> None:
    weights = models.ResNet18_Weights.DEFAULT
    assert private.is_for_classification(weights.transforms())
    other = models.segmentation.FCN_ResNet50_Weights.DEFAULT
    assert not private.is_for_classification(other.transforms())


def test_a_twin_has_other_tensors_and_leaves_the_layer_alone() -> None:
    norm = nn.BatchNorm1d(3)
    before = norm.state_dict(keep_vars=True)
    twin = private.twin_of(norm, lambda tensor: torch.zeros(tensor.numel() + 1))
    assert [p.shape for p in twin.parameters()] == [(4,), (4,)]
    assert twin.running_mean.shape == (4,)
    twin.num_features = 4
    assert norm.num_features == 3
    assert all(norm.state_dict(keep_vars=True)[name] is value for name, value in before.items())
    assert private.twin_of(nn.Linear(2, 2, bias=False), torch.zeros_like).bias is None


def test_the_exporters_translations_are_read_once() -> None:
    """A second table is like the first, is another one, and no source is read for it."""
    from torch.onnx._internal.exporter import _registration

    source = _registration.onnxscript_apis
    before = source.get_torchlib_ops
    plain = _registration.ONNXRegistry.from_torchlib(20)
    with private.translations_read_once():
        first = _registration.ONNXRegistry.from_torchlib(20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inspect.getsource", lambda *_: pytest.fail("a source was read again"))
        with private.translations_read_once():
            second = _registration.ONNXRegistry.from_torchlib(20)
    assert source.get_torchlib_ops == before
    assert plain.functions.keys() == first.functions.keys() == second.functions.keys()
    assert first.functions is not second.functions
    for name, found in plain.functions.items():
        assert [one.onnx_function for one in second.functions[name]] == [
            one.onnx_function for one in found
        ]
