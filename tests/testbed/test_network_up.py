"""A machine whose network comes after us: the first name is answered when it is there, not at the next retry."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.testbed import engine
from p2pdns.admin.control import ControlClient
from tests.live.front_process import wait_until
from tests.testbed.namespaces import namespaces, plug_in, started, wire

pytestmark = pytest.mark.testbed
GUARD_S = 60.0
THERE, HERE = "10.94.0.1", "10.94.0.2"
PROGRAM = (sys.executable, "-m", "p2pdns")


@contextlib.contextmanager
def serving(namespace: str, state: Path, *words: str) -> Iterator[ControlClient]:
    flags = ("-c", os.devnull, "--network", "up", "--state", str(state))
    process = started(namespace, "-m", "p2pdns", "serve", *flags, *words)
    control = ControlClient(state)
    try:
        wait_until(control.is_running, "the daemon", GUARD_S)
        yield control
    finally:
        process.terminate()
        process.communicate(timeout=GUARD_S)


@pytest.mark.usefixtures("namespaces")
def test_a_name_asked_for_in_vain_is_answered_when_the_network_has_come(tmp_path: Path) -> None:
    zone, key, state = tmp_path / "a.zone", tmp_path / "a.key", tmp_path / "theirs"
    zone.write_text("www 60 A 192.0.2.7\n")
    engine.run([*PROGRAM, "keygen", "-o", str(key)])
    name = f"www.{engine.run([*PROGRAM, 'pubkey', str(key)]).strip()}"
    with namespaces("a", "b") as (ours, theirs), contextlib.ExitStack() as daemons:
        wire(theirs, THERE, ours)
        daemons.enter_context(serving(theirs, state, "--no-dns", "--dht", f"{THERE}:6881"))
        words = ("--dns", "127.0.0.1:5300", "--dht", "0.0.0.0:6881", "--upstream", "none")
        control = daemons.enter_context(serving(ours, tmp_path / "ours", *words, "--bootstrap", f"{THERE}:6881"))
        # It is alone there, keeps the zone itself, and tells so by its exit status.
        engine.run([*PROGRAM, "publish", "--state", str(state), "-k", str(key), str(zone)], check=False)
        dig = ("ip", "netns", "exec", ours, "dig", "@127.0.0.1", "-p", "5300", "+tries=1", "+time=5", name)
        assert "SERVFAIL" in engine.run(dig, check=False)
        # By now the next try of its own is seconds away.
        plug_in(ours, HERE)
        seconds = wait_until(lambda: "192.0.2.7" in engine.run(dig, check=False), name, GUARD_S)
        print(f"network up to the first answer: {1000 * seconds:.0f} ms")  # noqa: T201
        assert control.call("status")["status"]["contacts"] == 1
