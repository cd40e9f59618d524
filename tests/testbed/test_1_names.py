"""All of zones/ is published, and every node's own resolver answers every name."""

from __future__ import annotations

import pytest

from p2pdns.cli import dnsclient
from p2pdns.demo.rows import problems
from p2pdns.items.keys import SecretKey
from tests.testbed.containers import daemons, everywhere
from tests.testbed.world import World, ask_questions
from tests.testbed.zones import of_demo_rows, of_zone_files, reply_of

pytestmark = pytest.mark.testbed
NOBODY = str(SecretKey.generate(b"\x07" * 32).zone_key)


def test_every_resolver_answers_every_published_name(overlay: World) -> None:
    with overlay.story.scenario("every name, everywhere") as story:
        keys = overlay.publisher_keys()
        story.row("zones/ is published", "every zone", f"{len(keys)} zones", True, keys)
        places = daemons()
        expected = of_zone_files(keys)
        overlay.tell_answers(f"{len(expected)} RRsets at {len(places)} resolvers", places, expected)
        known = keys | {"nobody": NOBODY}
        rows = of_demo_rows(known)
        replies = everywhere(places, lambda place: ask_questions(place, [question for _, question in rows]))
        wrong = [
            f"{place.place}: {row.what}: {', '.join(faults)}"
            for place, own in replies.items()
            for (row, _), reply in zip(rows, own, strict=True)
            if (faults := list(problems(row, known, reply_of(reply))))
        ]
        total = len(rows) * len(places)
        story.count("aliases, wildcards, NXDOMAIN, TC, case …", total - len(wrong), total, wrong)


def test_the_published_port_answers_on_loopback_over_both_transports(overlay: World) -> None:
    with overlay.story.scenario("the published port") as story:
        known = overlay.keys | {"nobody": NOBODY}
        wrong, rows = [], of_demo_rows(known)
        for row, (name, rtype, transport, size) in rows:
            server = ("127.0.0.1", overlay.port)
            reply = dnsclient.ask(name, rtype, server, transport=transport, udp_size_bytes=size)
            wrong += [f"{row.what}: {fault}" for fault in problems(row, known, reply)]
        story.count("questions from outside", len(rows) - len(wrong), len(rows), wrong)
