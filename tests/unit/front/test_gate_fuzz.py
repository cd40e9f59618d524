"""The gate under queries built wrong on purpose: its verdict against a reading of the query that it has no part in."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from p2pdns.dns.registry import Rcode
from p2pdns.front.gate import ClientQuery, Dropped, Told
from p2pdns.front.transport import TCP, UDP
from tests.front_messages import CALM, gate, unheard
from tests.fuzz.door import HERE
from tests.fuzz.reading import reading_of
from tests.fuzz.strategies import queries

MANY = settings(CALM, max_examples=250)


@MANY
@given(queries(), st.booleans())
def test_what_the_gate_reads_is_what_stands_there(data: bytes, is_stream: bool) -> None:
    door = gate()
    verdict = door.verdict(data, door.access.client(HERE, TCP if is_stream else UDP, unheard), 0.0)
    reading = reading_of(data)
    assert isinstance(verdict, Dropped) != reading.is_query
    if isinstance(verdict, Dropped):
        return
    asked = verdict.asked if isinstance(verdict, Told) else verdict
    assert (asked.id, asked.flags) == (data[:2], int.from_bytes(data[2:4], "big"))
    assert asked.question == reading.question
    assert asked.has_opt == (reading.opt is not None)
    assert asked.dnssec_ok == reading.wants_dnssec
    assert asked.size_max == reading.size_max(is_stream=is_stream)


@MANY
@given(queries(), st.booleans())
def test_what_passes_is_one_question_of_a_sane_query(data: bytes, is_stream: bool) -> None:
    door = gate()
    verdict = door.verdict(data, door.access.client(HERE, TCP if is_stream else UDP, unheard), 0.0)
    reading = reading_of(data)
    if isinstance(verdict, ClientQuery):
        assert reading.question
        assert data[4:6] == b"\x00\x01"
        assert not verdict.flags & 0xF800
        assert _version_of(reading.opt) == 0
        assert verdict.key[:-1].lower() == verdict.question.lower()
    elif isinstance(verdict, Told) and verdict.rcode in (Rcode.NOTIMP, Rcode.BADVERS):
        has_opcode = bool(verdict.asked.flags & 0x7800)
        assert (verdict.rcode == Rcode.NOTIMP) == has_opcode
        assert verdict.rcode == Rcode.NOTIMP or _version_of(reading.opt)


@MANY
@given(queries(), st.integers(1, 255))
def test_bytes_behind_a_message_change_nothing(data: bytes, byte: int) -> None:
    """Unless a part of the message was still missing: then whatever comes is taken for that part."""
    assume(not reading_of(data).is_cut)
    door = gate()
    client = door.access.client(HERE, UDP, unheard)
    verdict = door.verdict(data, client, 0.0)
    longer = door.verdict(data + bytes([byte]), client, 0.0)
    assert _without_options(verdict) == _without_options(longer)


def _version_of(opt: tuple[int, int, bytes] | None) -> int:
    return 0 if opt is None else opt[1] >> 16 & 0xFF


def _without_options(verdict: Dropped | Told | ClientQuery) -> tuple[str, ClientQuery | None]:
    if isinstance(verdict, Dropped):
        return type(verdict).__name__, None
    return type(verdict).__name__, verdict.asked if isinstance(verdict, Told) else verdict
