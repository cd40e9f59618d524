"""The verbs `peers` and `put`: the contacts that are told, and the items that are refused."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pdns.admin.commands import PEERS_SHOWN_MAX, Commands, EngineParts
from p2pdns.cli.peers import length_text
from p2pdns.clock import unix_now
from p2pdns.dht.node.values import Peer, PutOutcome
from p2pdns.errors import BadItem, FormatError, Unavailable, UsageError
from p2pdns.items.item import SEQ_PER_SECOND, MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.succession import commitment_to
from p2pdns.publishing.upkeep import refuse_older
from p2pdns.sim.memory import MemoryCommitments
from tests.committed import NEXT

SECRET = SecretKey.generate(bytes(range(32)))
NOW = unix_now()
SEQ = int(NOW * SEQ_PER_SECOND)
ITEM = MutableItem.signed(SECRET, SEQ, b"3:abc")
DAY_SEQ = 86_400 * SEQ_PER_SECOND


class Endpoint:
    """An endpoint that notes what is put and has the contacts it was given."""

    address = ("127.0.0.1", 6881)

    def __init__(self, peers: list[Peer] | None = None) -> None:
        self.put_items: list[MutableItem] = []
        self.found = peers or []
        self.contact_count = len(self.found)
        self.network = "mine"
        self.node_id = bytes(20)
        self.commitments = MemoryCommitments()

    @property
    def state(self) -> Any:
        """A state that keeps commitments."""
        return SimpleNamespace(reader=self)

    @property
    def endpoints(self) -> list[Endpoint]:
        """Itself."""
        return [self]

    @property
    def node(self) -> Endpoint:
        """Itself."""
        return self

    @property
    def settings(self) -> Any:
        """Settings of a node over IPv4."""
        return type("Settings", (), {"is_ipv6": False})

    @property
    def endpoint(self) -> Endpoint:
        """Itself: it is the engine too."""
        return self

    def peers(self, now: float) -> list[Peer]:
        """Return the contacts."""
        return self.found

    async def put(self, item: MutableItem, on_progress: Any) -> PutOutcome:
        """Note the item."""
        self.put_items.append(item)
        on_progress(3, 2)
        return PutOutcome(3, 2, {302: 1})


def put(endpoint: Endpoint, newest: int | None, **request: Any) -> tuple[dict[str, Any], list[Any]]:
    """Call the verb, with a key whose newest seq is known."""

    class Known(Commands):
        async def seq(self, request: dict[str, Any], report: Any) -> dict[str, Any]:
            assert request["key"] == str(SECRET.zone_key)
            return {"seq": newest, "ahead": None}

    progress: list[Any] = []
    verb = Known(cast("EngineParts", endpoint)).verbs["put"]
    return asyncio.run(verb({"verb": "put", **request}, progress.append)), progress


@pytest.mark.parametrize("older_by", [None, 1, 0])
def test_an_item_that_is_as_new_as_any_is_put_once_as_it_is(older_by: int | None) -> None:
    endpoint = Endpoint()
    newest = None if older_by is None else SEQ - older_by
    done, progress = put(endpoint, newest, item=ITEM.to_bytes().hex())
    assert endpoint.put_items == [ITEM]
    assert done == {"sent": 3, "stored": 2, "seq": SEQ, "refused": {"302": 1}}
    assert progress == [{"sent": 3, "stored": 2}]


def test_an_older_item_is_not_put() -> None:
    endpoint = Endpoint()
    with pytest.raises(Unavailable, match=f"seq {SEQ} is lower than {SEQ + 1}, the newest known of this key"):
        put(endpoint, SEQ + 1, item=ITEM.to_bytes().hex())
    assert endpoint.put_items == []


def test_an_item_without_the_commitment_that_was_seen_of_its_key_is_not_put() -> None:
    endpoint = Endpoint()
    zone_id = ZoneId.of_key(SECRET.zone_key)
    asyncio.run(endpoint.commitments.keep(zone_id, commitment_to(SECRET.zone_key, NEXT)))
    with pytest.raises(Unavailable, match="it lacks the zone's commitment to a next key"):
        put(endpoint, None, item=ITEM.to_bytes().hex())
    assert endpoint.put_items == []


def test_an_item_from_the_future_is_not_put_unless_it_was_shown_already() -> None:
    ahead = MutableItem.signed(SECRET, SEQ + 2 * DAY_SEQ, b"3:abc")
    with pytest.raises(Unavailable, match="signed more than a day ahead"):
        refuse_older(ahead, SEQ, NOW)
    refuse_older(ahead, ahead.seq, NOW)


def test_an_item_whose_signature_does_not_hold_is_not_put() -> None:
    endpoint = Endpoint()
    forged = bytearray(ITEM.to_bytes())
    forged[-1] ^= 1
    with pytest.raises(BadItem, match="signature-wrong"):
        put(endpoint, None, item=forged.hex())
    assert endpoint.put_items == []


@pytest.mark.parametrize("given", [None, 3, "", "zz", ["00"]])
def test_what_is_no_item_is_refused_in_words(given: object) -> None:
    with pytest.raises((UsageError, FormatError), match=r"missing, or not text|not hexadecimal|item-file-too-short"):
        put(Endpoint(), None, item=given)


def test_peers_are_told_whole_and_with_a_bound() -> None:
    peers = [Peer(bytes([n % 256]) * 20, ("192.0.2.1", 1 + n), 0.0234, 1.04, 60.0, 0, True) for n in range(3_000)]
    verbs = Commands(cast("EngineParts", Endpoint(peers))).verbs
    found = asyncio.run(verbs["peers"]({"verb": "peers"}, lambda progress: None))
    assert len(found["peers"]) == PEERS_SHOWN_MAX
    assert found["families"]["IPv4"]["contacts"] == 3_000
    assert found["peers"][0] == {
        "node_id": "00" * 20,
        "address": "192.0.2.1:1",
        "family": "IPv4",
        "rtt_ms": 23.4,
        "silent_s": 1.0,
        "known_s": 60.0,
        "failures": 0,
        "id_allowed": True,
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (3_605, "1 hour"),
        (3_725, "1 hour, 2 minutes"),
        (86_400 * 3 + 7_200 + 60, "3 days, 2 hours"),
    ],
)
def test_a_length_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert length_text(seconds) == text
