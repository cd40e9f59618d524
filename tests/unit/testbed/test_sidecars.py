"""The script that impairs by netem, with a `tc` that only notes: few kernels of those that run tests have netem."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from deploy.testbed.impair import Impairment
from deploy.testbed.sidecars import NETEM, netem_words
from tests.unit.testbed import stand_ins

SECONDS_MAX = 30
LINKS = "2: eth0    inet 10.91.1.129/24 scope global eth0\n7: eth1    inet 10.91.2.2/24 scope global eth1\n"


@pytest.mark.parametrize(
    ("fails_at", "number", "code"), [("none", signal.SIGTERM, 0), ("none", signal.SIGINT, 0), ("add*eth1", 0, 1)]
)
def test_netem_is_on_every_device_until_a_signal_and_where_it_is_refused_taken_off_again_and_never_said_to_be_on(
    tmp_path: Path, fails_at: str, number: int, code: int
) -> None:
    tc = f'echo "$@" >> {tmp_path}/told\ncase "$*" in *{fails_at}*) exit 2 ;; esac'
    stand_ins(tmp_path, ip=f"printf '{LINKS}'", tc=tc)
    command = ["sh", "-c", NETEM, "sh", *netem_words(Impairment(delay_ms=100, jitter_ms=20, loss_percent=10))]
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
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
