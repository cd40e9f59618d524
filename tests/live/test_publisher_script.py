"""deploy/publisher.sh, as the publisher's container runs it: keys at the first start, publications that last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pdns.admin.control import ControlClient
from p2pdns.errors import Unavailable
from tests.live.front_process import wait_until
from tests.live.served import NETWORK, ROOT, Served, environment

SCRIPT = ROOT / "deploy" / "publisher.sh"
PUBLISHED_S_MAX = 60.0  # Some commands one after the other, on a machine that runs other tests.
ZONES = {"alice": "www A 192.0.2.1\nbob NS {zone:bob}.\n", "bob": "www A 192.0.2.2\n"}


class Script:
    """The running script: a daemon of its own, and the commands that publish through it."""

    def __init__(self, folder: Path, peer: str) -> None:
        self.state = folder / "state"
        self.log = folder / "log"
        # The commands of this checkout, under the names that they have in the image.
        programs = {"p2pdns": f'exec "{sys.executable}" -m p2pdns "$@"', "python": f'exec "{sys.executable}" "$@"'}
        (folder / "bin").mkdir(exist_ok=True)
        for name, line in programs.items():
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
            (folder / "bin" / name).chmod(0o755)
        extra = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "STATE_DIRECTORY": str(self.state),
            "ZONES": str(folder / "zones"),
        }
        words = ["--no-dns", "--network", NETWORK, "--dht", "127.0.0.1:0", "--upstream", "none", "--bootstrap", peer]
        with self.log.open("ab") as lines:
            self.process = subprocess.Popen(
                [SCRIPT, *words], stdin=subprocess.DEVNULL, stdout=lines, stderr=lines, env=environment(extra)
            )

    def key(self, name: str) -> bytes:
        """Return the key file of a zone."""
        return (self.state / "keys" / f"{name}.key").read_bytes()

    def is_done(self, names: set[str]) -> bool:
        """Return whether it has published these zones."""
        assert self.process.poll() is None, self.log.read_text()
        return names <= {path.name for path in (self.state / "published").glob("*") if path.read_text()}

    def kept_alive(self) -> int:
        """Return how many zones its daemon keeps alive; 0 while there is none."""
        try:
            return int(ControlClient(self.state).call("status")["status"]["reader"]["kept_alive"])
        except Unavailable:
            return 0

    def end(self) -> int:
        """Stop it as an engine stops a container, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PUBLISHED_S_MAX)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Served]:
    """Yield a node that keeps what is published."""
    node = Served(tmp_path / "holder", "--no-dns")
    yield node
    node.end()


def seqs(holder: Served) -> dict[str, int]:
    """Return the seq of each zone key that the node keeps."""
    return {entry["key"]: entry["seq"] for entry in holder.control.call("stored")["stored"]}


def test_zones_stay_published_under_their_keys_and_a_changed_file_is_published_again(
    tmp_path: Path, holder: Served
) -> None:
    zones = tmp_path / "zones"
    zones.mkdir()
    for name, text in ZONES.items():
        (zones / f"{name}.zone").write_text(text)
    peer = holder.status()["dht_address"]
    script = Script(tmp_path, peer)
    wait_until(lambda: script.is_done(set(ZONES)), "both zones", PUBLISHED_S_MAX)
    first, keys = seqs(holder), {name: script.key(name) for name in ZONES}
    assert len(first) == len(ZONES)
    assert script.end() == 0

    script = Script(tmp_path, peer)
    wait_until(lambda: script.kept_alive() == len(ZONES), "both zones kept alive", PUBLISHED_S_MAX)
    assert script.end() == 0
    assert {name: script.key(name) for name in ZONES} == keys
    assert seqs(holder) == first

    (zones / "bob.zone").write_text("www A 192.0.2.3\n")
    script = Script(tmp_path, peer)
    wait_until(lambda: seqs(holder) != first, "the changed zone", PUBLISHED_S_MAX)
    assert script.end() == 0
    assert {name: script.key(name) for name in ZONES} == keys
    assert sorted(seqs(holder)[key] > seq for key, seq in first.items()) == [False, True]
    assert all((tmp_path / "state" / "keys" / f"{name}.key").stat().st_mode & 0o077 == 0 for name in ZONES)
