"""Shared fixtures: a small network of every awkward convolution, and the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, Hub, running
from hypothesis import HealthCheck, Phase, settings
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from seclcompress.kernel import by_fft, by_native

# The machines are shared: a deadline would test their mood.
settings.register_profile(
    "seclcompress", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
# `.ci/run`: whether a change lands must not depend on what chance finds in older tests. `make test`
# has examples of its own each time.
settings.register_profile("ci", settings.get_profile("seclcompress"), derandomize=True)
# `make mutants`: the same examples for every mutant, and one that fails is enough.
settings.register_profile(
    "mutants",
    settings.get_profile("seclcompress"),
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("seclcompress")
# `make test` runs one process a core; more threads than cores would wait for each other.
torch.set_num_threads(1)
# Programs inherit signals that are ignored, as nohup and a shell's `&` make the tests ignore them.
for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)
# On a GPU machine, `SECLCOMPRESS_TEST_DEVICE=cuda` keeps the promises of layers to its GPU, too.
if device := os.environ.get("SECLCOMPRESS_TEST_DEVICE"):
    torch.set_default_device(device)
    torch.backends.cudnn.allow_tf32 = False  # the promises are kept to 1e-5


# The promises of replacements are plain modules that families' tests inherit from.
pytest.register_assert_rewrite("promises")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each promise of a replacement over the cases that its family's test names."""
    cases = getattr(metafunc.cls, "cases", None)
    if cases is not None and "options" in metafunc.fixturenames:
        from promises.costly import marked

        names = [",".join(f"{key}={value}" for key, value in case.items()) for case in cases]
        metafunc.parametrize(
            "options",
            marked(metafunc.function, cases),
            ids=[name or "defaults" for name in names],
        )


class Awkward(nn.Module):
    """Every kind of convolution that a plan has to say something about."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.Sequential(
            nn.Conv2d(16, 24, (3, 5), stride=(2, 1), padding=(1, 2), bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, 40, 3, padding="same", dilation=2, groups=4),
            nn.Conv2d(40, 40, 3, groups=40, padding=1, padding_mode="reflect"),
            nn.Conv2d(40, 88, 1, stride=2),
        )
        self.twice = nn.Conv2d(88, 88, 3, padding=1)
        self.unused = nn.Conv2d(88, 88, 3)
        self.fc = nn.Linear(88, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x).relu())
        x = self.twice(self.twice(x).relu())
        return self.fc(x.mean((2, 3)))


def awkward() -> nn.Module:
    """A factory for the command line: `conftest:awkward`."""
    return Awkward()


@pytest.fixture
def awkward_network() -> nn.Module:
    torch.manual_seed(0)
    return Awkward().eval()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings and fits that another run of the tests remembered would not be made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


Invoke = Callable[..., Result]


@pytest.fixture
def invoke(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Invoke:
    """Runs the command line in a folder of the test's own, 100 columns wide."""
    from seclcompress.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def run(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, (
            f"exit code {result.exit_code}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"
        )
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture(params=[*by_native.instruction_sets(), "fft"])
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test once with each instruction set of this machine, and with what GPUs run."""
    if request.param == "fft":
        monkeypatch.setattr(by_native, "has_fft_plan", lambda n: False)
        monkeypatch.setattr(by_fft, "SCRATCH_BYTES", 2**16)
    else:
        monkeypatch.setattr(by_native, "instruction_set", request.param)
    return str(request.param)


@pytest.fixture
def restore_threads() -> Iterator[None]:
    """Leaves torch as many threads as it had."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of the test's own (`hub_server`), with a cache of its own and no token."""
    constants = pytest.importorskip("huggingface_hub.constants")
    home = tmp_path_factory.mktemp("hub")
    with running() as (made, address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        yield made


@pytest.fixture
def logged_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token that the hub knows."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted network that no test may change."""
    from seclcompress import workflows

    folder = tmp_path_factory.mktemp("converted") / "small"
    workflows.convert("wrn10_1", folder, num_classes=10, input_size=(3, 16, 16))
    return folder
