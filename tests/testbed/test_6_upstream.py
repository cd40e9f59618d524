"""The upstream is gone: names of the overlay go on, other names fail and say why."""

from __future__ import annotations

import pytest

from deploy.testbed import Container
from tests.testbed.containers import BED, daemons, everywhere, wait_for_each
from tests.testbed.world import World, ask
from tests.testbed.zones import Expected, of_zone_files

pytestmark = pytest.mark.testbed
OLD = Expected("www.old.example.", "A", frozenset({"192.0.2.53"}))
UNASKED = Expected("mail.old.example.", "A", frozenset({"192.0.2.54"}))
FAILURE_REMEMBERED_S_MAX = 60.0


def test_only_ordinary_names_need_the_upstream(overlay: World) -> None:
    with overlay.story.scenario("upstream gone") as story:
        places = daemons()
        overlay.tell_answers("an ordinary name, with the upstream", places, [OLD])
        with BED.faults() as faults:
            faults.kill("upstream")
            fresh = overlay.sign("no-upstream")
            overlay.publish(fresh)
            expected = [*of_zone_files(overlay.keys), fresh[0].expected]
            overlay.tell_answers("names of the overlay, without", places, expected)
            replies = [reply for (reply,) in everywhere(places, lambda place: ask(place, [UNASKED])).values()]
            said = [(reply.get("rcode"), tuple(e["code"] for e in reply["extended_errors"])) for reply in replies]
            right = sum(rcode == "SERVFAIL" and bool(codes) for rcode, codes in said)
            words = sorted({error["text"] for reply in replies for error in reply["extended_errors"]})
            details = {"said": sorted(set(said)), "why": words}
            story.count("ordinary names: SERVFAIL with EDE", right, len(said), details)

        def answers(place: Container) -> bool:
            return UNASKED.is_met_by(ask(place, [UNASKED])[0])

        seconds = wait_for_each(places, answers, "ordinary names again", FAILURE_REMEMBERED_S_MAX)
        story.row("ordinary names are back", "at every resolver", f"after {seconds:.0f} s", True)
