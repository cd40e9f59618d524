"""A machine whose network comes after us: the first name is answered when it is there, not at the next retry."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pdns.engine.control import ControlClient
from tests.testbed.namespaces import ip

pytestmark = pytest.mark.testbed
GUARD_S = 60.0
LOOK_AGAIN_S = 0.02
THERE, HERE = "10.94.0.1", "10.94.0.2"
_numbers = itertools.count()


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[str, str]]:
    """Make two namespaces with a wire between them, of which our end is down; take them away at the end."""
    prefix = f"p2pdns-up{os.getpid()}-{next(_numbers)}"
    ours, theirs = f"{prefix}-a", f"{prefix}-b"
    with contextlib.ExitStack() as undo:
        for name in (ours, theirs):
            ip("netns", "add", name)
            undo.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", theirs, "link", "add", "name", "wire", "type", "veth", "peer", "name", "wire", "netns", ours)
        ip("-n", theirs, "address", "add", f"{THERE}/24", "dev", "wire")
        ip("-n", theirs, "link", "set", "wire", "up")
        yield ours, theirs


@contextlib.contextmanager
def serving(namespace: str, state: Path, *words: str) -> Iterator[ControlClient]:
    """Run a daemon in a namespace."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "p2pdns", "serve", "--network", "up"]
    environ = {**os.environ, "P2PDNS_CONFIG": os.devnull}
    process = subprocess.Popen([*command, "--state", str(state), *words], env=environ, stderr=subprocess.DEVNULL)
    control = ControlClient(state)
    try:
        wait_until(control.is_running, "the daemon")
        yield control
    finally:
        process.terminate()
        process.wait(GUARD_S)


def wait_until(is_so: object, what: str) -> None:
    """Look again until something holds."""
    assert callable(is_so)
    end = time.monotonic() + GUARD_S
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(LOOK_AGAIN_S)


@pytest.mark.usefixtures("namespaces")
def test_a_name_asked_for_in_vain_is_answered_when_the_network_has_come(tmp_path: Path) -> None:
    zone, key = tmp_path / "a.zone", tmp_path / "a.key"
    zone.write_text("www 60 A 192.0.2.7\n")
    run = [sys.executable, "-m", "p2pdns"]
    subprocess.run([*run, "keygen", "-o", str(key)], check=True, capture_output=True)
    name = (
        "www." + subprocess.run([*run, "pubkey", str(key)], check=True, capture_output=True, text=True).stdout.strip()
    )
    with (
        two_machines() as (ours, theirs),
        serving(theirs, tmp_path / "theirs", "--no-dns", "--dht", f"{THERE}:6881"),
        serving(
            ours,
            tmp_path / "ours",
            *("--dns", "127.0.0.1:5300", "--dht", "0.0.0.0:6881", "--upstream", "none"),
            *("--bootstrap", f"{THERE}:6881"),
        ) as control,
    ):
        # Alone there, so it is kept there, which is told by its exit status.
        published = ["publish", "--state", str(tmp_path / "theirs"), "-k", str(key), str(zone)]
        subprocess.run([*run, *published], check=False, capture_output=True)
        dig = ["ip", "netns", "exec", ours, "dig", "@127.0.0.1", "-p", "5300", "+tries=1", "+time=5", name]
        assert "SERVFAIL" in subprocess.run(dig, check=False, capture_output=True, text=True).stdout
        # By now the next try of its own is seconds away.
        ip("-n", ours, "address", "add", f"{HERE}/24", "dev", "wire")
        ip("-n", ours, "link", "set", "wire", "up")
        began = time.monotonic()
        wait_until(lambda: "192.0.2.7" in subprocess.run(dig, check=False, capture_output=True, text=True).stdout, name)
        print(f"network up to the first answer: {1000 * (time.monotonic() - began):.0f} ms")  # noqa: T201
        assert control.call("status")["status"]["contacts"] == 1
