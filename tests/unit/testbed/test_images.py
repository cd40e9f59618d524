"""deploy/images.sh: the base on which it builds, and no files left after a build, a failure or an interruption."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.house.rules import ROOT
from tests.unit.testbed import stand_ins

SECONDS_MAX = 60
OURS, PULLED = "p2pdns-base:bookworm", "python:3.12-slim"
# Notes its commands and knows the images in $HAS; a "slow" build tells that it has begun and waits for a word.
DOCKER = """
echo "$@" >>"$NOTES/told"
case "$*" in
info*) [ "$HAS" != "no engine" ] || { echo 'Cannot connect to the Docker daemon' >&2; exit 1; } ;;
'image inspect'*) case " $HAS " in *" $3 "*) ;; *) exit 1 ;; esac ;;
pull*) case " $HAS " in *' registry '*) ;; *) exit 1 ;; esac ;;
import*) cat >/dev/null ;;
run*) echo 3.11.2 ;;
build*)
    case " $HAS " in
    *' broken '*) echo 'no such package' >&2; exit 1 ;;
    *' slow '*) echo build >"$NOTES/up"; read -r word <"$NOTES/forever" ;;
    esac ;;
esac
"""

Images = Callable[[str, str], subprocess.Popen[str]]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Return a function that starts the script, beside an engine that only notes, with a base or none given."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "temporary").mkdir()
    stand_ins(tmp_path / "bin", docker=DOCKER, mmdebstrap="echo a whole system")

    def start(has: str, base: str) -> subprocess.Popen[str]:
        own = {"HAS": has, "NOTES": str(tmp_path), "TMPDIR": str(tmp_path / "temporary"), "BASE_IMAGE": base}
        environ = {**os.environ, **own, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        script = ROOT / "deploy" / "images.sh"
        return subprocess.Popen(script, env=environ, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True)

    return start


def told(tmp_path: Path, first: str) -> list[str]:
    return [line for line in (tmp_path / "told").read_text().splitlines() if line.startswith(first)]


@pytest.mark.parametrize(
    ("has", "given", "base", "is_made"),
    [
        (f"{OURS} {PULLED} registry", "debian:12", "debian:12", False),
        (f"{OURS} {PULLED} registry", "", OURS, False),
        (f"{PULLED}", "", PULLED, False),
        ("registry", "", PULLED, False),
        ("", "", OURS, True),
        ("", OURS, OURS, True),
    ],
)
def test_the_base_is_the_first_that_can_be_had(
    images: Images, tmp_path: Path, has: str, given: str, base: str, is_made: bool
) -> None:
    with images(has, given) as done:
        printed, said = done.communicate(timeout=SECONDS_MAX)
    assert (done.returncode, printed) == (0, f"{base}\n"), said
    builds = told(tmp_path, "build")
    assert [line.split("--target ")[1].split()[0] for line in builds] == ["node", "tools"]
    assert all(f"BASE_IMAGE={base} " in line for line in builds)
    assert bool(told(tmp_path, "import")) is is_made
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(("has", "code", "words"), [("broken", 1, "no such package"), ("no engine", 2, "no container")])
def test_a_build_that_cannot_be_says_why_and_leaves_nothing(
    images: Images, tmp_path: Path, has: str, code: int, words: str
) -> None:
    with images(has, "debian:12") as done:
        printed, said = done.communicate(timeout=SECONDS_MAX)
    assert (done.returncode, printed, words in said) == (code, "", True)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_interrupted_leaves_no_file(images: Images, tmp_path: Path, number: int) -> None:
    for name in ("up", "forever"):
        os.mkfifo(tmp_path / name)
    with images("slow", "debian:12") as process:
        assert (tmp_path / "up").read_text() == "build\n"
        assert len(list((tmp_path / "temporary").iterdir())) == 1
        # To the whole group, as a terminal sends it.
        os.killpg(process.pid, number)
        process.communicate(timeout=SECONDS_MAX)
    assert process.returncode != 0
    assert list((tmp_path / "temporary").iterdir()) == []
