"""`publish --watch` between real processes: saves as editors make them, a broken file, a hook, and the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.live.front_process import GUARD_S
from tests.live.served import KEY, Served, environment
from tests.live.test_publishing import zone_files
from tests.live.test_safe_publish import daemons

ZONE = "$TTL 300\nwww A {}\n* A 192.0.2.81\n"


@contextmanager
def watching(daemon: Served, key: Path, zone: Path, hook: str) -> Iterator[subprocess.Popen[str]]:
    """Run the watch; its events are lines of JSON on its standard output."""
    words = ["publish", "--watch", "--hook", hook, "--json", "-k", key, zone, "--state", daemon.state]
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pdns", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment({}),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=GUARD_S)


def event_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next event; the end of the process is none."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr and process.stderr.read()
    event: dict[str, Any] = json.loads(line)
    return event


def test_saves_are_published_a_broken_file_is_not_and_a_signal_ends_it_well(tmp_path: Path) -> None:
    key, zone = zone_files(tmp_path)
    zone.write_text(ZONE.format("192.0.2.80"))
    notes = tmp_path / "notes"
    with daemons(tmp_path, "state", "other") as (daemon, other):
        hook = f"sh -c 'echo $P2PDNS_SEQ $P2PDNS_ZONE >> {notes}; exit 3'"
        with watching(daemon, key, zone, hook) as process:
            first = event_of(process)
            assert (first["event"], first["stored"]) == ("published", 1)
            assert event_of(process) == {
                "event": "hook",
                "seq": first["seq"],
                "trouble": "the hook failed: exit status 3",
            }
            zone.write_text("www A\n")
            kept = event_of(process)
            assert kept["event"] == "kept"
            assert kept["error"].startswith(f"{zone}:1: ")
            # Several saves, each of which puts another file in the place of the old one.
            for number in range(90, 95):
                beside = zone.with_suffix(".new")
                beside.write_text(ZONE.format(f"192.0.2.{number}"))
                beside.replace(zone)
            second = event_of(process)
            assert (second["event"], second["changes"]["changed"]) == ("published", ["www A"])
            assert event_of(process)["event"] == "hook"
            assert other.address_of(f"www.{KEY}") == "192.0.2.94"
            process.send_signal(signal.SIGTERM)
            rest, said = process.communicate(timeout=GUARD_S)
            assert (process.returncode, rest) == (0, ""), said
            assert "Traceback" not in said
    assert notes.read_text() == "".join(f"{event['seq']} {KEY}\n" for event in (first, second))


def test_where_no_file_can_stand_beside_the_key_the_watch_knows_what_it_has_published(tmp_path: Path) -> None:
    key, zone = zone_files(tmp_path)
    zone.write_text(ZONE.format("192.0.2.80"))
    Path(f"{key}.published").mkdir()
    with daemons(tmp_path, "state", "other") as (daemon, _), watching(daemon, key, zone, "true") as process:
        assert event_of(process)["event"] == "published"
        assert event_of(process)["event"] == "hook"
        zone.write_text(ZONE.format("192.0.2.90"))
        assert event_of(process)["event"] == "published"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=GUARD_S)
        assert len([line for line in said.splitlines() if "will ask for --force" in line]) == 1
