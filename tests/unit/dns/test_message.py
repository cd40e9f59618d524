"""Messages: vectors good and bad, identity, what is compressed and what is not, bounded work."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dns.labels import MESSAGE_BYTES_MAX
from p2pdns.dns.message import RR, Message, Question, RRset, records_of, type_of, type_text
from p2pdns.dns.message.rdata import names_in, rewrite_wires, svcb_params, with_svcb_params
from p2pdns.dns.message.wire import RECORDS_MAX, STEPS_MAX, WallBuffer, compose, compose_for_cache, parse, parse_buffer
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Flag, Rcode, Type
from p2pdns.errors import FormatError
from tests.ttl_walk import ttl_offsets
from tests.unit.dns.strategies import KEY, TYPES, messages, names, rdata_of, types, uncompressed

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "messages.json").read_text("utf-8"))
WWW = Name.read("www.example")


def header(question_count: int = 0, *record_counts: int) -> bytes:
    """Return a response header that promises so much."""
    return struct.pack("!6H", 1, Flag.QR, question_count, *[*record_counts, 0, 0, 0][:3])


def vector_name(vector: dict[str, Any]) -> str:
    """Return what the test run calls a vector."""
    return str(vector["name"])


@pytest.mark.parametrize("vector", VECTORS["good"], ids=vector_name)
def test_good_message_says_what_the_vector_says(vector: dict[str, Any]) -> None:
    message = parse(bytes.fromhex(vector["wire"]))
    assert str(message.question) == vector["question"]
    assert [record.rdata.hex() for record in message.answer + message.additional] == vector["rdata"]
    assert parse(compose(message)) == message


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=vector_name)
def test_bad_message_is_refused_for_its_one_reason(vector: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        parse(bytes.fromhex(vector["wire"]))
    assert caught.value.reason == vector["reason"]


@pytest.mark.parametrize("vector", VECTORS["good"], ids=vector_name)
def test_every_prefix_and_every_tail_of_a_good_message_is_refused(vector: dict[str, Any]) -> None:
    wire = bytes.fromhex(vector["wire"])
    for length in range(len(wire)):
        with pytest.raises(FormatError):
            parse(wire[:length])
    with pytest.raises(FormatError, match="trailing"):
        parse(wire + b"\x00")


@given(messages)
def test_parse_after_compose_is_the_identity(message: Message) -> None:
    for wire in (compose(message), uncompressed(message)):
        again = parse(wire)
        assert again == message
        for record, twin in zip(again.answer, message.answer, strict=True):
            assert record.rdata == twin.rdata
    assert len(compose(message)) <= len(uncompressed(message))


@given(messages)
def test_the_wire_form_is_understood_elsewhere(message: Message) -> None:
    """dnspython refuses some RDATA that we pass through, so it reads the owners and the question alone."""
    bare = Message(
        message.id,
        message.flags & ~0x7800,
        message.question,
        tuple(RR(record.owner, 65280, 1, record.ttl & 0x7FFFFFFF, b"x") for record in message.answer),
    )
    read = dns.message.from_wire(compose(bare), one_rr_per_rrset=True)
    assert [rrset.name.to_wire() for rrset in read.answer] == [
        (message.question.name if message.question and record.owner == message.question.name else record.owner).wire()
        for record in bare.answer
    ]


@given(messages)
def test_what_is_kept_comes_with_the_places_of_its_ttls(message: Message) -> None:
    wire, offsets = compose_for_cache(message)
    assert wire == compose(message)
    assert offsets == ttl_offsets(wire)
    records = message.answer + message.authority + message.additional
    found = [struct.unpack_from("!I", wire, offset)[0] for offset in offsets]
    assert found == [record.ttl for record in records if record.rtype != Type.OPT]


def test_an_opt_has_no_ttl() -> None:
    opt = RR(Name.root(), Type.OPT, 1232, 0, b"")
    address = RR(WWW, Type.A, 1, 300, bytes(4))
    _, offsets = compose_for_cache(Message(additional=(opt, address), question=Question(WWW, Type.A)))
    assert len(offsets) == 1


def test_owner_equal_to_the_question_is_a_pointer_to_offset_12_whatever_its_case() -> None:
    record = RR(Name.read("WWW.Example"), Type.A, 1, 300, bytes(4))
    wire = compose(Message(0, Flag.QR, Question(WWW, Type.A), (record,)))
    assert wire[12 + len(WWW.wire()) + 4 :].startswith(b"\xc0\x0c")
    assert parse(wire).answer[0].owner.labels == WWW.labels


def test_names_in_rdata_keep_their_case_under_compression() -> None:
    target = Name.read("Mail.EXAMPLE")
    message = Message(0, Flag.QR, Question(WWW, Type.MX), (RR(WWW, Type.MX, 1, 1, b"\0\1" + target.wire()),))
    assert parse(compose(message)).answer[0].rdata == b"\0\1" + target.wire()


@pytest.mark.parametrize("rtype", [Type.NS, Type.CNAME, Type.PTR, Type.MX, Type.SOA])
def test_rdata_names_of_rfc_1035_types_are_compressed(rtype: Type) -> None:
    rdata = {Type.MX: b"\0\1" + WWW.wire(), Type.SOA: WWW.wire() * 2 + bytes(20)}.get(rtype, WWW.wire())
    wire = compose(Message(0, Flag.QR, Question(WWW, rtype), (RR(WWW, rtype, 1, 1, rdata),)))
    assert wire.count(WWW.wire()) == 1
    assert parse(wire).answer[0].rdata == rdata


@pytest.mark.parametrize("rtype", [Type.SRV, Type.NAPTR, Type.DNAME, Type.SVCB, Type.HTTPS, Type.RP, 65280])
def test_rdata_names_of_younger_types_are_never_compressed(rtype: int) -> None:
    front = {Type.SRV: bytes(6), Type.NAPTR: bytes(4) + b"\1u\0\0", Type.SVCB: b"\0\1", Type.HTTPS: b"\0\1"}
    rdata = front.get(Type(rtype) if rtype < 300 else Type.A, b"") + WWW.wire()
    wire = compose(Message(0, Flag.QR, Question(WWW, rtype), (RR(WWW, rtype, 1, 1, rdata),)))
    assert wire.endswith(rdata)


@pytest.mark.parametrize("rtype", [Type.SRV, Type.DNAME, Type.SVCB, Type.NAPTR])
def test_compressed_names_in_younger_types_are_read_all_the_same(rtype: Type) -> None:
    front = {Type.SRV: bytes(6), Type.NAPTR: bytes(4) + b"\1u\0\0", Type.SVCB: b"\0\1"}.get(rtype, b"")
    rdata = front + b"\xc0\x0c"
    wire = header(1, 1) + Question(WWW, rtype).wire() + b"\xc0\x0c" + struct.pack("!HHIH", rtype, 1, 1, len(rdata))
    assert parse(wire + rdata).answer[0].rdata == front + WWW.wire()


def test_messages_above_16_kib_stay_correct() -> None:
    """No pointer reaches past offset 16383, so suffixes that begin there must be written out again."""
    records = tuple(
        RR(Name.of(b"host%d" % i, b"deep", b"Zone%d" % (i // 2)), Type.TXT, 1, i, b"\x40" + b"x" * 64)
        for i in range(600)
    )
    message = Message(7, Flag.QR, Question(WWW, Type.TXT), records)
    wire = compose(message)
    assert len(wire) > 3 * 16384
    assert parse(wire) == message
    read = dns.message.from_wire(wire, one_rr_per_rrset=True)
    assert [rrset.name.labels[:-1] for rrset in read.answer] == [record.owner.labels for record in records]


def test_a_message_past_65535_bytes_is_refused_on_both_sides() -> None:
    record = RR(WWW, Type.TXT, 1, 1, b"x" * 60000)
    with pytest.raises(FormatError, match="message-too-long"):
        compose(Message(answer=(record, record)))
    with pytest.raises(FormatError, match="message-too-long"):
        parse(bytes(MESSAGE_BYTES_MAX + 1))


def _worst_names() -> bytes:
    """Return 64 KB of records whose owners are fresh labels before the longest possible tail of one-byte labels."""
    tail = b"\x01a" * 125 + b"\x00"
    wire = header(1, 2047) + tail + b"\0\1\0\1"
    start = 12
    records = b"".join(
        b"\x01"
        + bytes((65 + i % 26,))
        + struct.pack("!H", 0xC000 | start + 2 * (i % 120))
        + struct.pack("!HHIH", 1, 1, 1, 4)
        + bytes(4)
        for i in range(2047)
    )
    return wire + records


def _hop_chain() -> bytes:
    """Return 64 KB in which each pointer leads to the one before it, and every record starts at the far end."""
    hops = b"\x00" + b"".join(struct.pack("!H", 0xC000 | max(12, 12 + 2 * i - 1)) for i in range(8000))
    return header(0, 1) + hops


@pytest.mark.parametrize(
    "wire",
    [
        _worst_names(),
        _hop_chain(),
        header(0, 2048) + (b"\x01a" * 126 + b"\x00" + struct.pack("!HHIH", 2, 1, 1, 0)) * 250,
        header(0, 2048, 0, 0) + b"\x00" * 65000,
        (
            header(0, 2048)
            + b"".join(
                b"\x00" + struct.pack("!HHIH", 6, 1, 1, 24) + b"\xc0\x0c\xc0\x0c" + bytes(20) for _ in range(1800)
            )
        )[:65535],
    ],
    ids=["longest names, all distinct", "pointer chain", "long names one after the other", "zeros", "SOAs"],
)
def test_64_kb_end_after_a_bounded_number_of_steps(wire: bytes) -> None:
    buffer = WallBuffer(wire)
    with contextlib.suppress(FormatError):
        parse_buffer(buffer, None)
    # One name can overstep by no more than its own labels.
    assert buffer.steps <= STEPS_MAX + 128


def test_names_that_share_a_tail_cost_steps_and_not_their_square() -> None:
    """A message within the limits of real answers stays far from the work limit."""
    records = tuple(RR(Name.of(b"h%d" % i, b"a", b"b", b"c"), Type.A, 1, 1, bytes(4)) for i in range(RECORDS_MAX))
    buffer = WallBuffer(compose(Message(0, Flag.QR, None, records)))
    assert len(parse_buffer(buffer, None).answer) == RECORDS_MAX
    assert buffer.steps < STEPS_MAX / 2


def test_work_beyond_the_limit_is_refused() -> None:
    buffer = WallBuffer(_worst_names())
    with pytest.raises(FormatError, match="work-limit"):
        parse_buffer(buffer, {})


def test_bad_rdata_can_be_left_out_and_counted() -> None:
    wire = header(0, 3) + b"".join(
        b"\1a\0" + struct.pack("!HHIH", rtype, 1, 1, len(rdata)) + rdata
        for rtype, rdata in ((1, b"abc"), (1, b"abcd"), (5, b"\xc0\xff"))
    )
    counted: dict[str, int] = {}
    assert [record.rdata for record in parse(wire, bad_rdata=counted).answer] == [b"abcd"]
    assert counted == {"rdata-length": 1, "bad-pointer": 1}
    with pytest.raises(FormatError):
        parse(wire)


def test_opt_gives_the_upper_bits_of_the_rcode() -> None:
    opt = RR(Name.root(), Type.OPT, 1232, 1 << 24, b"")
    message = Message(0, Flag.QR, None, additional=(opt,))
    assert message.rcode == Rcode.BADVERS
    assert parse(compose(message)).opt == opt
    assert Message(flags=0x8003).rcode == Rcode.NXDOMAIN


def test_flags_have_names() -> None:
    message = Message(flags=0x8180 | 0x30)
    assert message.is_response
    assert message.ad
    assert not Message().is_response
    assert not Message().ad
    assert Message().opt is None


@given(names, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_questions_come_back(name: Name, rtype: int, rclass: int) -> None:
    question = Question(name, rtype, rclass)
    assert Question.parse(question.wire()) == question
    with pytest.raises(FormatError):
        Question.parse(question.wire() + b"x")
    with pytest.raises(FormatError):
        Question.parse(question.wire()[:-1])


@given(types.flatmap(lambda rtype: st.tuples(st.just(rtype), rdata_of(rtype, names))))
def test_rewriting_with_the_same_names_changes_nothing(pair: tuple[int, bytes]) -> None:
    rtype, rdata = pair
    assert rewrite_wires(rtype, rdata, lambda name: name) == rdata
    seen: list[bytes] = []
    rewrite_wires(rtype, rdata, lambda name: seen.append(name) or name)  # type: ignore[func-returns-value]
    assert seen == [name.wire() for name in names_in(rtype, rdata)]


@pytest.mark.parametrize("rtype", [2, 5, 6, 12, 15, 33, 35, 39, 64, 65])
def test_every_name_of_the_listed_types_is_rewritten(rtype: int) -> None:
    name = WWW.wire()
    shapes = {6: name * 2 + bytes(20), 15: b"\0\1" + name, 33: bytes(6) + name, 35: bytes(4) + b"\1a\1b\1c" + name}
    rdata = shapes.get(rtype, b"\0\1" + name + b"\0\7\0\1x" if rtype in (64, 65) else name)
    moved = rewrite_wires(rtype, rdata, lambda found: found[:-1] + KEY.wire())
    assert moved == rdata.replace(name, WWW.under(KEY).wire())
    assert names_in(rtype, moved) == (WWW.under(KEY),) * (2 if rtype == 6 else 1)


@pytest.mark.parametrize("rtype", [rtype for rtype in TYPES if rtype in (1, 28, 16, 257, 65280)] + [Type.RP, Type.KX])
def test_other_types_pass_through_untouched(rtype: int) -> None:
    assert rewrite_wires(rtype, WWW.wire(), lambda _: KEY.wire()) == WWW.wire()
    assert names_in(rtype, WWW.wire()) == ()


def test_rdata_that_does_not_fit_is_refused_not_guessed() -> None:
    for rtype, rdata in ((5, b"\1a"), (15, b"\0"), (6, b"\0\0"), (35, b"\0\0\0\0\5a"), (5, b"\xc0\x0c")):
        with pytest.raises(FormatError):
            names_in(rtype, rdata)
        with pytest.raises(FormatError):
            compose(Message(answer=(RR(WWW, rtype, 1, 1, rdata),))) if rtype != 35 else names_in(rtype, rdata)


def test_service_parameters_come_apart_and_together() -> None:
    rdata = b"\0\1\0" + b"\0\1\0\3\2h2" + b"\0\4\0\4\x7f\0\0\1"
    assert svcb_params(rdata) == ((1, b"\2h2"), (4, b"\x7f\0\0\1"))
    assert with_svcb_params(rdata, svcb_params(rdata)) == rdata
    assert with_svcb_params(rdata, ()) == b"\0\1\0"
    for bad in (b"\0\1", b"\0\1\0\2x", b"\0\4\0\0", b"\0\4\0\5abcde", b"\0\2\0\0\0\1\0\0", b"\0\1\0\0\0\1\0\0"):
        with pytest.raises(FormatError, match="svcb-params"):
            svcb_params(b"\0\1\0" + bad)


def test_types_have_text_and_codes() -> None:
    for rtype in Type:
        assert type_of(type_text(rtype)) == rtype
        assert type_of(type_text(rtype).lower()) == rtype
        assert type_of(f"TYPE{int(rtype)}") == rtype
    assert type_text(65280) == "TYPE65280"
    for text in ("", "TYPE", "TYPE65536", "TYPE-1", "AA", "TYPE1x", "TYPE٣"):
        with pytest.raises(FormatError, match="unknown-type"):
            type_of(text)


def test_rrsets_become_records_in_order() -> None:
    one, two = RRset(WWW, Type.A, 5, (b"abcd", b"efgh")), RRset(KEY, Type.TXT, 6, (b"\0",))
    assert [record.rdata for record in records_of([one, two])] == [b"abcd", b"efgh", b"\0"]
    assert one.records()[0] == RR(WWW, Type.A, 1, 5, b"abcd")
