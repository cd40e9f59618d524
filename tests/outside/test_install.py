"""What `build`, `pipx` and `uv` make of a checkout: a program that works in any folder, with all that belongs to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from p2pdns.cli.verbs import VERBS

pytestmark = pytest.mark.outside

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("build", "pipx", "uv")
SECONDS_MAX = 600  # A guard only: installers download the libraries.
SHIPPED = (
    "share/p2pdns/p2pdns.example.toml",
    "share/p2pdns/systemd/p2pdns.service",
    *(f"share/p2pdns/zones/{path.name}" for path in sorted((ROOT / "zones").glob("*.zone"))),
    "share/man/man1/p2pdns.1",
    *(f"share/man/man1/p2pdns-{verb}.1" for verb in VERBS),
)


def run(*words: str | Path, folder: Path, **environ: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its good end."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**os.environ, **{name: str(value) for name, value in environ.items()}, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build needs of the checkout: builders leave their own files beside it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("p2pdns", "zones", "deploy"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "report"))
    return folder


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs that build and install, in an environment of their own."""
    folder = tmp_path_factory.mktemp("tools")
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *TOOLS, folder=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tools: Path, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A source distribution, and the wheel that comes of it."""
    folder = tmp_path_factory.mktemp("dist")
    run(tools / "python", "-m", "build", "--outdir", folder, checkout, folder=folder)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


def assert_works(program: Path, folder: Path) -> None:
    """See that an installed program shows the demo in a folder that has nothing of a checkout."""
    empty = folder / "empty"
    empty.mkdir()
    done = run(program, "demo", "--once", folder=empty, HOME=empty, TMPDIR=empty)
    assert "every row is as expected" in done.stdout
    assert done.stderr.splitlines()[-1] == "p2pdns: stopped, nothing is left"
    assert list(empty.iterdir()) == []


def test_the_wheel_carries_all_that_belongs_to_the_program(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = {name.partition(".data/data/")[2] for name in wheel.namelist()}
    assert set(SHIPPED) <= names


def test_the_source_distribution_carries_it_too(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    kept = [*(ROOT / "zones").glob("*.zone"), *(ROOT / "deploy" / "man").glob("*.1")]
    kept += [ROOT / "deploy" / "p2pdns.example.toml", ROOT / "deploy" / "p2pdns.service"]
    assert {str(path.relative_to(ROOT)) for path in kept} <= names


def test_the_wheel_shows_the_demo_in_any_folder(built: dict[str, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", built["wheel"], folder=tmp_path)
    # The libraries are those of the tests: what is looked at is the package.
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    assert_works(tmp_path / "venv" / "bin" / "p2pdns", tmp_path)


def test_pipx_installs_a_program_that_shows_the_demo(tools: Path, checkout: Path, tmp_path: Path) -> None:
    places = {"PIPX_HOME": tmp_path / "home", "PIPX_BIN_DIR": tmp_path / "bin", "PIPX_MAN_DIR": tmp_path / "man"}
    run(tools / "pipx", "install", "--python", sys.executable, checkout, folder=tmp_path, **places)
    assert (tmp_path / "man" / "man1" / "p2pdns-publish.1").read_text().startswith('.\\"')
    assert_works(tmp_path / "bin" / "p2pdns", tmp_path)


def test_uv_installs_a_program_that_shows_the_demo(tools: Path, checkout: Path, tmp_path: Path) -> None:
    places = {
        "UV_TOOL_DIR": tmp_path / "tools",
        "UV_TOOL_BIN_DIR": tmp_path / "bin",
        "UV_CACHE_DIR": tmp_path / "cache",
    }
    run(tools / "uv", "tool", "install", "--python", sys.executable, checkout, folder=tmp_path, **places)
    assert_works(tmp_path / "bin" / "p2pdns", tmp_path)
