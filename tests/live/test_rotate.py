"""Two real nodes: a zone moves to its next key, and what reveals that key outlives kill -9."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from tests.live.front_process import wait_until
from tests.live.served import SECRET, Served, p2pdns


def moved(daemon: Served) -> list[dict[str, Any]]:
    """Return what `zones` says of the zones that have moved."""
    found: list[dict[str, Any]] = daemon.control.call("zones")["moved"]
    return found


def test_the_values_of_a_rotated_key_are_kept_alive_over_kill_9(tmp_path: Path) -> None:
    other = Served(tmp_path / "other", "--no-dns")
    flags = ("--no-dns", "--bootstrap", other.status()["dht_address"])
    daemon = Served(tmp_path / "state", *flags)
    wait_until(lambda: daemon.status()["contacts"] > 0, "a contact")
    key, next_key, state = tmp_path / "zone.key", tmp_path / "next.key", ("--state", daemon.state)
    key.touch(0o600)
    key.write_bytes(SECRET.write(None))
    assert p2pdns("keygen", "--next", key, "-o", next_key).returncode == 0
    zone = tmp_path / "a.zone"
    zone.write_text("www 60 A 192.0.2.1\n")
    done = p2pdns("publish", "-k", key, zone, "--json", *state)
    assert json.loads(done.stdout)["committed"], done
    done = p2pdns("rotate", key, "--next", next_key, "--json", *state)
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["kept_alive"], [one["stored"] for one in facts["values"]]) == (0, True, [1, 1]), done
    [row] = moved(daemon)
    assert (row["key"], row["next"], row["trouble"]) == (facts["old"], facts["next"], None)
    assert [one["target"] for one in row["values"]] == [one["target"] for one in facts["values"]]
    daemon.end(signal.SIGKILL)
    # The other node is new, and has nothing: what is there afterwards comes from the daemon.
    assert other.end() == 0
    fresh = Served(tmp_path / "fresh", "--no-dns")
    daemon = Served(tmp_path / "state", "--no-dns", "--bootstrap", fresh.status()["dht_address"])
    targets = {one["target"] for one in facts["values"]}

    def held() -> set[str]:
        return {one["target"] for one in fresh.control.call("stored")["stored"]}

    wait_until(lambda: targets <= held(), "the values at a new node")
    wait_until(lambda: [one["stored"] for one in moved(daemon)[0]["values"]] == [1, 1], "the word of the daemon")
    assert [daemon.end(), fresh.end()] == [0, 0]
