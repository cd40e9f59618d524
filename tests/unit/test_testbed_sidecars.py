"""The script that impairs by netem, with a `tc` that only notes: few kernels of those that run tests have netem."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from deploy.testbed.impair import Impairment
from deploy.testbed.sidecars import NETEM, netem_words

SECONDS_MAX = 30
LINKS = "2: eth0    inet 10.91.1.129/24 scope global eth0\n7: eth1    inet 10.91.2.2/24 scope global eth1\n"


def started(tmp_path: Path, *, fails_at: str = "none") -> subprocess.Popen[str]:
    """Start the script beside an `ip` that knows two devices and a `tc` that notes what it is told."""
    (tmp_path / "ip").write_text(f"#!/bin/sh\nprintf '{LINKS}'\n")
    (tmp_path / "tc").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/told\ncase "$*" in *{fails_at}*) exit 2 ;; esac\n'
    )
    for name in ("ip", "tc"):
        (tmp_path / name).chmod(0o755)
    words = netem_words(Impairment(delay_ms=100, jitter_ms=20, loss_percent=10))
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", "-c", NETEM, "sh", *words]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True)


def end_of(process: subprocess.Popen[str], tmp_path: Path) -> list[str]:
    """Wait for the end of the script and of all it has started; return what `tc` was told."""
    with process:
        assert process.stdout is not None
        # The pipe ends when nobody holds it any more, so that nothing can have been left behind.
        assert process.stdout.read() == ""
        process.wait(SECONDS_MAX)
    return (tmp_path / "told").read_text().splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_netem_is_on_every_device_until_a_signal_ends_it(tmp_path: Path, number: int) -> None:
    process = started(tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == '{"event": "up"}\n'
    process.send_signal(number)
    netem = "root netem delay 100ms 20ms loss 10%"
    assert end_of(process, tmp_path) == [
        f"qdisc add dev eth0 {netem}",
        f"qdisc add dev eth1 {netem}",
        "qdisc del dev eth0 root",
        "qdisc del dev eth1 root",
    ]
    assert process.returncode == 0


def test_netem_that_is_refused_is_taken_off_again_and_never_said_to_be_on(tmp_path: Path) -> None:
    process = started(tmp_path, fails_at="add*eth1")
    told = end_of(process, tmp_path)
    assert [line.split()[1:4] for line in told][-2:] == [["del", "dev", "eth0"], ["del", "dev", "eth1"]]
    assert process.returncode == 1
