"""Whose turn it is: the first request of each question, what was found, and only then what is good to know as well."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from p2pdns.addresses import Address
from p2pdns.clock import boot_now
from p2pdns.dht import krpc
from p2pdns.dht.bencode import encode
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.lookup.width import ALPHA, ALPHA_FIRST
from p2pdns.dht.node import turns as turns_module
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.operations import SLOT_RPCS_MAX
from p2pdns.dht.node.turns import TURN_PAUSE_S
from p2pdns.dht.node.values import FindDone, ItemFound, NodeSettings, Wanted
from p2pdns.dht.routing.ids import distance
from p2pdns.dht.storage import Storage
from p2pdns.net.endpoint import Endpoint
from tests.unit.dht.swarm import acquaint, item_of
from tests.waiting import at_rest, until

GUARD_S = 20.0  # Ten times what the slowest machine needs.
HERE: Address = ("127.0.0.1", 0)
ITEM = item_of(1)
NOW = 1000.0
CONTACTS = [krpc.NodeInfo(bytes([number]) * 20, ("127.0.0.1", 7000 + number)) for number in range(1, 13)]
MORE = [krpc.NodeInfo(bytes([number]) * 20, ("127.0.0.1", 7000 + number)) for number in range(13, 25)]
ABSENT = [bytes([number]) * 20 for number in range(101, 106)]


def node_with(contacts: list[krpc.NodeInfo], now: float, **settings: Any) -> Node:
    """Return a node whose table holds these contacts."""
    node = Node(
        node_id=bytes(20),
        network="test",
        entropy=os.urandom,
        storage=Storage(),
        settings=NodeSettings(bind_host="127.0.0.1", **settings),
        now=now,
    )
    for contact in contacts:
        acquaint(node, contact, None, now)
    return node


def targets_of(sent: list[tuple[bytes, Address]]) -> list[bytes]:
    """Return what these queries ask for."""
    requests = [query.request for data, _ in sent if isinstance(query := parse(data), krpc.RequestMessage)]
    return [request.target for request in requests if isinstance(request, krpc.Get | krpc.FindNode)]


def turns_of(node: Node, count: int) -> list[tuple[bytes, Address]]:
    """Return what is sent when so many datagrams have come, whatever they say."""
    for _ in range(count):
        node.receive_datagram(b"garbage", CONTACTS[0].address, NOW)
    return node.datagrams_to_send(NOW)


def waits_for_turn(node: Node, now: float) -> bool:
    """Return whether the node wants to be woken after a pause, because somebody waits for a turn."""
    due = node.get_timer()
    return due is not None and due <= now + TURN_PAUSE_S


def pause_of(node: Node) -> list[tuple[bytes, Address]]:
    """Return what is sent when nothing comes for a pause."""
    assert node.get_timer() == NOW + TURN_PAUSE_S
    node.handle_timer(NOW + TURN_PAUSE_S)
    return node.datagrams_to_send(NOW + TURN_PAUSE_S)


def reply_to(data: bytes, contact: krpc.NodeInfo, *, has_item: bool) -> bytes:
    """Return a contact's reply to a query."""
    query = parse(data)
    facts: dict[str, Any] = {}
    if has_item:
        facts = {"key": ITEM.key.raw, "signature": ITEM.signature, "seq": ITEM.seq, "value": encode(ITEM.value)}
    reply = krpc.Reply(transaction=query.transaction, node_id=contact.node_id, network=query.network, **facts)
    return compose(reply)


def test_questions_at_once_send_their_first_requests_before_any_sends_more() -> None:
    node = node_with(CONTACTS, NOW)
    node.start_get(Wanted(ABSENT[0]), NOW)
    for target in [*ABSENT[1:], ITEM.target]:
        node.start_get(Wanted(target), NOW)
    first = targets_of(node.datagrams_to_send(NOW))
    # Who is alone has nobody to wait for.
    assert Counter(first) == Counter({ABSENT[0]: ALPHA_FIRST} | dict.fromkeys([*ABSENT[1:], ITEM.target], 1))
    assert targets_of(turns_of(node, 5)) == [*ABSENT[1:], ITEM.target]
    rest = Counter(targets_of(pause_of(node)))
    assert rest == dict.fromkeys([*ABSENT[1:], ITEM.target], ALPHA_FIRST - 2)
    assert (node.get_timer() or NOW) > NOW + 2 * TURN_PAUSE_S, "nobody waits for a turn"


def test_a_question_that_has_its_answer_lets_those_without_send_first() -> None:
    node = node_with(CONTACTS, NOW)
    node.start_get(Wanted(ITEM.target, ITEM.key), NOW)
    ((data, address), *_) = node.datagrams_to_send(NOW)
    for target in ABSENT:
        node.start_get(Wanted(target), NOW)
    node.datagrams_to_send(NOW)
    contact = next(contact for contact in CONTACTS if contact.address == address)
    node.receive_datagram(reply_to(data, contact, has_item=True), address, NOW)
    assert isinstance(node.next_event(), ItemFound)
    # The reply brought one turn.
    sent = targets_of([*node.datagrams_to_send(NOW), *pause_of(node)])
    assert sent.index(ITEM.target) == len(ABSENT) * (ALPHA_FIRST - 1)


def test_a_reply_without_an_item_gives_its_place_to_the_question_whose_turn_it_is() -> None:
    node = node_with(CONTACTS, NOW)
    for target in ABSENT:
        node.start_get(Wanted(target), NOW)
    ((data, address), *_) = node.datagrams_to_send(NOW)
    contact = next(contact for contact in CONTACTS if contact.address == address)
    node.receive_datagram(reply_to(data, contact, has_item=False), address, NOW)
    assert targets_of(node.datagrams_to_send(NOW)) == [ABSENT[1]]
    # It has a turn like every other, behind them.
    assert targets_of(turns_of(node, 4)) == [*ABSENT[2:], ABSENT[0]]


def answer_from(node: Node, sent: list[tuple[bytes, Address]], *, has_item: bool = False) -> None:
    """Let the contacts that these went to reply, and tell of nobody new."""
    for data, address in sent:
        contact = next(contact for contact in (*CONTACTS, *MORE) if contact.address == address)
        node.receive_datagram(reply_to(data, contact, has_item=has_item), address, NOW)


def events_of(node: Node) -> list[str]:
    """Return the kinds of what has happened."""
    kinds = []
    while (event := node.next_event()) is not None:
        kinds.append(type(event).__name__)
    return kinds


@pytest.mark.parametrize("count", [3, 12])
def test_a_get_is_patient_once_with_nobody_left_to_ask_or_with_eight_requests_in_vain(count: int) -> None:
    node = node_with(CONTACTS[:count], NOW)
    node.start_get(Wanted(ABSENT[0]), NOW, tells_patience=True)
    sent = node.datagrams_to_send(NOW)
    # However few it knows: who has not answered yet may tell of others.
    assert (len(sent), events_of(node)) == (min(count, ALPHA_FIRST), [])
    answered = 0
    while answered < count - 1:
        assert events_of(node) == (["GetPatient"] if answered == 1 and count == 3 else [])
        answer_from(node, sent[answered : answered + 1])
        answered += 1
        sent += node.datagrams_to_send(NOW)
        if len(sent) >= SLOT_RPCS_MAX:
            break
    assert events_of(node) == (["GetPatient"] if count == 12 else [])
    assert node.operation_count == 1
    answer_from(node, sent[answered:])
    while sent := node.datagrams_to_send(NOW):
        answer_from(node, sent)
    # What was told is not told again.
    assert events_of(node) == ["GetDone"]


def test_a_get_that_has_heard_nothing_yet_is_not_patient_whatever_turns_it_has() -> None:
    node = node_with(CONTACTS[:3], NOW)
    for target in ABSENT:
        node.start_get(Wanted(target), NOW, tells_patience=True)
    sent = [*node.datagrams_to_send(NOW), *pause_of(node)]
    assert len(sent) == 3 * len(ABSENT)
    assert events_of(node) == []
    answer_from(node, sent[:1])
    assert events_of(node) == ["GetPatient"]


def test_a_get_that_has_an_item_or_was_not_asked_tells_of_no_patience() -> None:
    node = node_with(CONTACTS, NOW)
    node.start_get(Wanted(ITEM.target, ITEM.key), NOW, tells_patience=True)
    answer_from(node, node.datagrams_to_send(NOW)[:1], has_item=True)
    assert events_of(node) == ["ItemFound"]
    other = node_with(CONTACTS, NOW)
    other.start_get(Wanted(ABSENT[0]), NOW)
    while sent := other.datagrams_to_send(NOW):
        answer_from(other, sent)
    assert events_of(other) == ["GetDone"]


def test_a_question_goes_before_those_that_have_asked_eight_in_vain() -> None:
    node = node_with([*CONTACTS, *MORE], NOW)
    for target in ABSENT:
        node.start_get(Wanted(target), NOW)
    asked: Counter[bytes] = Counter()
    while len(asked) < len(ABSENT) or min(asked.values()) < SLOT_RPCS_MAX:
        sent = turns_of(node, 1)
        asked.update(targets_of(sent))
        answer_from(node, sent)
    node.datagrams_to_send(NOW)
    node.start_get(Wanted(ITEM.target, ITEM.key), NOW)
    # Its turns come before any of theirs, until it has sent as many.
    turns = [targets_of(turns_of(node, 1)) for _ in range(ALPHA_FIRST - 1)]
    assert [target for targets in turns for target in targets] == [ITEM.target] * ALPHA_FIRST
    later = [target for _ in range(SLOT_RPCS_MAX) for target in targets_of(turns_of(node, 1))]
    assert set(later) & set(ABSENT), "they have waited for theirs"


def test_a_get_that_has_ended_waits_for_no_turn() -> None:
    node = node_with(CONTACTS, NOW)
    numbers = [node.start_get(Wanted(target), NOW) for target in ABSENT]
    node.datagrams_to_send(NOW)
    assert node.get_timer() == NOW + TURN_PAUSE_S
    for number in numbers:
        node.cancel(number, NOW)
    assert not waits_for_turn(node, NOW)
    # By its deadline, while others are ahead of it.
    for target in ABSENT:
        node.start_get(Wanted(target, deadline=NOW + 0.01), NOW)
    node.datagrams_to_send(NOW)
    assert waits_for_turn(node, NOW)
    node.handle_timer(NOW + 0.01)
    assert not waits_for_turn(node, NOW + 0.01)


def test_a_question_that_is_alone_waits_for_no_turn_after_silences() -> None:
    node = node_with(CONTACTS, NOW)
    node.start_get(Wanted(ITEM.target, ITEM.key), NOW)
    assert len(node.datagrams_to_send(NOW)) == ALPHA_FIRST
    timer = NOW
    others: list[int] = []
    while not node.counters["retransmit"]:
        timer = node.get_timer() or timer
        node.handle_timer(timer)
        others.append(len(set(node.datagrams_to_send(timer))))
        assert (node.get_timer() or timer) > timer + TURN_PAUSE_S, "it waits for no turn"
    # Each late reply opens a slot more, until all contacts are asked; then the first four are silent and asked again.
    assert others == [ALPHA, ALPHA, ALPHA]
    assert len(CONTACTS) == 3 * ALPHA


def test_nobody_is_woken_for_the_timeout_of_a_request_that_was_answered() -> None:
    node = node_with(CONTACTS[:1], NOW)
    idle = node.get_timer()
    node.start_find(ABSENT[0], NOW)
    ((data, address),) = node.datagrams_to_send(NOW)
    assert node.get_timer() != idle
    node.receive_datagram(reply_to(data, CONTACTS[0], has_item=False), address, NOW)
    assert isinstance(node.next_event(), FindDone)
    assert node.get_timer() == idle


# The endpoint


class Peers:
    """Sockets that a test answers by hand, nearest to the item first."""

    def __init__(self, count: int) -> None:
        self._socks = {}
        for number in range(count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(HERE)
            sock.settimeout(GUARD_S)
            self._socks[krpc.NodeInfo(bytes([number + 1]) * 20, sock.getsockname())] = sock
        self.contacts = sorted(self._socks, key=lambda contact: distance(contact.node_id, ITEM.target))

    def query(self, contact: krpc.NodeInfo) -> bytes:
        """Return the next query that a contact was sent."""
        return self._socks[contact].recv(2_048)

    def has_query(self, contact: krpc.NodeInfo) -> bool:
        """Return whether a query waits for a contact."""
        return bool(select.select([self._socks[contact]], [], [], 0)[0])

    def send(self, contact: krpc.NodeInfo, data: bytes, address: Address) -> None:
        """Send something as a contact."""
        self._socks[contact].sendto(data, address)

    def close(self) -> None:
        """Close them all."""
        for sock in self._socks.values():
            sock.close()


def play(count: int, scene: Callable[[Endpoint, Peers], Coroutine[Any, Any, None]]) -> None:
    """Play a scene of an endpoint whose table holds so many peers."""

    async def whole() -> None:
        peers = Peers(count)
        # Nobody is taken for silent while a slow machine plays.
        node = node_with(peers.contacts, boot_now(), timeout_s_min=GUARD_S, timeout_s_max=GUARD_S)
        endpoint = await Endpoint.open(node, HERE)
        try:
            await scene(endpoint, peers)
        finally:
            endpoint.close()
            peers.close()

    asyncio.run(asyncio.wait_for(whole(), GUARD_S))


def dropped_count(node: Node) -> int:
    """Return how many datagrams were worked on that are of no use."""
    return sum(count for name, count in node.counters.items() if name.startswith("dropped-"))


@pytest.mark.parametrize("behind_count", [5, 25])
@pytest.mark.parametrize("meanwhile", ["nothing", "_timer_fired"])
def test_an_item_is_handed_on_before_what_came_with_it_is_worked_on(behind_count: int, meanwhile: str) -> None:
    async def scene(endpoint: Endpoint, peers: Peers) -> None:
        found = asyncio.get_running_loop().create_future()
        worked_on: list[int] = []

        def on_item(item: object) -> None:
            worked_on.append(dropped_count(endpoint.node))
            found.set_result(item)
            if meanwhile != "nothing":
                # What is due in the very next round would read on as well.
                asyncio.get_running_loop().call_soon(getattr(endpoint, meanwhile))

        async def answer() -> None:
            # As the overlay waits for it, whose answer goes to the front in the same step.
            await asyncio.wait({found})
            worked_on.append(dropped_count(endpoint.node))

        waiter = asyncio.create_task(answer())
        await at_rest()
        get = endpoint.get(Wanted(ITEM.target, ITEM.key), on_item=on_item)
        nearest = peers.contacts[0]
        reply = reply_to(peers.query(nearest), nearest, has_item=True)
        for data in [b"garbage"] * behind_count + [reply] + [b"garbage"] * 3:
            peers.send(nearest, data, endpoint.address)
        await waiter
        assert worked_on == [0, 0]
        await until(lambda: dropped_count(endpoint.node) == behind_count + 3)
        get.cancel()

    play(4, scene)


def test_the_second_requests_go_out_even_if_nothing_ever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "TURN_PAUSE_S", 0.0)

    async def scene(endpoint: Endpoint, peers: Peers) -> None:
        gets = [endpoint.get(Wanted(target), on_item=lambda item: None) for target in (ABSENT[0], ITEM.target)]
        # To the first question all three were sent, to the second only the nearest.
        asked = [peers.query(contact) for contact in peers.contacts]
        assert len(asked) == ALPHA_FIRST
        assert targets_of([(peers.query(peers.contacts[0]), HERE)]) == [ITEM.target]
        assert not any(peers.has_query(contact) for contact in peers.contacts)
        await until(lambda: all(peers.has_query(contact) for contact in peers.contacts[1:]))
        for get in gets:
            get.cancel()

    play(ALPHA_FIRST, scene)


def test_a_reply_lets_the_next_question_have_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    # Time alone lets nobody have a turn here.
    monkeypatch.setattr(turns_module, "TURN_PAUSE_S", GUARD_S)

    async def scene(endpoint: Endpoint, peers: Peers) -> None:
        sent = [ABSENT[0], ABSENT[1], ITEM.target]
        gets = [endpoint.get(Wanted(target), on_item=lambda item: None) for target in sent]
        nearest = peers.contacts[0]
        peers.send(nearest, reply_to(peers.query(nearest), nearest, has_item=False), endpoint.address)
        await until(lambda: endpoint.node.counters["reply"])
        # To the first question all three were sent, to each other one; one has come back, so one more went out.
        assert endpoint.node.in_flight_count == ALPHA_FIRST + 2
        for get in gets:
            get.cancel()

    play(ALPHA_FIRST, scene)
