"""What a running daemon says of its front, which is another process than the one that is asked."""

from __future__ import annotations

import json
from pathlib import Path

from tests.live.front_process import wait_until
from tests.live.served import Served, p2pdns


def test_status_shows_what_the_front_has_counted_to_a_person_and_as_json(tmp_path: Path) -> None:
    daemon = Served(tmp_path / "state")
    try:
        # The question that the daemon was waited for with was the miss.
        daemon.ask("localhost")

        def front() -> dict[str, int]:
            done = p2pdns("status", "--json", "--state", daemon.state)
            counters: dict[str, int] = json.loads(done.stdout)["counters"]["front"]
            return counters

        wait_until(lambda: front().get("cache-hit", 0) >= 1, "a hit")
        counters = front()
        assert counters["cache-miss"] >= 1
        assert counters["udp-sent"] >= 2
        assert counters["link-connected"] == 1
        lines = [line.split() for line in p2pdns("status", "--state", daemon.state).stdout.splitlines()]
        assert ["front"] in lines
        assert ["cache-hit", str(counters["cache-hit"])] in lines
    finally:
        assert daemon.end() == 0
