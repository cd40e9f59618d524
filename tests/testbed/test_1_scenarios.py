"""The scenarios of the story, in the order in which they are told: each leaves the overlay whole for the next."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from deploy.testbed import Container, Faults, Impairment, engine, sidecars
from p2pdns.demo.rows import Row, problems
from p2pdns.items.keys import SecretKey
from p2pdns.sim.report import quantiles
from tests.testbed import world
from tests.testbed.world import BED, JOINED_MIN, World, ask, control, daemons, dht_of, everywhere, holdings, one, status
from tests.testbed.zones import Expected, Signed, of_demo_rows, of_zone_files, reply_of

pytestmark = pytest.mark.testbed
NOBODY = str(SecretKey.generate(b"\x07" * 32).zone_key)
# One of the two by which all have joined, and more nodes of one side than of the other.
VICTIMS = ("publisher", "boot-west", "west/1", "east/1", "east/2")
MANY, ADDED = "many", 'd7 TXT "moved to the second floor"'
NEWS_TTL = 30  # The least that a refresh waits for.
ONE_REFRESH_S_MAX = 150.0  # A refresh of 30 s after the half minute in which lost contacts are tried again.
REFUSED = "put refused: 302 "  # BEP 44: the sequence number is less than the current one.
BAD = Impairment(delay_ms=100, jitter_ms=20, loss_percent=10)
SEED = 6
LOOKUPS_S_MAX = 60.0
OLD = Expected("www.old.example.", "A", frozenset({"192.0.2.53"}))
UNASKED = Expected("mail.old.example.", "A", frozenset({"192.0.2.54"}))
FAILURE_REMEMBERED_S_MAX = 60.0
FLOODED = "10.91.2.99"  # No container has it; packets to it pass the router.
FAULTS_LINK = ("inet", "faults", "link")
PUTS, GETS, GARBAGE = 1_000, 3_000, 2_000
RATE = 1_000
REFLECTED_BYTES_PER_SECOND = 8_000  # A node gives unproven addresses so much beyond three times their questions.
# New keys of one prefix, in a store that is less than half full (docs/spec.md); the flood takes some six seconds.
BURST_ALLOWED, SECOND_ALLOWED = 256, 16
PUTTING_S_MAX = 15


def test_every_resolver_answers_every_published_name(overlay: World) -> None:
    with overlay.story.scenario("every name, everywhere") as story:
        keys, places = overlay.publisher_keys(), daemons()
        story.row("zones/ is published", "every zone", f"{len(keys)} zones", True, keys)
        expected = of_zone_files(keys)
        overlay.tell_answers(f"{len(expected)} RRsets at {len(places)} resolvers", places, expected)
        known = keys | {"nobody": NOBODY}
        rows = of_demo_rows(known)
        replies = everywhere(places, lambda place: world.ask_questions(place, [question for _, question in rows]))
        wrong = [f"{place.place}: {fault}" for place, own in replies.items() for fault in _faults(rows, known, own)]
        total = len(rows) * len(places)
        story.count("aliases, wildcards, NXDOMAIN, TC, case …", total - len(wrong), total, wrong)


def test_the_published_port_answers_on_loopback_over_both_transports(overlay: World) -> None:
    with overlay.story.scenario("the published port") as story:
        known = overlay.keys | {"nobody": NOBODY}
        rows = of_demo_rows(known)
        wrong = _faults(rows, known, overlay.ask_published([question for _, question in rows]))
        story.count("questions from outside", len(rows) - len(wrong), len(rows), wrong)


def _faults(rows: list[tuple[Row, list[Any]]], keys: dict[str, str], replies: list[dict[str, Any]]) -> list[str]:
    """Return the rows of the demo whose replies are not as it expects, each with the reasons."""
    found = [(row, list(problems(row, keys, reply_of(own)))) for (row, _), own in zip(rows, replies, strict=True)]
    return [f"{row.what}: {', '.join(reasons)}" for row, reasons in found if reasons]


def test_a_record_added_to_a_thousand_names_is_seen_everywhere(overlay: World) -> None:
    with overlay.story.scenario("a thousand names") as story:
        edited = "/var/lib/p2pdns/edited.zone"
        script = f"{{ cat /zones/{MANY}.zone; echo '{ADDED}'; }} >{edited}"
        publish = f"p2pdns publish --yes --json -k /var/lib/p2pdns/keys/{MANY}.key {edited}"
        said = json.loads(engine.docker("exec", one("publisher").id, "sh", "-c", f"{script} && {publish}"))
        stored = f"{said['stored']} of {said['sent']} nodes"
        story.row("published again with a record more", "at >= 8 nodes", stored, said["stored"] >= 8, said)
        added = Expected(f"d7.{overlay.keys[MANY]}.", "TXT", frozenset({'"moved to the second floor"'}))
        overlay.tell_answers("the record at nodes that never asked", daemons(), [added], directly=True)


def test_names_outlive_their_publisher_and_a_third_of_the_nodes(overlay: World) -> None:
    with overlay.story.scenario("kill -9") as story:
        fresh = overlay.sign(*(f"kept-{number}" for number in range(6)))
        stored = overlay.publish(fresh)
        story.row("new zones are published", "at every node", [reply.get("stored") for reply in stored], True, stored)
        expected = [zone.expected for zone in fresh]
        with Faults(BED) as faults:
            killed = faults.kill(*VICTIMS)
            survivors = daemons()
            story.count("survivors", len(survivors), world.DAEMON_COUNT - len(VICTIMS), {"killed": killed})
            overlay.tell_unasked("survivors that asked for them before", survivors, fresh)
            overlay.tell_answers("new names at survivors", survivors, expected)
            # A resolver that keeps the item answers from there; a node of a moment keeps nothing and has to ask.
            took_ms = overlay.tell_answers("over the wire, {times}", survivors, expected, directly=True)
            story.facts["answer_ms"] = {"a third killed": took_ms}
            zones = of_zone_files(overlay.keys)
            overlay.tell_answers("all of zones/ at nodes that never asked", survivors, zones, directly=True)
            overlay.tell_answers("all of zones/ at their resolvers", survivors, zones)
            replicas = {place.place: kept for place, kept in holdings(survivors).items()}
            story.facts["replicas_after_kill"] = {zone.name: zone.key for zone in fresh}, replicas
        seconds = world.wait_for_contacts(daemons(), JOINED_MIN)
        story.count("daemons after the restart", len(daemons()), world.DAEMON_COUNT, {"seconds": round(seconds, 1)})
        overlay.tell_answers("new names at all", daemons(), expected)


def test_two_sides_live_apart_and_agree_afterwards(overlay: World) -> None:
    with overlay.story.scenario("partition") as story:
        unasked = overlay.sign("apart-1", "apart-2", "apart-3")
        (news,) = overlay.sign("news", ttl=NEWS_TTL)
        overlay.publish([*unasked, news])
        old = news.item
        west, east = daemons("west"), daemons("east")
        both = [*west, *east]
        overlay.tell_answers("all know the old news", both, [news.expected])
        with Faults(BED) as faults:
            faults.cut("west")
            _both_sides_answer(overlay, unasked, west, east)
            _one_side_learns(overlay, news, old.seq, west, east)
            (secret,) = overlay.sign("west-only")
            _stored_at_most(overlay, "west publishes a zone of its own", overlay.publish([secret]), west)
            _tell_failures(overlay, "east asked for it: SERVFAIL with EDE, not NXDOMAIN", east[:3], secret.expected)
        healed_at = time.monotonic()
        _stale_is_refused(overlay, news, old.to_bytes(), both)
        _wait_for_answers(both, [news.expected, secret.expected])
        seconds = time.monotonic() - healed_at
        story.row("all know the news of both sides", "within a refresh", f"after {seconds:.0f} s", True)
        story.facts["healed_after_s"] = round(seconds, 1)
        _stale_is_refused(overlay, news, old.to_bytes(), both)
        overlay.tell_answers("and stay with it", both, [news.expected])
        story.facts["replicas_after_heal"] = {place.place: own.get(news.key) for place, own in holdings(both).items()}


def _tell_failures(overlay: World, title: str, places: list[Container], question: Expected) -> None:
    """Tell which of these resolvers say SERVFAIL and why."""
    replies = [reply for (reply,) in everywhere(places, lambda place: ask(place, [question])).values()]
    said = [(reply.get("rcode"), [error["text"] for error in reply["extended_errors"]]) for reply in replies]
    right = sum(rcode == "SERVFAIL" and bool(why) for rcode, why in said)
    overlay.story.count(title, right, len(places), said)


def _stored_at_most(overlay: World, title: str, replies: list[dict[str, Any]], places: list[Container]) -> None:
    """Tell at how many nodes a zone was stored: at some of these, and no others can be reached."""
    stored = replies[0].get("stored", 0)
    overlay.story.row(title, f"<= {len(places)} nodes", stored, 1 <= stored <= len(places), replies)


def _wait_for_answers(
    places: list[Container], expected: list[Expected], seconds_max: float = ONE_REFRESH_S_MAX
) -> float:
    """Wait until each of these resolvers has answered all of this once; return after how many seconds all had."""

    def knows(place: Container) -> bool:
        return all(entry.is_met_by(reply) for entry, reply in zip(expected, ask(place, expected), strict=True))

    return world.wait_for_each(places, knows, "the expected answers", seconds_max)


def _both_sides_answer(overlay: World, unasked: list[Signed], west: list[Container], east: list[Container]) -> None:
    """Ask both sides for names that no node has looked up, and note which nodes keep which."""
    story, sides = overlay.story, {"west": west, "east": east}
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
        overlay.tell_answers(f"{side} answers nodes that hold nothing", own, expected, directly=True)


def _one_side_learns(overlay: World, news: Signed, old_seq: int, west: list[Container], east: list[Container]) -> None:
    """Publish an update in the east; east serves it, west keeps the old item."""
    story, before = overlay.story, news.expected
    news.update("198.51.100.200")
    _stored_at_most(overlay, "east publishes an update", overlay.publish([news], at=one("resolver")), east)
    seconds = _wait_for_answers(east, [news.expected])
    story.row("all of the east serve it", "within a refresh", f"after {seconds:.0f} s", True)
    overlay.tell_answers("all of the west serve the old", west, [before])
    seqs = {place.place: own.get(news.key) for place, own in holdings([*west, *east]).items()}
    expected = {place.place: old_seq for place in west} | {place.place: news.item.seq for place in east}
    right = sum(seqs[place] == seq for place, seq in expected.items())
    story.count("replicas: old in the west, new in the east", right, len(seqs), seqs)


def _stale_is_refused(overlay: World, news: Signed, old: bytes, places: list[Container]) -> None:
    """Have the publisher put the old item again, at all nodes that keep the new one."""
    newer = [dht_of(place) for place, own in holdings(places).items() if own.get(news.key, 0) >= news.item.seq]
    network = f"container:{one('publisher').id}"
    words = sidecars.command("put", BED.project, network, "--rm", "--cap-add=NET_RAW", sidecars.TOOLS_IMAGE)
    flags = ("hostile", f"--item={old.hex()}", "--puts=1", "--gets=0", "--garbage=0")
    said = json.loads(engine.docker(*words, *flags, *newer))
    refused = [report for report in said if all(words.startswith(REFUSED) for words in report["said"])]
    overlay.story.count(f"stale put refused by {len(newer)} nodes that know better", len(refused), len(newer), said)


def test_a_rolling_restart_loses_neither_items_nor_marks(overlay: World) -> None:
    with overlay.story.scenario("rolling restart") as story:
        places, expected = daemons(), of_zone_files(overlay.keys)
        lost, codes, meanwhile = {}, {}, world.Tally()
        counts = {"mark": 0, "item": 0}
        for index, place in enumerate(places):
            before = world.memory_of(place)
            engine.docker("stop", f"--time={world.STOP_S}", place.id)
            codes[place.place] = engine.inspected(place.id)[0]["State"]["ExitCode"]
            if place.role != "resolver":
                # Questions go on while one node after the other is away.
                entry = expected[index % len(expected)]
                meanwhile.take(place, [entry], overlay.ask_published([[entry.name, entry.type]]))
            engine.docker("start", place.id)
            world.wait_for_contacts([place], 1)
            if missing := world.lost_between(before, after := world.memory_of(place)):
                lost[place.place] = {"lost": missing, "before": before, "after": after}
            for kind in counts:
                counts[kind] += sum(name.startswith(f"{kind} ") for name in before)
        ended = sum(code == 0 for code in codes.values())
        story.count("daemons that end by themselves on SIGTERM", ended, len(places), codes)
        meanwhile.tell(story, "questions answered meanwhile")
        title = f"daemons that kept id, {counts['mark']} marks, {counts['item']} items"
        story.count(title, len(places) - len(lost), len(places), lost)
        story.row("marks and items there were", ">= 1 each", counts, all(counts.values()))
        world.wait_for_contacts(daemons(), JOINED_MIN)
        overlay.tell_answers("every name at every resolver", daemons(), expected)


def test_names_are_found_over_bad_links(overlay: World) -> None:
    with overlay.story.scenario("bad links") as story:
        fresh = overlay.sign(*(f"far-{number}" for number in range(4)))
        overlay.publish(fresh)
        expected, places = [zone.expected for zone in fresh], daemons()
        with Faults(BED) as faults:
            impaired = faults.impair(BAD, every_link=True, seed=SEED)
            details = {"method": sorted({each["method"] for each in impaired}), "seed": SEED}
            story.count("100 ms ± 20, 10 % loss from every node", len(impaired), len(places), details)
            took_ms = overlay.tell_answers("over the wire, {times}", places, expected, directly=True)
            story.facts.setdefault("answer_ms", {})["bad links"] = took_ms
            overlay.tell_answers("at every resolver", places, expected)
            own = _reports(places, {zone.key for zone in fresh})
            rpcs = [entry["rpcs"] for entry in own]
            resent = sum(entry["retransmits"] for entry in own)
            half, most, _ = quantiles(rpcs)
            seen = f"p50 {half:.0f}, p95 {most:.0f}, {resent} sent again"
            story.row(f"RPCs of {len(own)} look-ups", "each <= 250", seen, max(rpcs) <= 250, own)
            complete = sum(entry["verdict"] == "complete" for entry in own)
            story.count("look-ups that were complete", complete, len(own), own)
            (reply,) = overlay.publish(overlay.sign("from-afar"))
            stored, sent = reply.get("stored", 0), reply.get("sent", 0)
            story.row("a zone is published", f"at >= {JOINED_MIN} nodes", f"{stored} of {sent}", stored >= JOINED_MIN)


def _reports(places: list[Container], keys: set[str]) -> list[dict[str, Any]]:
    """Return the reports of every daemon about its look-ups of these keys, once all of them have ended."""
    found: dict[Container, list[dict[str, Any]]] = {}

    def has_ended(place: Container) -> bool:
        found[place] = [entry for entry in control(place, "lookups")["lookups"] if entry["key"] in keys]
        return {entry["key"] for entry in found[place]} == keys

    # The publisher does not look for zones that it has published.
    askers = [place for place in places if place.role != "publisher"]
    world.wait_for_each(askers, has_ended, "the end of every look-up", LOOKUPS_S_MAX)
    return [entry for own in found.values() for entry in own]


def test_only_ordinary_names_need_the_upstream(overlay: World) -> None:
    with overlay.story.scenario("upstream gone") as story:
        places = daemons()
        overlay.tell_answers("an ordinary name, with the upstream", places, [OLD])
        with Faults(BED) as faults:
            faults.kill("upstream")
            fresh = overlay.sign("no-upstream")
            overlay.publish(fresh)
            expected = [*of_zone_files(overlay.keys), fresh[0].expected]
            overlay.tell_answers("names of the overlay, without", places, expected)
            _tell_failures(overlay, "ordinary names: SERVFAIL with EDE", places, UNASKED)
        seconds = _wait_for_answers(places, [UNASKED], FAILURE_REMEMBERED_S_MAX)
        story.row("ordinary names are back", "at every resolver", f"after {seconds:.0f} s", True)


def test_a_newcomer_without_any_address_finds_the_overlay(overlay: World) -> None:
    with overlay.story.scenario("newcomer") as story:
        BED.start("newcomer")
        newcomer = one("newcomer")
        seconds = world.wait_for_contacts([newcomer], 1)
        (facts,) = engine.inspected(newcomer.id)
        command = json.dumps([facts["Config"]["Cmd"], facts["Config"]["Env"]])
        told = [word for word in ("--bootstrap", "10.91.") if word in command]
        story.none("addresses it was told", told, engine.docker("logs", newcomer.id))
        contacts = status(newcomer)["contacts"]
        story.row("it finds the overlay by LAN discovery", ">= 1 contact", f"{contacts} after {seconds:.0f} s", True)
        fresh = overlay.sign("for-the-newcomer")
        overlay.publish(fresh)
        overlay.tell_answers("names that it resolves", [newcomer], [*of_zone_files(overlay.keys), fresh[0].expected])
        asked = [entry["rpcs"] for entry in control(newcomer, "lookups")["lookups"]]
        story.row("by asking others", ">= 1 RPC each", f"{sum(asked)} in {len(asked)} look-ups", min(asked) >= 1)


def test_a_flood_is_counted_and_nobody_else_feels_it(overlay: World) -> None:
    with overlay.story.scenario("hostile neighbour") as story:
        BED.start("hostile")
        hostile = one("hostile")
        targets = [place for place in daemons("west") if place.service in ("boot-west", "west")][:2]
        other = [place for place in daemons() if place not in targets][-1]
        fresh = overlay.sign("in-the-flood")
        overlay.publish(fresh)
        kept_before, before = holdings(targets), {place: status(place)["counters"]["dht"] for place in targets}
        BED.nft("add", "rule", *FAULTS_LINK, "ip", "daddr", FLOODED, "counter", "drop")
        words = [f"--puts={PUTS}", f"--gets={GETS}", f"--garbage={GARBAGE}", f"--rate={RATE}", f"--victim={FLOODED}"]
        words += [f"--key={overlay.keys['large']}", *map(dht_of, targets)]
        expected = [*of_zone_files(overlay.keys), fresh[0].expected]
        tally = world.Tally()
        with ThreadPoolExecutor(1) as pool:
            flood = pool.submit(engine.docker, "exec", hostile.id, "hostile", *words)
            while not flood.done():
                for place in [*targets, other]:
                    tally.take(place, expected, ask(place, expected))
            said = json.loads(flood.result())
        tally.tell(story, "honest names during the flood")
        for place, report in zip(targets, said, strict=True):
            _quotas_hold(overlay, place, report, before[place])
        rules = [entry["rule"]["expr"] for entry in BED.nft("list", "chain", *FAULTS_LINK) if "rule" in entry]
        (reflected,) = (part["counter"] for rule in rules if FLOODED in str(rule) for part in rule if "counter" in part)
        spoofed = sum(report["sent"]["gets"] for report in said)
        # The reply to a forged question is at most three times as long, or comes out of the budget of the node.
        allowed = (len(targets) + spoofed / RATE) * REFLECTED_BYTES_PER_SECOND + 28 * reflected["packets"]
        seen = f"{reflected['bytes']} bytes in {reflected['packets']} packets for {spoofed} questions"
        story.row("what the victim gets", f"<= {allowed:.0f} bytes", seen, reflected["bytes"] <= allowed)
        kept = holdings(targets)
        lost = [key for place, own in kept_before.items() for key in own if key not in kept[place]]
        story.none("honest items that were pushed out", lost)
        engine.docker("rm", "--force", "--volumes", hostile.id)


def _quotas_hold(overlay: World, place: Container, report: dict[str, Any], before: dict[str, int]) -> None:
    story, after = overlay.story, status(place)["counters"]["dht"]
    grown = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
    stored, refused = report["said"].get("put stored", 0), grown.get("put-refused-busy", 0)
    allowed = BURST_ALLOWED + SECOND_ALLOWED * PUTTING_S_MAX
    story.row(f"{place.place} keeps of {PUTS} made-up items", f"<= {allowed}", stored, stored <= allowed)
    details = {**report, "grown": grown}
    story.row(f"{place.place} counts what it refused", ">= 100 as busy", refused, refused >= 100, details)
    dropped = sum(count for name, count in grown.items() if name.startswith(("dropped", "unproven-silent")))
    story.row(f"{place.place} counts what it dropped", "> 0", dropped, dropped > 0)
