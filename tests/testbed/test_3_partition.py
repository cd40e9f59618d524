"""The two sides are cut apart, each lives on, one learns something new, and after healing all of them know it."""

from __future__ import annotations

import time

import pytest

from deploy.testbed import Testbed
from tests.testbed.containers import Container, control, daemons, everywhere, inside, one, wait_until
from tests.testbed.world import World, ask, ask_directly_everywhere, ask_everywhere, holdings
from tests.testbed.zones import Signed

pytestmark = pytest.mark.testbed
NEWS_TTL = 30  # The least that a refresh waits for, so that nobody has to.
ONE_REFRESH_SECONDS_MAX = 150.0  # A refresh of 30 s after the half minute in which lost contacts are tried again.
SEQ_TOO_LOW = "302"


def test_two_sides_live_apart_and_agree_afterwards(overlay: World) -> None:
    story = overlay.story
    with story.scenario("partition"):
        unasked = overlay.sign("apart-1", "apart-2", "apart-3")
        (news,) = overlay.sign("news", ttl=NEWS_TTL)
        overlay.publish([*unasked, news])
        old = news.item
        west, east = daemons("west"), daemons("east")
        tally = ask_everywhere([*west, *east], [news.expected])
        story.count("everybody knows the old news", tally.right, tally.total, tally.wrong)
        with Testbed.find().faults() as faults:
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
        _stale_is_refused(overlay, old.to_bytes().hex(), [*west, *east])
        waiting = {*west, *east}

        def all_know() -> bool:
            expected = [news.expected, secret.expected]
            answers = everywhere(sorted(waiting, key=str), lambda place: ask(place, expected))
            waiting.difference_update(
                place
                for place, own in answers.items()
                if all(entry.is_met_by(reply) for entry, reply in zip(expected, own, strict=True))
            )
            return not waiting

        wait_until(all_know, "the news everywhere", ONE_REFRESH_SECONDS_MAX)
        seconds = time.monotonic() - healed_at
        story.row("all know the news of both sides", "within a refresh", f"after {seconds:.0f} s", True)
        story.facts["healed_after_s"] = round(seconds, 1)
        _stale_is_refused(overlay, old.to_bytes().hex(), [*west, *east])
        tally = ask_everywhere([*west, *east], [news.expected])
        story.count("and stay with it", tally.right, tally.total, tally.wrong)
        seqs = holdings([*west, *east])
        story.facts["replicas_after_heal"] = {place: kept.get(news.key) for place, kept in seqs.items()}


def _both_sides_answer(overlay: World, unasked: list[Signed], west: list[Container], east: list[Container]) -> None:
    """Ask both sides for names that nobody has looked up, and note who keeps which."""
    story = overlay.story
    expected = [zone.expected for zone in unasked]
    places = [*west, *east]
    asked = everywhere(places, lambda c: {entry["key"] for entry in control(c, "lookups")["lookups"]})
    known = [f"{place}: {zone.name}" for place, keys in asked.items() for zone in unasked if zone.key in keys]
    story.row("nodes that have looked them up before", "none", ", ".join(known) or "none", not known)
    kept = holdings(places)
    replicas = {
        zone.name: {
            side: [str(place) for place in own if zone.key in kept[str(place)]]
            for side, own in (("west", west), ("east", east))
        }
        for zone in unasked
    }
    counts = {name: [len(own) for own in sides.values()] for name, sides in replicas.items()}
    story.row("replicas, west and east", ">= 1 a side", counts, all(min(count) for count in counts.values()), replicas)
    story.facts["replicas_in_the_cut"] = replicas
    for side, own in (("west", west), ("east", east)):
        tally = ask_everywhere(own, expected)
        story.count(f"{side} answers by its resolvers", tally.right, tally.total, tally.wrong)
        tally = ask_directly_everywhere(own, expected)
        story.count(f"{side} answers who holds nothing", tally.right, tally.total, tally.wrong)


def _one_side_learns(overlay: World, news: Signed, old_seq: int, west: list[Container], east: list[Container]) -> None:
    """Publish an update in the east; east serves it, west keeps what it has."""
    story = overlay.story
    before = news.expected
    news.update("198.51.100.200")
    (reply,) = overlay.publish([news], at=one("resolver"))
    stored = reply.get("stored", 0)
    story.row("east publishes an update", f"<= {len(east)} nodes", stored, 1 <= stored <= len(east), reply)
    waiting = set(east)

    def all_know() -> bool:
        answers = everywhere(sorted(waiting, key=str), lambda place: ask(place, [news.expected])[0])
        waiting.difference_update(place for place, reply in answers.items() if news.expected.is_met_by(reply))
        return not waiting

    seconds = wait_until(all_know, "the update in the east", ONE_REFRESH_SECONDS_MAX)
    story.row("all of the east serve it", "within a refresh", f"after {seconds:.0f} s", True)
    tally = ask_everywhere(west, [before])
    story.count("all of the west serve the old", tally.right, tally.total, tally.wrong)
    seqs = holdings([*west, *east])
    right = [seqs[str(place)].get(news.key) == old_seq for place in west]
    right += [seqs[str(place)].get(news.key) == news.item.seq for place in east]
    story.count("replicas: old in the west, new in the east", sum(right), len(right), seqs)


def _stale_is_refused(overlay: World, item: str, places: list[Container]) -> None:
    """Have the publisher put the old item again, at all nodes that keep the new one."""
    story = overlay.story
    publisher = one("publisher")
    kept = everywhere(places, lambda place: inside(place, control=[{"verb": "stored"}])["control"][0]["stored"])
    seq = int.from_bytes(bytes.fromhex(item)[96:104])
    key = next(zone.key for zone in overlay.signed.values() if zone.name == "news")
    newer = [p for p, own in kept.items() if any(entry["key"] == key and entry["seq"] > seq for entry in own)]
    said = inside(publisher, put={"item": item, "nodes": [place.dht for place in newer]})["put"]
    refused = [words for words in said.values() if words.startswith(SEQ_TOO_LOW)]
    story.count(f"stale put refused by {len(newer)} nodes that know better", len(refused), len(said), said)
