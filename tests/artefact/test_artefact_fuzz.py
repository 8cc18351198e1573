"""A stranger's folder loads correctly or raises one of this package's errors, soon, in little memory.

Nothing in the folder makes the loader import or run code, read outside of the folder, or write files.
"""

from __future__ import annotations

import copy
import gc
import inspect
import json
import os
import random
import sys
import time
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory import grows_by_less_than
from strange_folders import copied
from torchvision import models

from seclcompress import artefact, resolve
from seclcompress.artefact import ArtefactConfig
from seclcompress.errors import ArtefactError, NetworkError, SeclcompressError
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.trace import trace_network

#: Seconds of processor time; the slowest takes one on a quick day of an EPYC, three on a slow one.
SECONDS, BYTES = 6, 2**30

_events: list[tuple[str, Any]] = []
_watching = False


def _note(event: str, arguments: Any) -> None:
    if not _watching or event == "sys._getframe":
        return
    # torch.manual_seed records its caller, for which Python reads source files.
    if event == "open" and sys._getframe(1).f_code.co_filename == tokenize.__file__:
        return
    _events.append((event, arguments))


sys.addaudithook(_note)  # a hook cannot be removed, so it is installed once


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = resolve.locate("wrn10_1")
    network, _ = source.load()
    trace = trace_network(network, source.input_size)
    plan = make_plan(network, trace, PlanOptions(config={"depth": 2}))
    rewrite_network(network, plan)
    folder = tmp_path_factory.mktemp("fuzz") / "net"
    about = ArtefactConfig(network=source.network, plan=plan, input_size=source.input_size)
    artefact.save(folder, network, about)
    artefact.load(folder)  # does all imports, so that later loads need none
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return copied(original, tmp_path)


@pytest.fixture(scope="module", autouse=True)
def little_memory() -> Iterator[None]:
    with grows_by_less_than(BYTES):
        yield


@pytest.fixture(scope="module", autouse=True)
def no_old_garbage() -> Iterator[None]:
    """Hides what earlier tests left from the collector: going through it took a second of the two."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def outcome(folder: Path) -> str:
    """Loads a folder; returns `loaded` or the name of the package's error that it raised."""
    global _watching
    before = {path: path.lstat().st_mtime_ns for path in (folder, *folder.iterdir())}
    modules = set(sys.modules)
    _events.clear()
    began = time.process_time()
    _watching = True
    try:
        network = artefact.load(folder)
        length, result = 0, "loaded"
    except SeclcompressError as error:
        length, result = len(str(error)), type(error).__name__
    finally:
        _watching = False
    assert time.process_time() - began < SECONDS
    assert length < 5000
    check_events(folder)
    assert set(sys.modules) == modules
    assert {path: path.lstat().st_mtime_ns for path in (folder, *folder.iterdir())} == before
    if result == "loaded":
        state = safetensors.torch.load_file(folder / "model.safetensors")
        found = network.state_dict()
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], value) for name, value in state.items())
    return result


FORBIDDEN = ("import", "exec", "compile", "subprocess", "socket", "pickle", "marshal", "urllib")
FORBIDDEN += ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename")
FORBIDDEN += ("os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod", "shutil")


def check_events(folder: Path) -> None:
    for event, arguments in _events:
        assert not event.startswith(FORBIDDEN), (event, arguments)
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            path, mode, _ = arguments
            assert Path(path).resolve().is_relative_to(folder.resolve()), arguments
            assert mode is None or not set(mode) & set("wax+"), arguments


def test_the_watch_sees_something(original: Path) -> None:
    assert outcome(original) == "loaded"
    assert "config.json" in str(_events)


STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 1024, 1025, 2**16, 2**31, 2**32, 2**63, 2**64, 10**30,
    -(2**63), 0.5, -0.0, 1e308, "", "x", "..", "../../etc/passwd", "/etc/passwd", "a/b", "\u0000",
    "\x1b[2J", "é", "😀", "os:system", "antigravity:fly", "this:d", "torch.hub", "factory",
    "torchvision", "wide_resnet", "wrn16_1", "wrn10_999", "wrn9994_999", "wrn1204_1", "resnet50",
    "vit_b_16", "inception_v3", "acdc", "separable", "keep", "rewrite", "dense", "fast", "paper",
    "measured", "9" * 400, "x" * 10_000, [], {}, [[]], [1] * 1000, {"a": {"b": 1}}, [None],
    {"depth": 1024}, {"depth": 10**9}, {"__class__": "os.system"}, {"image_size": 2**16},
    {"width_per_group": 2**16, "groups": 2**16}, {"progress": True}, {"weights": 1}, [2**20] * 3,
    [3, 10**9, 10**9], ["conv1"] * 5,
]  # fmt: skip


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values in a JSON value."""
    found = [path]
    if isinstance(content, dict | list):
        inside = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in inside:
            found += places(value, (*path, key))
    return found


def mutate(content: Any, dice: random.Random) -> Any:
    """Makes one random change in a JSON value."""
    content = copy.deepcopy(content)
    every = places(content)
    path = dice.choice(every[1:] if dice.random() < 0.5 else [p for p in every if 0 < len(p) < 4])
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    key, how = path[-1], dice.randrange(7)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[dice.choice(["", "strange", "..", "x" * 2000, "__init__"])] = holder.pop(key)
    elif how == 2 and isinstance(holder, list):
        holder.insert(dice.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    elif how == 3 and isinstance(holder[key], int):
        holder[key] = holder[key] * dice.choice([-1, 2, 10**6, 10**20]) + dice.choice([-1, 0, 1])
    elif how == 4 and isinstance(holder[key], str):
        place = dice.randrange(len(holder[key]) + 1)
        holder[key] = holder[key][:place] + dice.choice("x.,0/\\\x00é") + holder[key][place + 1 :]
    elif how == 5:
        value = content  # becomes a value from another place
        for step in dice.choice(every[1:]):
            value = value[step]
        holder[key] = copy.deepcopy(value)
    else:
        holder[key] = copy.deepcopy(dice.choice(STRANGE))
    return content


def damage(text: bytes, dice: random.Random) -> bytes:
    """Makes one random change in bytes."""
    how = dice.randrange(4)
    place = dice.randrange(len(text))
    if how == 0:
        return text[:place]
    if how == 1:
        return text[:place] + bytes([text[place] ^ (1 << dice.randrange(8))]) + text[place + 1 :]
    if how == 2:
        end = min(len(text), place + dice.randrange(1, 200))
        return text[:place] + text[end:]
    return text[:place] + dice.choice([b"\x00", b"\xff", b'"', b"{", b"[" * 500, b"1" * 5000])


def mutations(folder: Path, seed: int, count: int) -> Counter[str]:
    dice = random.Random(seed)
    path = folder / "config.json"
    whole = path.read_bytes()
    content = json.loads(whole)
    found: Counter[str] = Counter()
    for _ in range(count):
        if dice.random() < 0.3:
            path.write_bytes(damage(whole, dice))
        else:
            changed = content
            for _ in range(dice.choice([1, 1, 1, 2, 5])):
                changed = mutate(changed, dice)
            path.write_text(json.dumps(changed))
        try:
            found[outcome(folder)] += 1
        except BaseException:
            print(path.read_text(errors="replace")[:20_000])
            raise
    return found


def test_hundreds_of_mutated_configurations(folder: Path) -> None:
    found = mutations(folder, seed=0, count=400)
    assert found["ArtefactError"] > 200
    assert found["loaded"] > 10


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=pytest.mark.slow if seed == 1 else pytest.mark.exhaustive)
        for seed in range(1, 6)
    ],
)
def test_thousands_of_mutated_configurations(folder: Path, seed: int) -> None:
    assert mutations(folder, seed, count=1000).total() == 1000


def with_values(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for dotted, value in changes.items():
            holder, keys = content, dotted.split("__")
            for key in keys[:-1]:
                holder = holder[int(key) if key.isdigit() else key]
            holder[keys[-1]] = value

    return change


HUGE = "torchvision"


@pytest.mark.parametrize(
    "change",
    [
        with_values(network__name="wrn9994_999"),
        with_values(network__name="wrn1204_999", plan=None),
        with_values(network__num_classes=10_000_000, plan=None),
        with_values(
            network={"source": HUGE, "name": "vgg19", "num_classes": 10_000_000}, plan=None
        ),
        with_values(
            network={
                "source": HUGE,
                "name": "resnet152",
                "options": {"width_per_group": 65536, "groups": 65536},
            },
            plan=None,
        ),
        with_values(
            network={"source": HUGE, "name": "vit_h_14", "options": {"image_size": 65520}},
            plan=None,
        ),
        with_values(network={"source": HUGE, "name": "vit_h_14", "options": {"image_size": 10**9}}),
        with_values(network={"source": HUGE, "name": "resnet50", "options": {"norm_layer": 1}}),
        with_values(network={"source": HUGE, "name": "resnet50", "options": {"norm_layer": "x"}}),
        with_values(
            network={"source": HUGE, "name": "mobilenet_v2", "options": {"width_mult": 1e-300}},
            plan=None,
        ),
        with_values(
            network={"source": HUGE, "name": "mobilenet_v2", "options": {"width_mult": 1e4}},
            plan=None,
        ),
        with_values(
            network={"source": HUGE, "name": "vit_h_14", "options": {"image_size": "224"}},
            plan=None,
        ),
        with_values(
            network={
                "source": HUGE,
                "name": "resnet18",
                "options": {f"x{i}": "y" * 200 for i in range(50)},
            },
            plan=None,
        ),
        with_values(
            network={
                "source": HUGE,
                "name": "resnet18",
                "options": {f"x{i}": "y" * 2000 for i in range(1000)},
            }
        ),
        with_values(plan__layers__1__config={"depth": 1024, "init": "paper"}),
        with_values(training={"x": [[[[[[[[[]]]]]]]]]}, metrics={"a": 1e308}),
        with_values(metrics={str(i): "x" for i in range(200_000)}),
        with_values(classes=[1] * 250_000),
        with_values(plan__layers=[1] * 250_000),
        with_values(**{f"strange{i}": 1 for i in range(200_000)}),
        with_values(training={"x": list(range(10**6))}),
        with_values(training={"x": "y" * 5_000_000}),
        with_values(versions={"seclcompress": "x" * 3_000_000}, strange=1),
        with_values(plan__layers__0__name="x" * 3_000_000),
        with_values(plan__layers__0__reason="\x1b]0;owned\x07"),
    ],
)
def test_much_ado(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))
    outcome(folder)


@pytest.mark.parametrize("value", [True, 1, "DEFAULT", "ResNet50_Weights.IMAGENET1K_V1"])
@pytest.mark.parametrize("option", ["weights", "weights_backbone", "pretrained_backbone"])
def test_no_folder_makes_torchvision_fetch_weights(
    folder: Path, option: str, value: bool | int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*arguments: object, **options: object) -> None:
        raise AssertionError("it asked for weights")

    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", fetch)
    content = json.loads((folder / "config.json").read_text())
    content["network"] = {
        "source": HUGE,
        "name": "fcn_resnet50",
        "num_classes": None,
        "options": {option: value},
    }
    (folder / "config.json").write_text(json.dumps({**content, "plan": None}))
    with pytest.raises(NetworkError, match=f"with {option}: weights are named with --weights"):
        artefact.load(folder)


def foldered(folder: Path, name: str, options: dict[str, Any]) -> None:
    content = json.loads((folder / "config.json").read_text())
    spec = {"source": HUGE, "name": name, "num_classes": None, "options": options}
    (folder / "config.json").write_text(json.dumps({**content, "network": spec, "plan": None}))


#: Every argument of any of torchvision's builders that has to do with weights, files or callables.
REACHING = sorted(
    {
        argument
        for name in models.list_models()
        for argument in inspect.signature(models.get_model_builder(name)).parameters
        if argument.startswith(("weights", "pretrained")) or argument in ("progress", "norm_layer")
    }
)


@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet50_fpn", "ssd300_vgg16", "raft_small", "alexnet"]
)
@pytest.mark.parametrize("option", [*REACHING, "backbone", "block", "url", "kwargs"])
def test_no_option_of_a_file_reaches_weights_or_code(folder: Path, name: str, option: str) -> None:
    for value in (True, 1, "DEFAULT", None, ["torch.hub"]):
        foldered(folder, name, {option: value})
        assert outcome(folder) == "NetworkError"


def test_weights_are_among_the_arguments_that_are_looked_at() -> None:
    assert {"weights", "weights_backbone", "progress"} <= set(REACHING)


@pytest.mark.parametrize("every", [pytest.param(True, marks=pytest.mark.slow), False])
def test_no_network_opens_sockets_or_writes(folder: Path, every: bool) -> None:
    """The folder's weights do not fit; everything up to that is done for each network."""
    names = models.list_models() if every else ["ssdlite320_mobilenet_v3_large", "fcn_resnet50"]
    for name in names:
        if name.startswith("quantized"):
            continue
        foldered(folder, name, {})
        global _watching
        _events.clear()
        _watching = True
        try:
            with pytest.raises(ArtefactError, match="does not belong to"):
                artefact.load(folder)
        finally:
            _watching = False
        forbidden = [
            event for event, _ in _events if event.startswith(("socket", "urllib", "os.mk"))
        ]
        written = [a for e, a in _events if e == "open" and set(str(a[1])) & set("wax+")]
        assert (forbidden, written) == ([], [])


def test_a_wide_network_with_a_deep_plan(folder: Path) -> None:
    """Width and depth are at their limits: with values, the factors would take gigabytes."""
    source = resolve.locate("wrn10_500")
    network = source.skeleton()
    options = PlanOptions(config={"depth": 1024, "init": "paper"})
    plan = make_plan(network, trace_network(network, source.input_size), options)
    about = ArtefactConfig(network=source.network, plan=plan, input_size=source.input_size)
    (folder / "config.json").write_text(about.to_json())
    assert outcome(folder) == "ArtefactError"


def test_a_configuration_that_is_nested_deeply(folder: Path) -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, '{"training":' + "[" * 500 + "]" * 500 + "}"):
        (folder / "config.json").write_text(text)
        assert outcome(folder) == "ArtefactError"


@st.composite
def flips(draw: st.DrawFn) -> list[tuple[int, int]]:
    place = st.integers(0, 8) | st.integers(0, 6000) | st.integers(0, 200_000)
    return draw(st.lists(st.tuples(place, st.integers(1, 255)), min_size=1, max_size=4))


@given(changes=flips(), cut=st.none() | st.integers(0, 200_000))
def test_damaged_weights(original: Path, changes: list[tuple[int, int]], cut: int | None) -> None:
    content = bytearray((original / "model.safetensors").read_bytes())
    for place, mask in changes:
        content[place % len(content)] ^= mask
    with changed_weights(original, bytes(content if cut is None else content[:cut])):
        assert outcome(original) in {"loaded", "ArtefactError"}


class changed_weights:  # noqa: N801  (used like a function)
    """A context manager that replaces the weights in a folder."""

    def __init__(self, folder: Path, content: bytes) -> None:
        self.path, self.content = folder / "model.safetensors", content
        self.before = self.path.read_bytes()

    def __enter__(self) -> None:
        self.path.write_bytes(self.content)

    def __exit__(self, *about: object) -> None:
        self.path.write_bytes(self.before)


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int64]
DTYPES += [torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2]
NAMES = [
    "conv1.weight",
    "group1.0.bn1.num_batches_tracked",
    "group2.0.conv1.pointwise.a",
    "fc.bias",
]


@given(
    name=st.sampled_from([*NAMES, "strange", "../fc.bias", "", "__class__"]),
    shape=st.none() | st.lists(st.integers(0, 70), max_size=4),
    dtype=st.none() | st.sampled_from(DTYPES),
    dropped=st.none() | st.sampled_from(NAMES),
    everything=st.booleans(),
)
def test_other_tensors(
    original: Path,
    name: str,
    shape: list[int] | None,
    dtype: torch.dtype | None,
    dropped: str | None,
    everything: bool,
) -> None:
    state = safetensors.torch.load_file(original / "model.safetensors")
    same = name in state and shape is None and dropped is None
    old = state.get(name, torch.zeros(3))
    new = torch.zeros(shape) if shape is not None and torch.Size(shape).numel() < 1e6 else old
    state[name] = new.to(dtype or new.dtype)
    state.pop(dropped or "", None)
    if everything and dtype is not None:
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    with changed_weights(original, safetensors.torch.save(state)):
        result = outcome(original)
    assert result in {"loaded", "ArtefactError"}
    if same and dtype is None:
        assert result == "loaded"


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def header(**tensors: Any) -> bytes:
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (2**63).to_bytes(8, "little"),
        (5 * 2**20).to_bytes(8, "little") + b" " * 5 * 2**20,
        header() + b"x",
        header(a={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}),
        header(a={"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}),
        header(a={"dtype": "F4", "shape": [1], "data_offsets": [0, 1]}) + b"x",
        header(a={"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}) + b"x",
        header(a={"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}) + b"x",
        header(a={"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}) + b"xyz",
        header(a={"dtype": "U16", "shape": [1], "data_offsets": [0, 2]}) + b"xy",
        header(a={"dtype": "X", "shape": [1], "data_offsets": [0, 2]}) + b"xy",
        header(**dict.fromkeys(map(str, range(30_000)), EMPTY)),
        header(__metadata__={"a": "b" * 10**6}),
    ],
)  # fmt: skip
def test_strange_headers(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    assert outcome(folder) == "ArtefactError"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_out_of_the_folder(folder: Path, name: str) -> None:
    outside = folder.parent / "secret"
    (folder / name).rename(outside)
    for target in (str(outside), "../secret"):
        (folder / name).symlink_to(target)
        with pytest.raises(ArtefactError, match="outside the folder: refused"):
            artefact.load(folder)
        (folder / name).unlink()
    (folder / "inside").write_bytes(outside.read_bytes())
    (folder / name).symlink_to("inside")
    assert outcome(folder) == "loaded"
    (folder / name).unlink()
    for target in (name, "nowhere", "/dev/zero", "/proc/self/mem"):
        (folder / name).symlink_to(target)
        with pytest.raises(ArtefactError):
            artefact.load(folder)
        (folder / name).unlink()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folders_and_pipes_in_place_of_files(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ArtefactError):
        artefact.load(folder)
    (folder / name).rmdir()
    os.mkfifo(folder / name)
    with pytest.raises(ArtefactError):
        artefact.load(folder)


def test_other_schema_versions(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    for version in (0, 1, 2, 3, -1, 10**30, "1", 1.5, None, [], True):
        for place in (content, content["plan"]):
            mine = place["schema_version"]
            if version == mine and version is not True:
                continue
            place["schema_version"] = version
            (folder / "config.json").write_text(json.dumps(content))
            place["schema_version"] = mine
            accepted = version is True  # readers of JSON accept `true` as the number 1
            assert outcome(folder) in (
                {"loaded", "ArtefactError"} if accepted else {"ArtefactError"}
            )


def test_a_factory_in_a_file_is_not_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "evil_factory.py").write_text("raise SystemExit('imported')")
    (folder / "evil_factory.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.chdir(folder)
    content = json.loads((folder / "config.json").read_text())
    content["network"] = {"source": "factory", "name": "evil_factory:net"}
    (folder / "config.json").write_text(json.dumps(content))
    assert outcome(folder) == "ArtefactError"
    assert "evil_factory" not in sys.modules
