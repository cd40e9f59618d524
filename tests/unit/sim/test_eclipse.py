"""The scenario `eclipse`: where an attacker places its nodes, what these say, and what is counted."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from p2pdns.addresses import AddressClass, class_of, prefix_of
from p2pdns.dht import bencode, krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.lookup.shortlist import HOST_CONTACTS_MAX, PREFIX_CONTACTS_MAX
from p2pdns.dht.routing.ids import ID_BITS, distance, id_for, is_id_allowed
from p2pdns.dht.routing.table import K
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.sim.attackers import CROWDED_COUNT, Answers, Attack, Ids, sybil_contacts
from p2pdns.sim.engine import PORT, host_of
from p2pdns.sim.loop import VirtualLoop, run
from p2pdns.sim.network import VirtualNetwork
from p2pdns.sim.places import HOSTILE_OCTETS, INVENTED_OCTETS, Estate, drawn_hosts, head_of, spread
from p2pdns.sim.report import Scale
from p2pdns.sim.scenarios.eclipse import Case, EclipseRow, eclipse

DRAWS = random.Random(5)
TARGET = DRAWS.randbytes(20)
ESTATE = Estate(drawn_hosts(DRAWS, HOSTILE_OCTETS, 256, 16))
INVENTIONS = Estate(drawn_hosts(DRAWS, INVENTED_OCTETS, 64, 1))
HONEST = [krpc.NodeInfo(id_for(host_of(n), DRAWS.randbytes(20)), (host_of(n), PORT)) for n in range(100)]
OLDER = MutableItem.signed(SecretKey.generate(bytes(32)), 5, b"older")
READER = (host_of(200), PORT)


def contacts(ids: Ids, count: int = 40) -> list[krpc.NodeInfo]:
    """Return where an attacker places its nodes."""
    return sybil_contacts(ids, TARGET, count, ESTATE, HONEST, random.Random(1))


def test_addresses_of_hostile_machines_are_public_and_those_of_no_honest_one() -> None:
    hosts = drawn_hosts(random.Random(1), HOSTILE_OCTETS, 256, 16)
    assert len({*hosts}) == 4_096
    assert len({prefix_of((host, 1)) for host in hosts}) == 256
    made_up = drawn_hosts(random.Random(1), INVENTED_OCTETS, 500, 1)
    assert {class_of(host) for host in (*hosts, *made_up)} == {AddressClass.PUBLIC}
    honest = {host_of(number) for number in range(20_000)}
    assert not honest & {*hosts, *made_up}
    assert not {*hosts} & {*made_up}


def test_an_estate_knows_the_nearest_ids_that_are_allowed_at_its_addresses() -> None:
    hosts = drawn_hosts(random.Random(2), HOSTILE_OCTETS, 16, 2)
    estate = Estate(hosts)
    heads = [head_of(id_for(host, bytes(19) + bytes([choice]))) for host in hosts for choice in range(8)]
    assert len(estate) == len(heads) == 256
    for seed in range(20):
        target = random.Random(seed).randbytes(20)
        near = [one.head ^ head_of(target) for one in estate.nearest(target, 10)]
        assert near == sorted(head ^ head_of(target) for head in heads)[:10]


@pytest.mark.parametrize("ids", [Ids.BEP_42, Ids.SPACED])
def test_an_attacker_that_obeys_bep_42_has_ids_that_readers_count(ids: Ids) -> None:
    placed = contacts(ids)
    assert len({*placed}) == 40
    assert all(is_id_allowed(node_id, address[0]) for node_id, address in placed)
    assert max(Counter(address[0] for _, address in placed).values()) <= HOST_CONTACTS_MAX
    assert max(Counter(prefix_of(address) for _, address in placed).values()) <= PREFIX_CONTACTS_MAX


def test_no_more_of_a_host_or_a_prefix_is_taken_than_readers_count() -> None:
    estate = Estate(drawn_hosts(random.Random(3), HOSTILE_OCTETS, 2, 5))
    near = estate.nearest(TARGET, len(estate))
    assert [*map(len, (near, spread(near, 80, of_host_max=8, of_prefix_max=80)))] == [80, 80]
    assert len(spread(near, 80, of_host_max=2, of_prefix_max=80)) == 20
    assert len(spread(near, 80, of_host_max=8, of_prefix_max=4)) == 8
    assert spread(near, 3, of_host_max=8, of_prefix_max=4) == near[:3]


def test_the_nearest_of_4096_addresses_are_nearer_than_a_hundred_machines() -> None:
    nearest = min(distance(contact.node_id, TARGET) for contact in HONEST)
    assert sum(distance(contact.node_id, TARGET) < nearest for contact in contacts(Ids.BEP_42, 20)) == 20


def test_ids_that_are_placed_freely_are_nearest_and_forbidden() -> None:
    placed = contacts(Ids.FREE)
    assert len({*placed}) == 40
    assert max(distance(node_id, TARGET) for node_id, _ in placed) < 1 << ID_BITS - 24
    assert not any(is_id_allowed(node_id, address[0]) for node_id, address in placed)


@pytest.mark.parametrize("count", [30, 100])
def test_a_spaced_attacker_crowds_no_region(count: int) -> None:
    honest = HONEST[:count]
    region = (K << ID_BITS) // len(honest)
    placed = sybil_contacts(Ids.SPACED, TARGET, 100, ESTATE, honest, random.Random(1))
    assert len(placed) == 100
    near = [distance(contact.node_id, TARGET) for contact in placed]
    assert sum(far < region for far in near) == CROWDED_COUNT - K - 1
    nearest = min(distance(contact.node_id, TARGET) for contact in honest)
    assert sum(far < nearest for far in near) == CROWDED_COUNT - K - 1


# What its nodes say


def said(answers: Answers, request: krpc.Request, target: bytes = OLDER.target) -> krpc.Reply:
    """Return the reply of one of an attacker's nodes, which has surrounded a target."""

    async def story(loop: VirtualLoop) -> krpc.Reply:
        network = VirtualNetwork(loop, 1)
        attack = Attack(loop, network, INVENTIONS, random.Random(1))
        attack.honest, attack.answers = HONEST, answers
        group = contacts(Ids.BEP_42)
        attack.surround(target, group, OLDER)
        reader = network.open(READER)
        arrived = loop.create_future()
        loop.add_reader(reader, lambda: arrived.set_result(reader.recvfrom(2_000)[0]))
        query = krpc.RequestMessage(transaction=b"tr", node_id=bytes(20), request=request)
        reader.sendto(compose(query), group[0].address)
        reply = parse(await arrived)
        loop.remove_reader(reader)
        attack.close()
        assert isinstance(reply, krpc.Reply)
        assert reply.node_id == group[0].node_id
        return reply

    return run(story)


@pytest.mark.parametrize("answers", Answers)
def test_a_node_of_an_attacker_says_what_the_attack_wants(answers: Answers) -> None:
    reply = said(answers, krpc.Get(OLDER.target))
    own = {*contacts(Ids.BEP_42)}
    assert reply.token
    assert bool(reply.nodes) is (answers is not Answers.NOBODY)
    if answers is Answers.INVENTED:
        assert not own & {*reply.nodes}
    else:
        assert {*reply.nodes} <= own
    is_older = answers is Answers.OLDER
    assert (reply.seq, reply.value) == ((5, bencode.encode(OLDER.value)) if is_older else (None, None))


def test_a_node_of_an_attacker_answers_pings_and_names_honest_machines_for_other_keys() -> None:
    assert said(Answers.OLDER, krpc.Ping()).nodes == ()
    reply = said(Answers.OLDER, krpc.FindNode(TARGET))
    assert {*reply.nodes} <= {*HONEST}
    assert len(reply.nodes) == K


# The rows


def test_twenty_nodes_that_obey_bep_42_hide_an_update_and_twenty_that_do_not_hide_nothing() -> None:
    cases = [Case(Ids.BEP_42, 20), Case(Ids.FREE, 20)]
    report = eclipse(Scale(1, nodes=60, gets=6), lambda *_: None, cases)
    assert report.findings == report.missed == []
    rows = [row for row in report.rows if isinstance(row, EclipseRow)]
    obeying, free = rows[:6], rows[6:]
    assert [row.answers for row in obeying] == [row.answers for row in free]
    assert [row.newest for row in free] == [6] * 6
    assert max(row.near for row in free) == 0.0
    hidden = next(row for row in obeying if (row.put, row.answers) == ("update", "older item"))
    # This is what the look-up does today; a better one changes this line. Among 40 machines nothing is hidden any more,
    # since every second request that passes the nearest contacts by goes beyond those that an attacker has chosen.
    assert hidden.older_settled.count >= 3
    assert hidden.near > 15
    assert min(row.near for row in obeying) > 15
