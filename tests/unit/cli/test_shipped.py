"""The files beside the modules: found in a checkout, in an installation, and shown by a path that can be opened."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import p2pdns
from p2pdns.cli import shipped, ui
from p2pdns.errors import ConfigError, ZoneFileError

ROOT = Path(__file__).resolve().parents[3]
DATA_FILES: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
    "data-files"
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its files as an installer lays them out; the path is that of the package."""
    prefix = tmp_path_factory.mktemp("prefix")
    package = prefix / "lib" / "python3" / "site-packages" / "p2pdns"
    shutil.copytree(Path(p2pdns.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder, patterns in DATA_FILES.items():
        (prefix / folder).mkdir(parents=True)
        for pattern in patterns:
            for path in ROOT.glob(pattern):
                shutil.copy(path, prefix / folder)
    return package


def test_every_pattern_of_the_package_data_finds_something() -> None:
    assert [pattern for patterns in DATA_FILES.values() for pattern in patterns if not list(ROOT.glob(pattern))] == []


@pytest.mark.parametrize("name", [shipped.ZONES, shipped.EXAMPLE_CONFIG, "zones/example.zone"])
def test_a_shipped_file_is_found_in_a_checkout_and_where_an_installer_puts_it(name: str, installed: Path) -> None:
    assert shipped.found(name) == ROOT / name
    there = shipped.found(name, installed)
    assert there is not None
    assert ROOT not in there.parents
    assert there.is_dir() or there.read_bytes() == (ROOT / name).read_bytes()


def test_a_folder_of_the_same_name_beside_the_package_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "site-packages" / "p2pdns").mkdir(parents=True)
    (tmp_path / "site-packages" / "zones").mkdir()
    assert shipped.found("zones", tmp_path / "site-packages" / "p2pdns") is None


def test_an_installed_program_has_its_zones_in_any_folder(installed: Path, tmp_path: Path) -> None:
    code = "import p2pdns; from p2pdns.cli import shipped; print(p2pdns.__file__, shipped.shown('zones'), sep='\\n')"
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join([str(installed.parent), *libraries]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    package, zones = map(Path, done.stdout.splitlines())
    assert package.parent == installed
    assert sorted(path.name for path in zones.iterdir()) == sorted(
        path.name for path in (ROOT / "zones").glob("*.zone")
    )


def test_a_hint_names_a_file_that_can_be_opened_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ui.error(ZoneFileError("no", path="a.zone"))
    ui.error(ConfigError("no"))
    for line, name in zip(
        capsys.readouterr().err.splitlines()[1::2], ("zones/example.zone", shipped.EXAMPLE_CONFIG), strict=True
    ):
        assert line.startswith(f"p2pdns: hint: {ROOT / name} shows ")
