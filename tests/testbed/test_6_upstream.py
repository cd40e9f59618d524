"""The upstream is gone: names of the overlay go on, other names fail and say why."""

from __future__ import annotations

import pytest

from tests.testbed.containers import STOP_SECONDS, daemons, everywhere, one, run, wait_until
from tests.testbed.world import World, ask, ask_everywhere
from tests.testbed.zones import Expected, of_zone_files

pytestmark = pytest.mark.testbed
OLD = Expected("www.old.example.", "A", frozenset({"192.0.2.53"}))
UNASKED = Expected("mail.old.example.", "A", frozenset({"192.0.2.54"}))
FAILURE_REMEMBERED_SECONDS_MAX = 60.0


def test_only_ordinary_names_need_the_upstream(overlay: World) -> None:
    story = overlay.story
    with story.scenario("upstream gone"):
        places = daemons()
        tally = ask_everywhere(places, [OLD])
        story.count("an ordinary name, with the upstream", tally.right, tally.total, tally.wrong)
        upstream = one("upstream")
        run(["docker", "stop", "-t", str(STOP_SECONDS), upstream.id])
        try:
            (fresh,) = overlay.sign("no-upstream")
            overlay.publish([fresh])
            tally = ask_everywhere(places, [*of_zone_files(overlay.keys), fresh.expected])
            story.count("names of the overlay, without", tally.right, tally.total, tally.wrong)
            replies = everywhere(places, lambda place: ask(place, [UNASKED])[0])
            said = [
                (reply.get("rcode"), tuple(e["code"] for e in reply["extended_errors"])) for reply in replies.values()
            ]
            right = sum(rcode == "SERVFAIL" and bool(codes) for rcode, codes in said)
            words = sorted({error["text"] for reply in replies.values() for error in reply["extended_errors"]})
            story.count(
                "ordinary names: SERVFAIL with EDE", right, len(said), {"said": sorted(set(said)), "why": words}
            )
        finally:
            run(["docker", "start", upstream.id])
        waiting = set(places)

        def all_answer() -> bool:
            answers = everywhere(sorted(waiting, key=str), lambda place: ask(place, [UNASKED])[0])
            waiting.difference_update(place for place, reply in answers.items() if UNASKED.is_met_by(reply))
            return not waiting

        seconds = wait_until(all_answer, "ordinary names again", FAILURE_REMEMBERED_SECONDS_MAX)
        story.row("ordinary names are back", "at every resolver", f"after {seconds:.0f} s", True)
