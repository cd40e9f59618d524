"""The two sides are cut apart, each goes on, one publishes an update, and after healing all of them know it."""

from __future__ import annotations

import json
import time

import pytest

from deploy.testbed import Container, engine, sidecars
from tests.testbed.containers import BED, daemons, dht_of, one, wait_for_each
from tests.testbed.world import World, ask, holdings
from tests.testbed.zones import Expected, Signed

pytestmark = pytest.mark.testbed
NEWS_TTL = 30  # The least that a refresh waits for.
ONE_REFRESH_S_MAX = 150.0  # A refresh of 30 s after the half minute in which lost contacts are tried again.
REFUSED = "put refused: 302 "  # BEP 44: the sequence number is less than the current one.


def test_two_sides_live_apart_and_agree_afterwards(overlay: World) -> None:
    with overlay.story.scenario("partition") as story:
        unasked = overlay.sign("apart-1", "apart-2", "apart-3")
        (news,) = overlay.sign("news", ttl=NEWS_TTL)
        overlay.publish([*unasked, news])
        old = news.item
        west, east = daemons("west"), daemons("east")
        both = [*west, *east]
        overlay.tell_answers("everybody knows the old news", both, [news.expected])
        with BED.faults() as faults:
            faults.cut("west")
            _both_sides_answer(overlay, unasked, west, east)
            _one_side_learns(overlay, news, old.seq, west, east)
            (secret,) = overlay.sign("west-only")
            replies = overlay.publish([secret])
            stored = replies[0].get("stored", 0)
            story.row("west publishes a zone of its own", f"<= {len(west)} nodes", stored, 1 <= stored <= len(west))
            told = [ask(place, [secret.expected])[0] for place in east[:3]]
            said = {(reply["rcode"], *(error["code"] for error in reply["extended_errors"])) for reply in told}
            is_failure = all(rcode == "SERVFAIL" and codes for rcode, *codes in said)
            story.row("east asked for it", "SERVFAIL with EDE, not NXDOMAIN", sorted(said), is_failure)
        healed_at = time.monotonic()
        _stale_is_refused(overlay, news, old.to_bytes(), both)
        _wait_for_news(both, [news.expected, secret.expected])
        seconds = time.monotonic() - healed_at
        story.row("all know the news of both sides", "within a refresh", f"after {seconds:.0f} s", True)
        story.facts["healed_after_s"] = round(seconds, 1)
        _stale_is_refused(overlay, news, old.to_bytes(), both)
        overlay.tell_answers("and stay with it", both, [news.expected])
        story.facts["replicas_after_heal"] = {place.place: own.get(news.key) for place, own in holdings(both).items()}


def _wait_for_news(places: list[Container], expected: list[Expected]) -> float:
    """Wait until each of these resolvers has answered with the news; return after how many seconds all had."""

    def knows(place: Container) -> bool:
        return all(entry.is_met_by(reply) for entry, reply in zip(expected, ask(place, expected), strict=True))

    return wait_for_each(places, knows, "the news", ONE_REFRESH_S_MAX)


def _both_sides_answer(overlay: World, unasked: list[Signed], west: list[Container], east: list[Container]) -> None:
    """Ask both sides for names that nobody has looked up, and note who keeps which."""
    story = overlay.story
    sides = {"west": west, "east": east}
    overlay.tell_unasked("nodes that have looked them up before", [*west, *east], unasked)
    kept = holdings([*west, *east])
    replicas = {
        zone.name: {side: [place.place for place in own if zone.key in kept[place]] for side, own in sides.items()}
        for zone in unasked
    }
    counts = {name: [len(own) for own in by_side.values()] for name, by_side in replicas.items()}
    story.row("replicas, west and east", ">= 1 a side", counts, all(min(count) for count in counts.values()), replicas)
    story.facts["replicas_in_the_cut"] = replicas
    expected = [zone.expected for zone in unasked]
    for side, own in sides.items():
        overlay.tell_answers(f"{side} answers by its resolvers", own, expected)
        overlay.tell_answers(f"{side} answers who holds nothing", own, expected, directly=True)


def _one_side_learns(overlay: World, news: Signed, old_seq: int, west: list[Container], east: list[Container]) -> None:
    """Publish an update in the east; east serves it, west keeps what it has."""
    story = overlay.story
    before = news.expected
    news.update("198.51.100.200")
    (reply,) = overlay.publish([news], at=one("resolver"))
    stored = reply.get("stored", 0)
    story.row("east publishes an update", f"<= {len(east)} nodes", stored, 1 <= stored <= len(east), reply)
    seconds = _wait_for_news(east, [news.expected])
    story.row("all of the east serve it", "within a refresh", f"after {seconds:.0f} s", True)
    overlay.tell_answers("all of the west serve the old", west, [before])
    seqs = {place: own.get(news.key) for place, own in holdings([*west, *east]).items()}
    right = [*(seqs[place] == old_seq for place in west), *(seqs[place] == news.item.seq for place in east)]
    details = {place.place: seq for place, seq in seqs.items()}
    story.count("replicas: old in the west, new in the east", sum(right), len(right), details)


def _stale_is_refused(overlay: World, news: Signed, old: bytes, places: list[Container]) -> None:
    """Have the publisher put the old item again, at all nodes that keep the new one."""
    newer = [dht_of(place) for place, own in holdings(places).items() if own.get(news.key, 0) >= news.item.seq]
    network = f"container:{one('publisher').id}"
    words = sidecars.command("put", BED.project, network, "--rm", "--cap-add=NET_RAW", sidecars.TOOLS_IMAGE)
    flags = ("hostile", f"--item={old.hex()}", "--puts=1", "--gets=0", "--garbage=0")
    said = json.loads(engine.docker(*words, *flags, *newer))
    refused = [report for report in said if all(words.startswith(REFUSED) for words in report["said"])]
    title = f"stale put refused by {len(newer)} nodes that know better"
    overlay.story.count(title, len(refused), len(newer), said)
