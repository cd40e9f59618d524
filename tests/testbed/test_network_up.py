"""A machine whose network comes after us: the first name is answered when it is there, not at the next retry."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from deploy.testbed import engine
from tests.live.front_process import wait_until
from tests.live.served import KEY, WWW_ADDRESS, Served
from tests.testbed.namespaces import namespaces, plug_in, wire

pytestmark = pytest.mark.testbed
GUARD_S = 60.0
THERE, HERE = "10.94.0.1", "10.94.0.2"


@pytest.mark.usefixtures("namespaces")
def test_a_name_asked_for_in_vain_is_answered_when_the_network_has_come(tmp_path: Path) -> None:
    with namespaces("a", "b") as (here, there), contextlib.ExitStack() as daemons:
        wire(there, THERE, here)
        theirs = Served(tmp_path / "theirs", "--no-dns", "--dht", f"{THERE}:6881", namespace=there)
        daemons.callback(theirs.end)
        words = ("--dns", "127.0.0.1:5300", "--dht", "0.0.0.0:6881", "--bootstrap", f"{THERE}:6881")
        ours = Served(tmp_path / "ours", *words, namespace=here, is_ready=False)
        daemons.callback(ours.end)
        wait_until(ours.control.is_running, "the daemon", GUARD_S)
        theirs.publish_here(tmp_path)
        dig = ("ip", "netns", "exec", here, "dig", "@127.0.0.1", "-p", "5300", "+tries=1", "+time=5", f"www.{KEY}")
        assert "SERVFAIL" in engine.run(dig, check=False)
        # By now the next try of its own is seconds away.
        plug_in(here, HERE)
        seconds = wait_until(lambda: WWW_ADDRESS in engine.run(dig, check=False), "the answer", GUARD_S)
        print(f"network up to the first answer: {1000 * seconds:.0f} ms")  # noqa: T201
        assert ours.status()["contacts"] == 1
