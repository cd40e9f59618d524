"""RFC 6840 and 4035: DO, CD and AD for a server that verifies zones by their keys and passes the rest on."""

from __future__ import annotations

import pytest

from p2pdns.front.transport import TCP, UDP
from tests.conformance import wire
from tests.conformance.virtual import VirtualFront
from tests.conformance.wire import AD, CD, DO, RD
from tests.conformance.world import KEY, Client
from tests.front_messages import answer

WWW = f"www.{KEY}"


@pytest.mark.parametrize("qname", [WWW, f"nosuch.{KEY}", f"loop.{KEY}", "www.alt"])
def test_do_is_copied(client: Client, qname: str) -> None:
    for flags in (0, DO):
        opt = client.ask(qname, additional=[wire.opt(1232, flags=flags)]).opt
        assert opt is not None
        assert opt.ttl & DO == flags


@pytest.mark.parametrize("qname", [WWW, f"nosuch.{KEY}", f"loop.{KEY}", "www.alt"])
@pytest.mark.parametrize("cd", [0, CD])
def test_cd_is_copied(client: Client, qname: str, cd: int) -> None:
    assert client.ask(qname, flags=RD | cd).flags & CD == cd


@pytest.mark.parametrize("qname", [WWW, f"nosuch.{KEY}", f"alias.{KEY}", f"away.{KEY}", f"www.friend.{KEY}"])
def test_ad_is_set_on_what_was_verified_for_who_asks_for_it(client: Client, qname: str) -> None:
    assert client.ask(qname, flags=RD | AD).flags & AD
    assert client.ask(qname, additional=[wire.opt(1232, flags=DO)]).flags & AD
    assert not client.ask(qname).flags & AD
    assert not client.ask(qname, additional=[wire.opt()]).flags & AD


@pytest.mark.parametrize("qname", ["www.alt", "p2p.alt", "a.localhost", f"loop.{KEY}", f"outside.{KEY}"])
def test_ad_is_clear_on_what_no_key_has_signed(client: Client, qname: str) -> None:
    assert not client.ask(qname, flags=RD | AD, additional=[wire.opt(1232, flags=DO)]).flags & AD


def test_the_ad_of_an_upstream_is_cleared(client: Client) -> None:
    response = client.ask(client.world.upstream.fresh("ad"), flags=RD | AD)
    assert response.answer
    assert not response.flags & AD


@pytest.mark.parametrize("is_stream", [False, True])
def test_ad_is_clear_on_a_stale_answer(is_stream: bool) -> None:
    # In this process, where the time is told.
    front = VirtualFront(is_stream=is_stream)
    front.ask("x.example", now=0.0)
    made = answer("x.example", ttl=60, number=1, ad_eligible=True)
    front.funnel.frame_received(made, 0.0)
    asked = wire.query("x.example", flags=RD | AD)
    fresh = front.funnel.receive(asked, ("127.0.0.1", 4000), front.late.append, 1.0, TCP if is_stream else UDP)
    assert fresh
    assert wire.Response(fresh).flags & AD
    assert front.funnel.receive(asked, ("127.0.0.1", 4000), front.late.append, 100.0, TCP if is_stream else UDP) is None
    front.fail("x.example", now=100.0)
    assert front.last().answer
    assert not front.last().flags & AD


def test_do_and_cd_are_passed_to_an_upstream(client: Client) -> None:
    for flags, do in ((RD, 0), (RD | CD, DO), (RD, DO)):
        qname = client.world.upstream.fresh("a")
        client.ask(qname, flags=flags, additional=[wire.opt(1232, flags=do)])
        (heard,) = client.world.upstream.queries_for(qname)
        assert (heard.flags & CD, heard.dnssec_ok) == (flags & CD, bool(do))


def test_signatures_of_an_upstream_come_with_do_and_not_without(client: Client) -> None:
    qname = client.world.upstream.fresh("signed")
    assert [one.rtype for one in client.ask(qname).answer] == [wire.A]
    response = client.ask(qname, additional=[wire.opt(1232, flags=DO)])
    assert [one.rtype for one in response.answer] == [wire.A, wire.RRSIG]


def test_the_proof_of_an_absence_reaches_a_client_that_validates(client: Client) -> None:
    qname = client.world.upstream.fresh("denied")
    assert [one.rtype for one in client.ask(qname).authority] == [wire.SOA]
    response = client.ask(qname, flags=RD | CD, additional=[wire.opt(1232, flags=DO)])
    assert response.rcode == wire.NXDOMAIN
    assert [one.rtype for one in response.authority] == [wire.SOA, wire.RRSIG, wire.NSEC, wire.RRSIG]
    covered = [int.from_bytes(one.rdata[:2]) for one in response.authority if one.rtype == wire.RRSIG]
    assert covered == [wire.SOA, wire.NSEC]


def test_a_question_with_cd_does_not_get_the_answer_kept_for_one_without(client: Client) -> None:
    qname = client.world.upstream.fresh("a")
    for flags in (RD, RD | CD, RD, RD | CD):
        client.ask(qname, flags=flags)
    assert len(client.world.upstream.queries_for(qname)) == 2


def test_ds_at_a_cut_is_no_data_from_the_parents_side(client: Client) -> None:
    response = client.ask(f"friend.{KEY}", wire.DS)
    assert (response.rcode, response.answer) == (wire.NOERROR, ())
    assert [one.owner for one in response.authority] == [wire.name(KEY)]
