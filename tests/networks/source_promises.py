"""The promises of every source of networks, as functions of a source, a name it knows, and a folder.

`test_sources.py` runs them over all registered sources, `test_docs.py` over CONTRIBUTING's example.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from living import lives
from torch import nn

from seclcompress import networks, resolve
from seclcompress.errors import (
    ArtefactError,
    NetworkError,
    SeclcompressError,
    UsageError,
    WeightsError,
)
from seclcompress.networks import NetworkSpec, Source, sources
from seclcompress.networks.tasks import Task, task_of
from seclcompress.trace import trace_network


@contextlib.contextmanager
def placed_beside(file: Path) -> Iterator[None]:
    """Context in which a file is registered as if it were in `seclcompress/networks/`."""
    registered, path = sources._registered, networks.__path__
    module = f"{networks.__name__}.{file.stem}"
    networks.__path__ = [*path, str(file.parent)]
    sources._registered = cache(registered.__wrapped__)
    try:
        yield
    finally:
        sources._registered, networks.__path__ = registered, path
        sys.modules.pop(module, None)
        if hasattr(networks, file.stem):
            delattr(networks, file.stem)


def trusted(spec: NetworkSpec) -> str | None:
    """The factory that a person would have to name; None if the source runs no foreign code."""
    return spec.name if sources.get(spec.source).runs_foreign_code else None


def built(spec: NetworkSpec, *, skeleton: bool = False) -> nn.Module:
    return networks.build(spec, factory_name=trusted(spec), skeleton=skeleton)


def its_names_are_its_own(source: Source, name: str, folder: Path) -> None:
    for known in {*source.names(), name}:
        assert [one.name for one in sources.registered() if one.knows(known)] == [source.name]
        assert all(one.refusal(known) is None for one in sources.registered())
        assert sources.that_knows(known) is source
    assert set(source.names()) <= set(networks.names())
    for strange in ("", " ", "no such network", f"./{name}", f"{name}/", f"{name}\n"):
        assert not source.knows(strange)


def its_spec_survives_a_file(source: Source, name: str, folder: Path) -> None:
    spec = networks.named_spec(name)
    assert (spec.source, spec.name) == (source.name, name)
    assert NetworkSpec.model_validate_json(spec.model_dump_json()) == spec
    assert resolve.locate(name).network == spec


def the_same_seed_gives_the_same_weights(source: Source, name: str, folder: Path) -> None:
    spec = networks.named_spec(name)
    random = torch.get_rng_state()
    first, second, other = (
        networks.build_untrained(spec, factory_name=trusted(spec), seed=seed).state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())
    assert {value.device.type for value in first.values()} == {"cpu"}


def a_skeleton_has_the_same_shapes(source: Source, name: str, folder: Path) -> None:
    spec = networks.named_spec(name)
    bare, full = built(spec, skeleton=True).state_dict(), built(spec).state_dict()
    assert list(bare) == list(full)
    for key, value in full.items():
        assert (bare[key].shape, bare[key].dtype) == (value.shape, value.dtype)


def it_runs_at_its_usual_size(source: Source, name: str, folder: Path) -> None:
    spec = networks.named_spec(name)
    size = networks.default_input_size(spec)
    assert resolve.locate(name).input_size == size
    trace = trace_network(built(spec, skeleton=True), size)
    assert trace.total_mult_adds > 0
    assert trace.unknown == {}


def it_has_as_many_classes_as_asked_for(source: Source, name: str, folder: Path) -> None:
    specs, refusals = [networks.named_spec(name)], []
    try:
        specs.append(networks.named_spec(name, 7))
        assert specs[-1].num_classes == 7
    except NetworkError as error:
        refusals.append(str(error))
    assert all("drop --num-classes" in words for words in refusals)
    for spec in specs:
        if type(source.task(spec)) is not Task:
            continue
        network = built(spec).eval()
        images = torch.rand(2, *networks.default_input_size(spec))
        with torch.no_grad():
            output = network(*task_of(network).arguments(images))
        assert output.shape == (2, spec.num_classes or output.shape[1])


def what_it_does_not_know_is_refused_in_words(source: Source, name: str, folder: Path) -> None:
    """A stranger's file may contain any names and options."""
    spec = networks.named_spec(name)
    for strange in ("no such network", "", "x" * 200, "../x", "os:nothing_there"):
        unknown = spec.model_copy(update={"name": strange})
        with pytest.raises(SeclcompressError):
            built(unknown, skeleton=True)
    for value in (True, -1, 2**16, 0.5, -6e4, "", "x" * 200):
        options = {**spec.options, "no_such_option": value}
        with pytest.raises(NetworkError):
            built(spec.model_copy(update={"options": options}), skeleton=True)
    many = {f"no_such_option_{i}".ljust(50, "x"): "y" * 200 for i in range(50)}
    with pytest.raises(NetworkError) as caught:
        built(spec.model_copy(update={"options": many}), skeleton=True)
    assert len(str(caught.value)) < 5000
    with pytest.raises(NetworkError):
        networks.named_spec(name, 10**9)


def foreign_code_runs_only_if_it_was_named(source: Source, name: str, folder: Path) -> None:
    if source.runs_foreign_code:
        for other in (None, "other:factory"):
            with pytest.raises(ArtefactError, match=f"--factory {name}"):
                networks.build(networks.named_spec(name), factory_name=other)


def weights_that_are_not_there_are_refused(source: Source, name: str, folder: Path) -> None:
    error = WeightsError if source.publishes_weights else UsageError
    with pytest.raises(error, match=name):
        resolve.locate(name, weights="no such weights").load()


def it_lives(source: Source, name: str, folder: Path) -> None:
    """A planned, rewritten, trained and saved network has the same output after loading."""
    spec = networks.named_spec(name)
    size = networks.default_input_size(spec)
    layers = built(spec, skeleton=True).modules()
    linear = not any(isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) for layer in layers)
    lives(spec, folder, size, size, linear=linear)


Promise = Callable[[Source, str, Path], None]
PROMISES: list[Promise] = [
    its_names_are_its_own,
    its_spec_survives_a_file,
    the_same_seed_gives_the_same_weights,
    a_skeleton_has_the_same_shapes,
    it_runs_at_its_usual_size,
    it_has_as_many_classes_as_asked_for,
    what_it_does_not_know_is_refused_in_words,
    foreign_code_runs_only_if_it_was_named,
    weights_that_are_not_there_are_refused,
    it_lives,
]
