"""A publication counts at others: right behind `serve &`, with nobody else there, and while others ration it."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from p2pdns.admin.control import ControlClient
from p2pdns.dht.storage import NEW_KEYS_BURST
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from tests.live.front_process import wait_until
from tests.live.served import KEY, NETWORK, SECRET, WWW_ADDRESS, ZONE, Served, assert_refused, p2pdns

SEQ = 1_750_000_000_000_000
VALUE = b"\0\0\x80\0" + b"\0" * 8  # A zone without records.
ZONES_COUNT = int(NEW_KEYS_BURST) + 6  # A few more than a node takes at once.


def config_of(folder: Path, other: Served) -> dict[str, str]:
    """Return an environment whose configuration leads to a node, for daemons and for short-lived ones."""
    path = folder / "p2pdns.toml"
    bootstrap = other.status()["dht_address"]
    path.write_text(f'[dht]\nnetwork = "{NETWORK}"\nlisten = "127.0.0.1:0"\nbootstrap = ["{bootstrap}"]\n')
    return {"P2PDNS_CONFIG": str(path)}


def zone_files(folder: Path) -> list[Path]:
    """Write the zone and its key."""
    key, path = folder / "zone.key", folder / "published.zone"
    key.touch(0o600)
    key.write_bytes(SECRET.write(None))
    path.write_text(ZONE)
    return [key, path]


def test_what_is_published_right_behind_serve_is_kept_alive_by_it(tmp_path: Path) -> None:
    other = Served(tmp_path / "other", "--no-dns")
    extra = config_of(tmp_path, other)
    key, path = zone_files(tmp_path)
    daemon = Served(tmp_path / "state", is_ready=False, extra=extra)
    done = p2pdns("publish", "-k", key, path, "--state", daemon.state, "--json", extra=extra)
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["kept_alive_by"], facts["kept_here"]) == (0, "daemon", True), done.stderr
    assert "nobody puts this again" not in done.stderr
    assert daemon.ready().status()["reader"]["kept_alive"] == 1
    assert [daemon.end(), other.end()] == [0, 0]


def test_where_nobody_puts_it_again_that_is_said(tmp_path: Path) -> None:
    other = Served(tmp_path / "other", "--no-dns")
    extra = config_of(tmp_path, other)
    key, path = zone_files(tmp_path)
    # A daemon that was killed has left its files, and holds nothing.
    daemon = Served(tmp_path / "state", "--no-dns")
    daemon.end(signal.SIGKILL)
    done = p2pdns("publish", "-k", key, path, "--state", daemon.state, "--json", extra=extra)
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["kept_alive_by"], facts["kept_here"]) == (0, None, False), done.stderr
    assert "p2pdns: warning: nobody puts this again" in done.stderr
    assert other.end() == 0


def test_alone_a_zone_is_kept_here_and_every_verb_says_so_until_another_has_it(tmp_path: Path) -> None:
    daemon = Served(tmp_path / "state")
    done = daemon.publish(tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("kept here, at 0 other nodes, seq ")
    assert f"p2pdns: error: {KEY}: no other node is known to store the zone at\n" in done.stderr
    assert "--bootstrap ADDR:PORT" in done.stderr.splitlines()[-1]
    words = "only this machine has it: no other node is known"
    config = tmp_path / "dns.toml"
    config.write_text(f'[dns]\nlisten = ["127.0.0.1:{daemon.port}"]\n')
    state = ["--state", str(daemon.state)]

    def resolved() -> Any:
        return p2pdns("resolve", "-c", config, *state, f"www.{KEY}")

    done = resolved()
    assert WWW_ADDRESS in done.stdout
    assert f"p2pdns: warning: zone {KEY}: {words}\n" in done.stderr
    done = p2pdns("inspect", *state, KEY, "--json")
    assert json.loads(done.stdout)["trouble"] == words
    assert f"p2pdns: warning: {words}\n" in done.stderr
    assert words in p2pdns("resolve", "--trace", *state, f"www.{KEY}").stdout
    assert daemon.status()["warnings"] == [f"zone {KEY}: only 0 other nodes keep it, 20 are wanted"]
    other = Served(tmp_path / "other", "--no-dns", "--bootstrap", daemon.status()["dht_address"])
    # The daemon tries again by itself, soon after.
    wait_until(lambda: other.status()["items_held"] == 1, "a copy at the other")
    wait_until(lambda: "warning" not in resolved().stderr, "an answer without a warning")
    assert daemon.status()["warnings"] == [f"zone {KEY}: only 1 other node keeps it, 20 are wanted"]
    assert_refused(p2pdns("publish", "-k", tmp_path / "none.key", "none.zone", *state), '".*none.key": no such file')
    assert [daemon.end(), other.end()] == [0, 0]


def test_many_zones_at_once_are_all_stored_and_whoever_waits_for_his_turn_is_told(tmp_path: Path) -> None:
    other = Served(tmp_path / "other", "--no-dns")
    daemon = Served(tmp_path / "state", "--no-dns", "--bootstrap", other.status()["dht_address"])
    zones = [MutableItem.signed(SecretKey.generate(os.urandom(32)), SEQ + n, VALUE) for n in range(ZONES_COUNT)]
    told: list[dict[str, Any]] = []

    def published(item: MutableItem) -> int:
        # Without cas, so that nothing but the puts takes time.
        done = ControlClient(daemon.state).call("publish", on_progress=told.append, item=item.to_bytes().hex())
        return int(done["stored"])

    with ThreadPoolExecutor(ZONES_COUNT) as pool:
        assert list(pool.map(published, zones)) == [1] * ZONES_COUNT
    assert other.status()["items_held"] == ZONES_COUNT
    rationed = [stage for stage in told if stage["stage"] == "rationed"]
    # A store that is less than half full rations nobody before some hundred puts. On a busy machine a few are done
    # before the last ones begin.
    assert all(0 <= standing["done"] < standing["of"] <= ZONES_COUNT for standing in rationed)
    assert all(standing["seconds_left"] >= 0 for standing in rationed)
    assert daemon.status()["publications_under_way"] == 0
    assert [daemon.end(), other.end()] == [0, 0]
