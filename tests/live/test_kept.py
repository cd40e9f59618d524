"""Two real nodes: a zone is kept alive and seen to be, over kill -9, and unpublished."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from tests.live.front_process import wait_until
from tests.live.served import KEY, SECRET, Served, p2pdns


def zones_of(daemon: Served) -> list[dict[str, Any]]:
    """Return what `zones` says."""
    found: list[dict[str, Any]] = daemon.control.call("zones")["zones"]
    return found


def measured(daemon: Served) -> bool:
    """Return whether the other node has shown the zone."""
    return [zone["copies"] for zone in zones_of(daemon)] == [1]


def test_a_copy_is_measured_at_a_real_node_and_again_after_kill_9(tmp_path: Path) -> None:
    other = Served(tmp_path / "other", "--no-dns")
    flags = ("--no-dns", "--bootstrap", other.status()["dht_address"])
    daemon = Served(tmp_path / "state", *flags)
    wait_until(lambda: daemon.status()["contacts"] > 0, "a contact")
    assert daemon.publish(tmp_path).returncode == 0
    # A look is the other node's signed word, where its acknowledgement of the put is a promise.
    wait_until(lambda: measured(daemon), "a signed reply of the other node")
    daemon.end(signal.SIGKILL)
    daemon = Served(tmp_path / "state", *flags)
    wait_until(lambda: measured(daemon), "a signed reply after the kill")
    [zone] = zones_of(daemon)
    assert (zone["key"], zone["kind"], zone["records"]) == (KEY, "own", 2)
    assert zone["last_put_s"] is not None
    assert [daemon.end(), other.end()] == [0, 0]


def test_holders_are_told_with_their_seq_and_an_unpublished_zone_is_kept_alive_no_longer(tmp_path: Path) -> None:
    other = Served(tmp_path / "other", "--no-dns")
    daemon = Served(tmp_path / "state", "--bootstrap", other.status()["dht_address"])
    wait_until(lambda: daemon.status()["contacts"] > 0, "a contact")
    assert daemon.publish(tmp_path).returncode == 0
    state = ("--state", daemon.state)
    done = p2pdns("resolve", f"www.{KEY}", "--holders", "--json", *state)
    facts = json.loads(done.stdout)
    [holder] = facts["holders"]
    assert (done.returncode, holder["seq"], holder["says"]) == (0, facts["newest_seq"], "signed"), done
    assert holder["rtt_ms"] >= 0
    key = tmp_path / "zone.key"
    key.touch(0o600)
    key.write_bytes(SECRET.write(None))
    done = p2pdns("unpublish", "-k", key, "--yes", "--json", *state)
    assert (done.returncode, json.loads(done.stdout)["kept_alive"]) == (0, False), done
    assert zones_of(daemon) == []
    reply = daemon.ask(f"www.{KEY}")
    assert reply.rcode() == 3
    # Its mark stays over a restart: the zone that was there before is older.
    daemon.end(signal.SIGKILL)
    daemon = Served(tmp_path / "state", "--bootstrap", other.status()["dht_address"])
    assert zones_of(daemon) == []
    assert daemon.control.call("seq", key=KEY)["seq"] == json.loads(done.stdout)["seq"]
    assert [daemon.end(), other.end()] == [0, 0]
