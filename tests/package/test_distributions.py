"""The version, and what is in the distributions that are made of this repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
from importlib import metadata
from pathlib import Path

import pytest
from conftest import Invoke

import seclcompress

ROOT = Path(__file__).parents[2]
#: Builds with what is installed here, and downloads nothing.
OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index")


def run(*arguments: str | Path, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, arguments)),
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The repository's files without what was built in it, so that a build leaves nothing there."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "clone" / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path / "clone"


def test_there_is_one_version(invoke: Invoke) -> None:
    version = seclcompress.__version__
    assert metadata.version("seclcompress") == version
    assert invoke("--version").stdout.startswith(f"seclcompress {version}\n")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_workflow_runs_what_the_package_promises() -> None:
    promised = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    [pythons] = re.findall(r"python: \[(.*)\]", workflow)
    versions = re.findall(r'"(.*?)"', pythons)
    assert versions == re.findall(r'"Programming Language :: Python :: (3\.\d+)"', promised)
    assert f'requires-python = ">={versions[0]}"' in promised
    [built] = re.findall(r"^build = \[(.*)\]", promised, flags=re.MULTILINE)
    assert re.findall(r"cp3(\d+)-", built) == [version.partition(".")[2] for version in versions]
    for name in ("torch", "torchvision"):
        [oldest] = re.findall(rf"\b{name}==([\d.]+)\.\*", workflow)
        assert f'"{name}>={oldest}"' in promised
    assert "- run: .ci/run" in workflow


@pytest.mark.slow
def test_the_sdist_has_everything_to_test_and_measure_with(clone: Path, tmp_path: Path) -> None:
    pytest.importorskip("build")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, clone)
    [made] = tmp_path.glob("*.tar.gz")
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    listed = {str(path.relative_to(clone)) for path in clone.rglob("*") if path.is_file()}
    own = {name for name in listed if ".egg-info" not in name}
    assert own - names == set()
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no kernel for Windows")
def test_a_wheel_is_built_installed_and_its_kernel_runs(clone: Path, tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    pip = (sys.executable, "-m", "pip")
    required = {"SECLCOMPRESS_REQUIRE_KERNEL": "1"}
    run(*pip, "wheel", *OFFLINE, "--wheel-dir", tmp_path, clone, **required)
    [wheel] = tmp_path.glob("*.whl")
    assert re.fullmatch(
        rf"seclcompress-{re.escape(seclcompress.__version__)}-cp310-abi3-\w+\.whl", wheel.name
    )
    venv.create(tmp_path / "new", symlinks=True)
    python = tmp_path / "new" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    # Its dependencies are those of this Python, behind what is in the new environment.
    [own] = (tmp_path / "new").glob("lib/python*/site-packages")
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (own / "dependencies.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    said = run(python, ROOT / "tests" / "try_kernel.py")
    assert str(own) in said
    assert "fused kernel for" in said
    assert "agree" in said
    assert "resnet18" in run(tmp_path / "new" / "bin" / "seclcompress", "networks", "resnet18")
