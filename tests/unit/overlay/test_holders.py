"""Who near a zone has which edition: each of the nearest is asked for itself, and only a signed item counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import GetOutcome, Inquiry, InquiryOutcome, Wanted
from p2pdns.dns.zone import Zone
from p2pdns.items.item import Item, MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.overlay.holders import holders_of
from tests.unit.items.divisions import Made, divided

SECRET = SecretKey.generate(b"\x01" * 32)
ZONE = ZoneId.of_key(SECRET.zone_key)
NEWEST, OLDER = (MutableItem.signed(SECRET, seq, b"v") for seq in (9, 8))
CONTACTS = tuple(NodeInfo(bytes([number]) * 20, (f"10.0.0.{number}", 6_881)) for number in range(1, 6))
SAID = {
    CONTACTS[0]: InquiryOutcome(True, NEWEST, rtt_s=0.02),
    CONTACTS[1]: InquiryOutcome(True, OLDER, rtt_s=0.03),
    CONTACTS[2]: InquiryOutcome(True, seq_named=10),
    CONTACTS[3]: InquiryOutcome(True, dropped="signature-wrong"),
    CONTACTS[4]: InquiryOutcome(),
}


@dataclass
class Network:
    """A look-up that finds these contacts, each of which says one thing."""

    inquiries: list[Inquiry] = field(default_factory=list)

    async def _found(self) -> GetOutcome:
        return GetOutcome(NEWEST, Verdict.COMPLETE, 20, 0, 20, 20, 0.1, 0.5, 1_000, 1_000, 4, nearest=CONTACTS)

    def get(
        self, wanted: Wanted, *, on_item: Callable[[Item], None], on_patient: Callable[[], None] | None = None
    ) -> Awaitable[GetOutcome]:
        """Find the contacts."""
        assert wanted.key == SECRET.zone_key
        return self._found()

    async def inquire(self, inquiry: Inquiry) -> InquiryOutcome:
        """Answer as the contact does."""
        self.inquiries.append(inquiry)
        return SAID[inquiry.contact]


def test_each_of_the_nearest_is_shown_with_what_it_has_shown_and_nothing_is_put_anywhere() -> None:
    network = Network()
    found = asyncio.run(holders_of(network, ZONE))
    assert [(one.address, one.seq) for one in found.nearest] == [
        (contact.address, seq) for contact, seq in zip(CONTACTS, (9, 8, None, None, None), strict=True)
    ]
    assert [one.is_silent for one in found.nearest] == [False] * 4 + [True]
    assert (found.newest_seq, found.nearest[2].seq_named, found.nearest[3].dropped) == (9, 10, "signature-wrong")
    # Without a seq in the question, a node has none to repeat.
    assert {(inquiry.seq, inquiry.again) for inquiry in network.inquiries} == {(None, None)}


def test_a_divided_zone_is_told_by_the_head_that_was_shown() -> None:
    zone = Zone.of(SECRET.zone_key.apex, (), 9)
    head = MutableItem.signed(SECRET, 12, divided(zone, [Made(SECRET.zone_key.apex)]).head)
    assert not asyncio.run(holders_of(Network(), ZONE)).is_divided

    class Divided(Network):
        async def inquire(self, inquiry: Inquiry) -> InquiryOutcome:
            """Show the head."""
            return InquiryOutcome(True, head)

    assert asyncio.run(holders_of(Divided(), ZONE)).is_divided
