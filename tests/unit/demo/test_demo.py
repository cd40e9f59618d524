"""The demo's parts: what counts as right, what dig's words mean, and that every zone file has its rows."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pdns.admin.control import ControlClient, Progress
from p2pdns.cli.dnsclient import DnsReply, ExtendedError, Record
from p2pdns.demo import free_dns_address
from p2pdns.demo.client import read_dig
from p2pdns.demo.ledger import Ledger
from p2pdns.demo.rows import NOBODY, ROWS, Row, problems, short, shown
from p2pdns.errors import Unavailable

ROOT = Path(__file__).resolve().parents[3]
KEY = "o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy"
GOOD = DnsReply(
    name=f"www.{KEY}.",
    type="A",
    server="127.0.0.1:5300",
    transport="udp",
    rcode="NOERROR",
    flags=("qr", "rd", "ra"),
    answer=(Record(f"www.{KEY}.", 300, "A", "192.0.2.80"),),
    authority=(),
    extended_errors=(),
    ms=1.0,
)
SOA = Record(f"{KEY}.", 60, "SOA", f"mail.{KEY}. hostmaster.{KEY}. 1 3600 600 2592000 60")
ADDRESS = Row("address", "example", "www", "A", ("A 192.0.2.80",))
KEYS = {"example": KEY, "friend": "y" * 52}


def test_every_zone_file_has_a_row_and_every_row_a_zone_file() -> None:
    zones = {path.stem for path in (ROOT / "zones").glob("*.zone")}
    assert {row.zone for row in ROWS} == zones | {NOBODY}


def test_at_least_four_rows_are_the_first_of_their_zone() -> None:
    assert len({row.zone for row in ROWS}) >= 4
    # A zone that is asked again after another would show its cost at the wrong row.
    order = [row.zone for row in ROWS]
    assert [zone for zone, before in zip(order, [None, *order], strict=False) if zone != before] == list(
        dict.fromkeys(order)
    )


def test_a_reply_as_expected_has_no_problem() -> None:
    assert list(problems(ADDRESS, KEYS, GOOD)) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rcode": "SERVFAIL"}, "SERVFAIL"),
        ({"name": f"WWW.{KEY}."}, "question came back"),
        ({"flags": ("qr", "tc")}, "truncated"),
        ({"answer": ()}, "empty"),
        ({"answer": (Record(f"www.{KEY}.", 300, "A", "192.0.2.81"),)}, "192.0.2.81"),
        ({"answer": (Record(f"wwW.{KEY}.", 300, "A", "192.0.2.80"),)}, "the answer is at"),
        ({"answer": GOOD.answer * 2}, "192.0.2.80"),
        ({"authority": (SOA,)}, "SOA"),
    ],
)
def test_each_thing_that_is_not_as_expected_is_found(change: dict[str, Any], word: str) -> None:
    found = list(problems(ADDRESS, KEYS, replace(GOOD, **change)))
    assert any(word in text for text in found), found


def test_a_negative_answer_needs_its_soa_and_a_failure_its_reason() -> None:
    nothing = replace(GOOD, rcode="NXDOMAIN", answer=())
    row = replace(ADDRESS, rcode="NXDOMAIN", answer=(), has_soa=True)
    assert list(problems(row, KEYS, nothing)) == ["no SOA"]
    assert list(problems(row, KEYS, replace(nothing, authority=(SOA,)))) == []
    failed = replace(GOOD, rcode="SERVFAIL", answer=())
    row = replace(ADDRESS, rcode="SERVFAIL", answer=())
    assert list(problems(row, KEYS, failed)) == ["no EDE 22 with a text"]
    reason = ExtendedError(22, "no reachable authority", "none has it")
    assert list(problems(row, KEYS, replace(failed, extended_errors=(reason,)))) == []


def test_a_row_may_ask_below_a_petname_and_expect_the_key_of_another_zone() -> None:
    row = Row("x", "example", "www.old", "A", ("DNAME {zone:friend}.", "CNAME www.{zone:friend}."), petname="alice")
    row = replace(row, suffix="p2p.alt")
    assert row.name(KEY) == "www.old.alice.p2p.alt."
    chain = (
        Record("old.alice.p2p.alt.", 300, "DNAME", f"{KEYS['friend']}."),
        Record("www.old.alice.p2p.alt.", 300, "CNAME", f"www.{KEYS['friend']}."),
    )
    reply = replace(GOOD, name="www.old.alice.p2p.alt.", answer=chain)
    assert list(problems(row, KEYS, reply)) == []
    assert shown(reply, KEYS) == "www.yyyyyy…"
    elsewhere = replace(chain[1], owner="www.alice.p2p.alt.")
    assert any("the answer is at" in text for text in problems(row, KEYS, replace(reply, answer=(chain[0], elsewhere))))
    assert any("answer [" in text for text in problems(row, KEYS, replace(reply, answer=chain[:1])))


def test_a_cell_shows_what_was_said() -> None:
    keys = {"example": KEY}
    assert shown(GOOD, keys) == "192.0.2.80"
    assert shown(replace(GOOD, flags=("tc",), answer=()), keys) == "TC: ask again over TCP"
    assert shown(replace(GOOD, answer=(), authority=(SOA,)), keys).startswith("SOA mail.o4dksf… hostmaster.o4dksf… 1")
    chain = (Record("a.", 1, "CNAME", f"www.{KEY}."), Record("b.", 1, "A", "192.0.2.80"))
    assert shown(replace(GOOD, answer=chain), keys) == "www.o4dksf… → 192.0.2.80"


def test_a_key_is_cut_in_the_spelling_it_has() -> None:
    assert short(f"wWw.{KEY.upper()}.p2p.alt.", {"x": KEY}) == "wWw.O4DKSF….p2p.alt."


DIG = f"""
; <<>> DiG 9.18.49 <<>> -r -u @127.0.0.1 -p 5300 pop.{KEY}. A
;; global options: +cmd
;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: NXDOMAIN, id: 44412
;; flags: qr rd ra ad; QUERY: 1, ANSWER: 0, AUTHORITY: 1, ADDITIONAL: 1

;; OPT PSEUDOSECTION:
; EDNS: version: 0, flags:; udp: 1232
; EDE: 22 (No Reachable Authority): (contacts answered, none had it)
; EDE: 29
;; QUESTION SECTION:
;pOp.{KEY}. IN A

;; AUTHORITY SECTION:
{KEY}. 60\tIN\tSOA\tmail.{KEY}. hostmaster.{KEY}. 1 3600 600 2592000 60

;; Query time: 1234 usec
;; SERVER: 127.0.0.1#5300(127.0.0.1) (UDP)
"""


def test_what_dig_prints_is_read_whole() -> None:
    reply = read_dig(DIG, server="127.0.0.1:5300", transport="udp")
    assert (reply.name, reply.type, reply.rcode) == (f"pOp.{KEY}.", "A", "NXDOMAIN")
    assert reply.flags == ("qr", "rd", "ra", "ad")
    assert reply.answer == ()
    assert reply.authority == (SOA,)
    assert reply.extended_errors == (
        ExtendedError(22, "No Reachable Authority", "contacts answered, none had it"),
        ExtendedError(29, "", ""),
    )
    assert reply.ms == 1.234


@pytest.mark.parametrize("text", ["", ";; communications error to 127.0.0.1#1: connection refused\n"])
def test_dig_without_a_reply_is_no_answer(text: str) -> None:
    with pytest.raises(Unavailable):
        read_dig(text, server="127.0.0.1:1", transport="udp")


class FakeEngine(ControlClient):
    """An engine whose list of look-ups grows as a script says."""

    def __init__(self, script: Iterator[list[dict[str, Any]]]) -> None:
        super().__init__(Path("/nonexistent"))
        self.script = script

    def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """Return the next list."""
        assert verb == "lookups"
        return {"lookups": next(self.script)}


def report(rpcs: int, *, key: str = KEY, is_refresh: bool = False) -> dict[str, Any]:
    """Return a look-up as the engine tells it."""
    return {"key": key, "rpcs": rpcs, "peers": 7, "is_refresh": is_refresh}


def test_the_first_question_for_a_key_waits_for_the_end_of_its_look_up() -> None:
    ledger = Ledger(FakeEngine(iter([[], [], [report(9, key="other")], [report(12)]])))
    ledger.begin(KEY)
    spent = ledger.spent()
    assert spent is not None
    assert (spent.rpcs, spent.peers) == (12, 7)


def test_a_question_through_two_zones_costs_what_both_cost_and_neither_is_waited_for_twice() -> None:
    other = report(5, key="other")
    script = [[], [], [report(12)], [report(12), other], [report(12), other], [report(12), other]]
    ledger = Ledger(FakeEngine(iter(script)))
    ledger.begin(KEY, "other")
    spent = ledger.spent()
    assert spent is not None
    assert spent.rpcs == 17
    ledger.begin("other")
    assert ledger.spent() is None


def test_later_questions_cost_what_is_new_and_a_refresh_is_nobodys() -> None:
    first = [report(12)]
    ledger = Ledger(FakeEngine(iter([[], first, first, [*first, report(20, is_refresh=True)]])))
    ledger.begin(KEY)
    assert ledger.spent() is not None
    ledger.begin(KEY)
    assert ledger.spent() is None


def test_a_port_that_is_taken_is_replaced_by_another() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        host, other = free_dns_address(port)
    assert host == "127.0.0.1"
    assert other not in (0, port)
