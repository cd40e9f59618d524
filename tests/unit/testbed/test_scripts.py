"""The scripts around the testbed, beside an engine that only notes.

deploy/images.sh: the base on which it builds, and no files left after a build, a failure or an interruption.
deploy/netem.sh: which devices are impaired, by a `tc` that only notes, for few kernels of those that run tests have
netem.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import pytest

from deploy.testbed.impair import Impairment
from deploy.testbed.sidecars import netem_words
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

LINKS = "2: eth0    inet 10.91.1.129/24 scope global eth0\n7: eth1    inet 10.91.2.2/24 scope global eth1\n"

Images = Callable[[str, str], subprocess.Popen[str]]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Return a function that starts the script, beside an engine that only notes, with a base or none given."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "temporary").mkdir()
    environ = stand_ins(tmp_path / "bin", docker=DOCKER, mmdebstrap="echo a whole system")

    def start(has: str, base: str) -> subprocess.Popen[str]:
        own = {"HAS": has, "NOTES": str(tmp_path), "TMPDIR": str(tmp_path / "temporary"), "BASE_IMAGE": base}
        script = ROOT / "deploy" / "images.sh"
        return subprocess.Popen(script, env=environ | own, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True)

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


@pytest.mark.parametrize(
    ("fails_at", "number", "code"), [("none", signal.SIGTERM, 0), ("none", signal.SIGINT, 0), ("add*eth1", 0, 1)]
)
def test_netem_is_on_every_device_until_a_signal_and_where_it_is_refused_taken_off_again_and_never_said_to_be_on(
    tmp_path: Path, fails_at: str, number: int, code: int
) -> None:
    tc = f'echo "$@" >> {tmp_path}/told\ncase "$*" in *{fails_at}*) exit 2 ;; esac'
    environ = stand_ins(tmp_path, ip=f"printf '{LINKS}'", tc=tc)
    words = netem_words(Impairment(delay_ms=100, jitter_ms=20, loss_percent=10))
    command = [str(ROOT / "deploy" / "netem.sh"), *words]
    with subprocess.Popen(command, env=environ, stdout=PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == ("" if code else '{"event": "up"}\n')
        if number:
            process.send_signal(number)
        # The pipe ends when no process holds it any more, so none can have been left behind.
        assert process.stdout.read() == ""
        process.wait(SECONDS_MAX)
    assert process.returncode == code
    added = [f"qdisc add dev {device} root netem delay 100ms 20ms loss 10%" for device in ("eth0", "eth1")]
    ended = [f"qdisc del dev {device} root" for device in ("eth0", "eth1")]
    assert (tmp_path / "told").read_text().splitlines() == [*added, *ended]
