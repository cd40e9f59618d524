"""KRPC: every message comes back, every fault has a reason, every reply keeps within its datagram."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dht import krpc
from p2pdns.dht.bencode import decode, encode
from p2pdns.dht.krpc import (
    AnnouncePeer,
    BadQuery,
    Error,
    FindNode,
    Get,
    GetPeers,
    Message,
    NodeInfo,
    Ping,
    PutImmutable,
    PutMutable,
    Reply,
    Request,
    RequestMessage,
    Unknown,
)
from p2pdns.dht.krpc.compact import compose_address, compose_contacts
from p2pdns.dht.krpc.reading import parse, parse_any
from p2pdns.dht.krpc.usual import parse_usual
from p2pdns.dht.krpc.writing import compose, compose_error, compose_reply_within
from p2pdns.errors import FormatError
from p2pdns.values import replace

ID = b"i" * 20
TARGET = b"t" * 20
NETWORK = krpc.network_of("test")
IPV4 = tuple(NodeInfo(bytes([n]) * 20, (f"192.0.2.{n}", 6881)) for n in range(1, 9))
IPV6 = tuple(NodeInfo(bytes([n]) * 20, (f"2001:db8::{n}", 6881)) for n in range(1, 9))

IDS = st.binary(min_size=20, max_size=20)
SEQS = st.integers(min_value=0, max_value=krpc.SEQ_MAX)
PORTS = st.integers(min_value=1, max_value=65_535)
ADDRESSES4 = st.tuples(st.ip_addresses(v=4).map(str), PORTS)
ADDRESSES6 = st.tuples(st.ip_addresses(v=6).map(str), PORTS)
CONTACTS4 = st.lists(st.builds(NodeInfo, IDS, ADDRESSES4), max_size=8).map(tuple)
CONTACTS6 = st.lists(st.builds(NodeInfo, IDS, ADDRESSES6), max_size=8).map(tuple)
TOKENS = st.binary(max_size=krpc.TOKEN_BYTES_MAX)
FORMS = st.one_of(
    st.binary(max_size=100),
    st.integers(min_value=-9, max_value=9),
    st.dictionaries(st.binary(max_size=3), st.integers(min_value=0, max_value=9), max_size=3),
).map(encode)
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.just(Ping()),
    st.builds(FindNode, IDS, st.integers(min_value=0, max_value=400)),
    st.builds(Get, IDS, st.none() | SEQS, st.none() | TOKENS, st.integers(min_value=0, max_value=400), st.none() | IDS),
    st.builds(
        PutMutable,
        st.binary(min_size=32, max_size=32),
        SEQS,
        FORMS,
        st.binary(min_size=64, max_size=64),
        TOKENS,
        st.binary(max_size=70),
        st.none() | SEQS,
        st.booleans(),
    ),
    st.builds(PutImmutable, FORMS, TOKENS, st.booleans()),
    st.builds(GetPeers, IDS),
    st.builds(AnnouncePeer, IDS, st.none() | PORTS, TOKENS),
    st.builds(Unknown, st.sampled_from([b"vote", b"sample_infohashes"]), st.none() | IDS),
)
ENVELOPE = {
    "transaction": st.binary(min_size=1, max_size=32),
    "version": st.none() | st.binary(max_size=8),
    "network": st.none() | st.binary(min_size=8, max_size=8),
}
QUERIES = st.builds(
    RequestMessage,
    node_id=IDS,
    request=REQUESTS,
    read_only=st.booleans(),
    want=st.sampled_from([(), (b"n4",), (b"n6",), (b"n4", b"n6")]),
    **ENVELOPE,
)
REPLIES = st.builds(
    Reply,
    node_id=IDS,
    nodes=CONTACTS4,
    nodes6=CONTACTS6,
    token=st.none() | TOKENS,
    key=st.none() | st.binary(min_size=32, max_size=32),
    signature=st.none() | st.binary(min_size=64, max_size=64),
    seq=st.none() | SEQS,
    value=st.none() | FORMS,
    peers=st.none() | st.lists(ADDRESSES4 | ADDRESSES6, max_size=4).map(tuple),
    is_proof_wanted=st.booleans(),
    ip=st.none() | ADDRESSES4 | ADDRESSES6,
    **ENVELOPE,
)
ERRORS = st.builds(
    Error,
    code=st.integers(min_value=-9, max_value=999),
    text=st.text(st.characters(codec="utf-8"), max_size=60),
    ip=st.none() | ADDRESSES4,
    **ENVELOPE,
)


@given(QUERIES | REPLIES | ERRORS)
def test_every_message_comes_back(message: Message) -> None:
    data = compose(message)
    assert parse(data) == message
    assert compose(parse(data)) == data


USUAL = {
    "transaction": st.sampled_from([b"tttt", b"tt", b"1:et"]),
    "version": st.sampled_from([None, b"PD\x00\x01"]),
    "network": st.binary(min_size=8, max_size=8),
}
USUAL_TOKENS = st.none() | st.binary(min_size=8, max_size=8)
USUAL_SEQS = st.none() | st.integers(min_value=0, max_value=10**18 - 1)
USUAL_MESSAGES = st.one_of(
    st.builds(
        RequestMessage,
        node_id=IDS,
        request=st.one_of(
            st.just(Ping()),
            st.builds(FindNode, IDS, st.integers(min_value=0, max_value=400)),
            st.builds(Get, IDS, USUAL_SEQS, USUAL_TOKENS, st.integers(min_value=0, max_value=400), st.none() | IDS),
        ),
        read_only=st.booleans(),
        **USUAL,
    ),
    st.builds(
        Reply,
        node_id=IDS,
        nodes=CONTACTS4,
        token=USUAL_TOKENS,
        seq=USUAL_SEQS,
        is_proof_wanted=st.booleans(),
        ip=st.none() | ADDRESSES4,
        **USUAL,
    ),
)


@given(USUAL_MESSAGES)
def test_what_nodes_of_ours_write_nearly_always_is_read_by_the_short_way(message: Message) -> None:
    assert parse_usual(compose(message)) == message


def read_by(reader: Callable[[bytes], Message | None], data: bytes) -> Message | str | None:
    """Return what a reader makes of a datagram, or the reason why it makes nothing of it."""
    try:
        return reader(data)
    except FormatError as error:
        return f"{type(error).__name__} {error.reason}"


@given(USUAL_MESSAGES, st.integers(min_value=0, max_value=2_000), st.binary(max_size=3), st.integers(0, 3))
def test_a_datagram_that_was_tampered_with_has_one_meaning_by_both_ways(
    message: Message, at: int, inserted: bytes, removed_bytes: int
) -> None:
    data = compose(message)
    at %= len(data)
    data = data[:at] + inserted + data[at + removed_bytes :]
    short = read_by(parse_usual, data)
    assert short is None or short == read_by(parse_any, data)


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (b"d1:ad2:id20:" + ID + b"3:pad3:", b"\x00\x006:target20:" + TARGET),
        (b"d1:ad2:id20:" + ID + b"3:pad1:", b"\x00\x006:target20:" + TARGET),
        (b"d1:ad2:id20:" + ID, b""),
        (b"d1:ad2:id20:" + ID + b"3:seqi01e6:target20:", TARGET),
    ],
)
def test_a_query_of_nearly_the_usual_form_is_left_to_the_general_decoder(head: bytes, tail: bytes) -> None:
    data = head + tail + b"e2:nw8:" + NETWORK + b"1:q3:get1:t4:tttt1:y1:qe"
    assert parse_usual(data) is None
    with pytest.raises(FormatError):
        parse(data)


def test_contacts_of_a_broken_length_are_left_to_the_general_decoder() -> None:
    data = b"d2:nw8:" + NETWORK + b"1:rd2:id20:" + ID + b"5:nodes25:" + bytes(25) + b"e1:t4:tttt1:y1:re"
    assert parse_usual(data) is None
    with pytest.raises(FormatError, match="krpc-nodes"):
        parse(data)


# The examples that BEP 5 prints.
BEP5 = [
    (
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
        RequestMessage(transaction=b"aa", node_id=b"abcdefghij0123456789", request=Ping()),
    ),
    (
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
        RequestMessage(transaction=b"aa", node_id=b"abcdefghij0123456789", request=FindNode(b"mnopqrstuvwxyz123456")),
    ),
    (
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
        RequestMessage(transaction=b"aa", node_id=b"abcdefghij0123456789", request=GetPeers(b"mnopqrstuvwxyz123456")),
    ),
    (
        b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e"
        b"5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
        RequestMessage(
            transaction=b"aa",
            node_id=b"abcdefghij0123456789",
            request=AnnouncePeer(b"mnopqrstuvwxyz123456", None, b"aoeusnth"),
        ),
    ),
    (
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
        Reply(
            transaction=b"aa",
            node_id=b"abcdefghij0123456789",
            token=b"aoeusnth",
            peers=(("97.120.106.101", 0x2E75), ("105.100.104.116", 0x6E6D)),
        ),
    ),
    (
        b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
        Error(transaction=b"aa", code=201, text="A Generic Error Ocurred"),
    ),
]


# Whoever writes two fields in the wrong order does so at least here, where no field is missing.
WHOLE_REPLY = Reply(
    transaction=b"aa",
    node_id=ID,
    nodes=(NodeInfo(ID, ("192.0.2.1", 1)),),
    nodes6=(NodeInfo(ID, ("2001:db8::1", 1)),),
    token=b"tok",
    key=b"k" * 32,
    signature=b"s" * 64,
    seq=1,
    value=b"1:x",
    peers=(("192.0.2.1", 1),),
    is_proof_wanted=True,
    ip=("192.0.2.1", 1),
    version=b"PD",
    network=b"n" * 8,
)
WHOLE_REQUESTS = (
    FindNode(ID, 9),
    Get(ID, 1, b"tok", 9, ID),
    PutMutable(b"k" * 32, 1, b"1:x", b"s" * 64, b"tok", b"salt", 1),
    PutImmutable(b"1:x", b"tok"),
    AnnouncePeer(ID, 1, b"tok"),
)
WHOLE_QUERIES = [
    RequestMessage(
        transaction=b"aa",
        node_id=ID,
        request=request,
        read_only=True,
        want=(b"n4", b"n6"),
        version=b"PD",
        network=b"n" * 8,
    )
    for request in WHOLE_REQUESTS
]


@pytest.mark.parametrize("message", [WHOLE_REPLY, *WHOLE_QUERIES])
def test_a_message_with_every_field_is_written_in_the_one_canonical_form(message: Message) -> None:
    data = compose(message)
    assert encode(decode(data)) == data
    assert parse(data) == message


@given(QUERIES | REPLIES | ERRORS)
def test_every_message_is_written_in_the_one_canonical_form(message: Message) -> None:
    data = compose(message)
    assert encode(decode(data)) == data


@pytest.mark.parametrize(("data", "message"), BEP5)
def test_the_examples_of_bep_5_are_read(data: bytes, message: Message) -> None:
    assert parse(data) == message


def query(method: bytes = b"ping", **arguments: object) -> bytes:
    found = {name.encode(): value for name, value in arguments.items() if value is not None}
    return encode({b"a": {b"id": ID} | found, b"q": method, b"t": b"aa", b"y": b"q"})  # type: ignore[dict-item]


def reply(**values: object) -> bytes:
    found = {name.encode(): value for name, value in values.items()}
    return encode({b"r": {b"id": ID} | found, b"t": b"aa", b"y": b"r"})  # type: ignore[dict-item]


PUT: dict[str, object] = {"k": b"k" * 32, "sig": b"s" * 64, "seq": 1, "v": b"x", "token": b"tok"}

# A sender who can be told gets 203: each row is a field that would otherwise decide something wrongly.
BAD_QUERIES: list[tuple[bytes, str]] = [
    (query(id=b"short"), "krpc-id"),
    (query(id=7), "krpc-id"),
    (encode({b"q": b"ping", b"t": b"aa", b"y": b"q"}), "krpc-arguments"),
    (encode({b"a": {b"id": ID}, b"t": b"aa", b"y": b"q"}), "krpc-method"),
    (encode({b"a": [ID], b"q": b"ping", b"t": b"aa", b"y": b"q"}), "krpc-arguments"),
    (query(b"find_node"), "krpc-target"),
    (query(b"find_node", target=b"x" * 21), "krpc-target"),
    (query(b"get", target=[]), "krpc-target"),
    (query(b"get", target=TARGET, seq=b"1"), "krpc-seq"),
    (query(b"get", target=TARGET, seq=-1), "krpc-seq"),
    (query(b"get_peers", info_hash=b""), "krpc-info-hash"),
    (query(b"announce_peer", info_hash=TARGET, port=6881), "krpc-token"),
    (query(b"announce_peer", info_hash=TARGET, port=0, token=b"x"), "krpc-port"),
    (query(b"announce_peer", info_hash=TARGET, port=65_536, token=b"x"), "krpc-port"),
    (query(b"announce_peer", info_hash=TARGET, token=b"x"), "krpc-port"),
    (query(b"put", **PUT | {"token": None}), "krpc-token"),
    (query(b"put", **PUT | {"token": b"x" * 65}), "krpc-token"),
    (query(b"put", **PUT | {"v": None}), "krpc-no-v"),
    (query(b"put", **PUT | {"k": b"k" * 31}), "krpc-k"),
    (query(b"put", **PUT | {"sig": b"s" * 63}), "krpc-sig"),
    (query(b"put", **PUT | {"sig": None}), "krpc-sig"),
    (query(b"put", **PUT | {"seq": None}), "krpc-no-seq"),
    (query(b"put", **PUT | {"seq": -1}), "krpc-seq"),
    (query(b"put", **PUT | {"seq": 2**63}), "krpc-seq"),
    (query(b"put", **PUT | {"cas": b"1"}), "krpc-cas"),
    (query(b"put", **PUT | {"salt": 1}), "krpc-salt"),
]


@pytest.mark.parametrize(
    ("data", "reason"), BAD_QUERIES, ids=[f"{reason}-{n}" for n, (_, reason) in enumerate(BAD_QUERIES)]
)
def test_a_bad_query_names_its_transaction_and_203(data: bytes, reason: str) -> None:
    with pytest.raises(BadQuery) as caught:
        parse(data)
    assert (caught.value.reason, caught.value.code, caught.value.transaction) == (reason, 203, b"aa")


BAD_DATAGRAMS: list[tuple[bytes, str]] = [
    (b"", "bencode-truncated"),
    (b"i1e", "krpc-no-dictionary"),
    (b"de", "krpc-transaction"),
    (b"d1:ti1e1:y1:qe", "krpc-transaction"),
    (b"d1:t0:1:y1:qe", "krpc-transaction"),
    (encode({b"t": b"x" * 33, b"y": b"q"}), "krpc-transaction"),
    (b"d1:t2:aae", "krpc-kind"),
    (b"d1:t2:aa1:y1:xe", "krpc-kind"),
    (b"d1:t2:aa1:yleee", "bencode-tail"),
    (b"d1:t2:aa1:ylee", "krpc-kind"),
    (encode({b"nw": b"short", b"t": b"aa", b"y": b"q"}), "krpc-network"),
    (encode({b"nw": 7, b"t": b"aa", b"y": b"q"}), "krpc-network"),
    (encode({b"t": b"aa", b"y": b"r"}), "krpc-reply"),
    (encode({b"r": {}, b"t": b"aa", b"y": b"r"}), "krpc-id"),
    (reply(nodes=b"x" * 25), "krpc-nodes"),
    (reply(nodes=[]), "krpc-nodes"),
    (reply(nodes6=b"x" * 26), "krpc-nodes"),
    (reply(token=1), "krpc-token"),
    (reply(token=b"x" * 65), "krpc-token"),
    (reply(k=b"k" * 33), "krpc-k"),
    (reply(sig=b""), "krpc-sig"),
    (reply(seq=2**63), "krpc-seq"),
    (reply(values=b"peers"), "krpc-values"),
    (encode({b"e": [], b"t": b"aa", b"y": b"e"}), "krpc-error"),
    (encode({b"e": [b"201", b"text"], b"t": b"aa", b"y": b"e"}), "krpc-error"),
    (encode({b"e": [201, 7], b"t": b"aa", b"y": b"e"}), "krpc-error"),
    (encode({b"e": b"text", b"t": b"aa", b"y": b"e"}), "krpc-error"),
    (b"d1:x2048:" + b"x" * 2048 + b"e", "krpc-too-long"),
]


@pytest.mark.parametrize(
    ("data", "reason"), BAD_DATAGRAMS, ids=[f"{reason}-{n}" for n, (_, reason) in enumerate(BAD_DATAGRAMS)]
)
def test_a_bad_datagram_is_a_format_error_and_gets_no_answer(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(data)
    assert caught.value.reason == reason
    assert not isinstance(caught.value, BadQuery)


def test_advice_of_the_wrong_type_counts_as_absent() -> None:
    top = {b"v": 7, b"ip": b"four", b"ro": b"1", b"t": b"aa", b"y": b"r", b"r": {b"id": ID}}
    assert parse(encode(top)) == Reply(transaction=b"aa", node_id=ID)  # type: ignore[arg-type]
    asked = parse(query(want=b"n4", pad=7, token=[]))
    assert isinstance(asked, RequestMessage)
    assert asked.want == ()
    assert not asked.read_only
    assert parse(query(b"get", target=TARGET, token=7, pad=[])) == RequestMessage(
        transaction=b"aa", node_id=ID, request=Get(TARGET)
    )


def test_want_names_families_we_know() -> None:
    asked = parse(query(b"find_node", target=TARGET, want=[b"n6", b"n9", b"n4", 4]))
    assert isinstance(asked, RequestMessage)
    assert asked.want == (b"n4", b"n6")


def test_an_unknown_method_keeps_the_target_it_came_with() -> None:
    asked = [
        parse(query(b"sample_infohashes", target=TARGET)),
        parse(query(b"vote", info_hash=TARGET)),
        parse(query(b"x")),
    ]
    assert [message.request for message in asked if isinstance(message, RequestMessage)] == [
        Unknown(b"sample_infohashes", TARGET),
        Unknown(b"vote", TARGET),
        Unknown(b"x", None),
    ]


def test_contacts_and_peers_at_port_0_are_dropped() -> None:
    nodes = compose_contacts([IPV4[0], NodeInfo(ID, ("192.0.2.9", 0)), IPV4[1]])
    nodes6 = compose_contacts([NodeInfo(ID, ("2001:db8::9", 0)), IPV6[0]])
    found = parse(reply(nodes=nodes, nodes6=nodes6, values=[b"\x7f\0\0\1\0\0", b"\x7f\0\0\1\0\7", b"odd", 7]))
    assert isinstance(found, Reply)
    assert (found.nodes, found.nodes6) == (IPV4[:2], IPV6[:1])
    assert found.peers == (("127.0.0.1", 7),)
    assert found.portless_count == 2


def test_a_compact_contact_takes_26_or_38_bytes() -> None:
    assert len(compose_contacts(IPV4[:1])) == 26
    assert len(compose_contacts(IPV6[:1])) == 38
    assert compose_address(("fe80::1%eth0", 1)) == compose_address(("fe80::1", 1))


def test_any_value_is_kept_in_the_form_that_its_target_covers() -> None:
    for form in (b"i7e", b"5:hello", b"d2:ih20:" + b"h" * 20 + b"e", b"lli1eee"):
        found = parse(encode({b"r": {b"id": ID, b"v": decode(form)}, b"t": b"aa", b"y": b"r"}))
        assert isinstance(found, Reply)
        assert found.value == form
        assert PutImmutable(form, b"").target == hashlib.sha1(form).digest()
    assert krpc.string_of(b"5:hello") == b"hello"
    assert krpc.string_of(b"0:") == b""
    assert krpc.string_of(b"l5:helloe") is None


def test_a_value_with_keys_out_of_order_is_refused_but_an_envelope_is_read() -> None:
    scrambled = b"d1:t2:aa1:y1:r1:rd1:v%b2:id20:%be" + b"e"
    with pytest.raises(FormatError, match="krpc-v"):
        parse(scrambled % (b"d1:b0:1:a0:e", ID))
    found = parse(scrambled % (b"d1:a0:1:b0:e", ID))
    assert isinstance(found, Reply)
    assert found.value == b"d1:a0:1:b0:e"


def test_the_target_of_a_mutable_put_covers_key_and_salt() -> None:
    put = PutMutable(b"k" * 32, 1, b"1:x", b"s" * 64, b"tok", salt=b"salt")
    assert put.target == hashlib.sha1(b"k" * 32 + b"salt").digest()


@pytest.mark.parametrize(
    "put",
    [
        PutMutable(b"k" * 32, 1, b"1:x", b"s" * 64, b"tok"),
        PutMutable(b"k" * 32, 1, b"1:x", b"s" * 64, b"tok", salt=b"salt"),
        PutImmutable(b"1:x", b"tok"),
    ],
)
def test_a_put_names_its_target(put: PutMutable | PutImmutable) -> None:
    # Nodes of the Rust crate `mainline` drop one that does not, and tell nobody.
    data = compose(RequestMessage(transaction=b"aaaa", node_id=ID, request=put))
    top = decode(data)
    assert isinstance(top, dict)
    arguments = top[b"a"]
    assert isinstance(arguments, dict)
    assert arguments[b"target"] == put.target
    assert parse(data) == RequestMessage(transaction=b"aaaa", node_id=ID, request=put)


@pytest.mark.parametrize("target", [bytes(20), TARGET, b"short", 7, []])
@pytest.mark.parametrize("arguments", [PUT, {"v": b"x", "token": b"tok"}], ids=["mutable", "immutable"])
def test_a_target_beside_an_item_that_has_another_is_overlooked(arguments: dict[str, object], target: object) -> None:
    found = parse(query(b"put", **arguments, target=target))
    assert isinstance(found, RequestMessage)
    put = found.request
    assert isinstance(put, PutMutable | PutImmutable)
    covered = b"k" * 32 if isinstance(put, PutMutable) else b"1:x"
    assert put.target == hashlib.sha1(covered).digest()


def test_a_named_network_is_8_bytes_of_the_hash_of_its_name() -> None:
    assert krpc.network_of("demo") == hashlib.sha256(b"demo").digest()[:8]


def whole_reply(value_bytes: int | None, nodes: tuple[NodeInfo, ...] = (), **more: object) -> Reply:
    found = Reply(
        transaction=b"abcd",
        node_id=ID,
        nodes=nodes,
        token=b"12345678",
        network=NETWORK,
        version=b"PD\0\1",
        ip=("192.0.2.1", 1),
    )
    if value_bytes is not None:
        value = encode(b"v" * value_bytes)
        found = replace(found, key=b"k" * 32, signature=b"s" * 64, seq=1_697_016_827_303_000, value=value)
    return replace(found, **more)


def test_a_value_of_940_bytes_leaves_room_for_two_contacts() -> None:
    fitted = compose_reply_within(whole_reply(940, IPV4[:2]))
    assert (len(fitted.data), fitted.contacts_dropped, fitted.has_lost_value) == (1222, 0, False)
    fitted = compose_reply_within(whole_reply(940, IPV4))
    assert (len(fitted.data), fitted.contacts_dropped) == (1222, 6)
    found = parse(fitted.data)
    assert isinstance(found, Reply)
    assert found.nodes == IPV4[:2]


def test_a_value_of_1000_bytes_goes_without_contacts() -> None:
    fitted = compose_reply_within(whole_reply(1000, IPV4))
    assert (len(fitted.data), fitted.contacts_dropped, fitted.has_lost_value) == (1221, 8, False)
    found = parse(fitted.data)
    assert isinstance(found, Reply)
    assert found.nodes == ()
    assert b"5:nodes" not in fitted.data


def test_only_a_reply_with_a_value_leaves_out_version_and_ip() -> None:
    bare, valued = parse(compose_reply_within(whole_reply(None)).data), parse(compose_reply_within(whole_reply(5)).data)
    assert isinstance(bare, Reply)
    assert isinstance(valued, Reply)
    assert (bare.version, bare.ip) == (b"PD\0\1", ("192.0.2.1", 1))
    assert (valued.version, valued.ip) == (None, None)


def test_a_long_transaction_costs_the_value_and_its_whole_item() -> None:
    fitted = compose_reply_within(whole_reply(1000, IPV4, transaction=b"x" * 32))
    found = parse(fitted.data)
    assert fitted.has_lost_value
    assert isinstance(found, Reply)
    assert (found.value, found.key, found.signature, found.seq) == (None, None, None, None)
    assert found.nodes == IPV4
    assert found.token == b"12345678"


@given(REPLIES, st.integers(min_value=180, max_value=1232))
def test_a_fitted_reply_keeps_its_limit_its_order_and_its_value_first(reply: Reply, limit: int) -> None:
    fitted = compose_reply_within(reply, limit)
    found = parse(fitted.data)
    assert isinstance(found, Reply)
    assert found.nodes == reply.nodes[: len(found.nodes)]
    assert found.nodes6 == reply.nodes6[: len(found.nodes6)]
    if fitted.has_lost_value:
        without = replace(reply, nodes=(), nodes6=(), version=None, ip=None)
        assert found.value is None
        assert len(compose(without)) > limit
    else:
        assert found.value == reply.value
        assert fitted.contacts_dropped == len(reply.nodes) + len(reply.nodes6) - len(found.nodes) - len(found.nodes6)
    assert len(fitted.data) <= limit or not (found.nodes or found.nodes6 or found.value is not None)


def test_a_refusal_loses_its_text_before_it_grows_too_long() -> None:
    error = Error(transaction=b"aa", code=203, text="x" * 300)
    assert parse(compose_error(error, 200)) == replace(error, text="")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with one or a few small accidents or malices."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(result) + 1)
        match chance.randrange(6):
            case 0:
                result[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                result[at:at] = chance.choice([b"i9e", b"d", b"l", b"e", b"0:", b"1:x", b"99999:", b"i-0e", b"l" * 40])
            case 2:
                del result[at : at + chance.randint(1, 12)]
            case 3:
                result[at:at] = result[at : at + chance.randint(1, 30)]
            case 4:
                result = result[:at]
            case _:
                result[at : at + 1] = chance.choice(b"0123456789ilde:").to_bytes()
    return bytes(result)


def test_mutated_datagrams_end_in_a_message_or_a_format_error() -> None:
    chance = random.Random(20_240_544)
    samples = [
        compose(whole_reply(200, IPV4)),
        compose(whole_reply(None, IPV4, nodes6=IPV6)),
        *(data for data, _ in BEP5),
    ]
    samples += [
        query(b"put", **PUT | {"salt": b"x", "cas": 1}),
        query(b"get", target=TARGET, seq=1),
        reply(v=[1, {b"a": 2}]),
    ]
    count_read = 0
    started = time.process_time()
    for n in range(100_000):
        try:
            message = parse(mutated(samples[n % len(samples)], chance))
        except FormatError:
            continue
        count_read += 1
        assert parse(compose(message)) == message
    # A guard ten times as long as it takes: the figure itself belongs to a bench.
    assert time.process_time() - started < 25
    assert 1_000 < count_read < 90_000
