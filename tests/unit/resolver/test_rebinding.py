"""Addresses of the reader's network in every type whose RDATA has addresses, from zones and from upstreams."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.addresses import is_rebinding_risk
from p2pdns.dns.message import RR, Message, Question
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Ede, Type
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.rebinding import without_risks
from p2pdns.resolver.steps import Replied
from tests.overlay_doubles import A, found, item_of
from tests.unit.resolver.test_resolver import resolved

OWNER = Name.read("x.example")
PUBLIC_V4, PUBLIC_V6 = ipaddress.ip_address("8.8.8.8").packed, ipaddress.ip_address("2a00::1").packed
# Of each block that is neither public nor documentation one address, and the forms that embed IPv4.
RISKS_V4 = [
    *("0.0.0.1", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1"),
    *("192.0.0.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "224.0.0.251"),
    *("239.255.255.250", "240.0.0.1", "255.255.255.255"),
]
RISKS_V6 = [
    *("::", "::1", "::10.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::10.0.0.1"),
    *("64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1"),
    *("2002:a00:1::1", "3ffe::5efe:10.0.0.1", "4000::1", "5f00::1", "fc00::1", "fd00::1"),
    *("fe80::1", "fec0::1", "ff02::fb"),
]
PASSING = [
    *("1.1.1.1", "192.0.2.1", "198.51.100.7", "203.0.113.9", "2a00::1", "2001:db8::1"),
    *("3fff::1", "64:ff9b::8.8.8.8", "2002:808:808::1"),
]


def locator(packed: bytes) -> tuple[int, bytes]:
    """Return type and RDATA of the record with which ILNP would say this address."""
    return (Type.L32, b"\x00\x0a" + packed) if len(packed) == 4 else (Type.L64, b"\x00\x0a" + packed[:8])


def forms(packed: bytes) -> list[tuple[int, bytes]]:
    """Return each type and RDATA that can say an address."""
    is_v4 = len(packed) == 4
    kind, bits = (1, 32) if is_v4 else (2, 128)
    rows = [
        (Type.A if is_v4 else Type.AAAA, packed),
        (Type.APL, kind.to_bytes(2) + bytes([bits, len(packed)]) + packed),
        (Type.APL, kind.to_bytes(2) + bytes([bits, 0x80 | len(packed)]) + packed),
        (Type.IPSECKEY, bytes([10, kind, 2]) + packed + b"key"),
        (Type.AMTRELAY, bytes([10, kind]) + packed),
        (Type.AMTRELAY, bytes([10, 0x80 | kind]) + packed),
        (Type.HTTPS, b"\x00\x01\x00\x00" + (b"\x04\x00\x04" if is_v4 else b"\x06\x00\x10") + packed),
        locator(packed),
    ]
    return [*rows, (Type.WKS, packed + b"\x06\x01")] if is_v4 else [*rows, (Type.A6, b"\x00" + packed)]


def left_of(rtype: int, rdata: bytes) -> bytes | None:
    """Return what is left of a record; None where it is withheld."""
    kept, _ = without_risks([RR(OWNER, rtype, Class.IN, 60, rdata)])
    return kept[0].rdata if kept else None


@pytest.mark.parametrize("host", [*RISKS_V4, *RISKS_V6])
def test_an_address_that_may_lead_inwards_passes_in_no_type(host: str) -> None:
    packed = ipaddress.ip_address(host).packed
    assert is_rebinding_risk(packed)
    for rtype, rdata in forms(packed):
        left = left_of(rtype, rdata)
        # The first half of an address is judged as a whole network: the second may be anybody's.
        if rtype == Type.L64 and not is_rebinding_risk(packed[:8] + bytes(8)):
            continue
        assert left is None or (rtype == Type.HTTPS and packed not in left), (Type(rtype).name, rdata.hex())


@pytest.mark.parametrize("host", PASSING)
def test_public_and_documentation_addresses_pass_in_every_type(host: str) -> None:
    for rtype, rdata in forms(ipaddress.ip_address(host).packed):
        is_half = rtype == Type.L64 and host.startswith("64:")
        assert left_of(rtype, rdata) == (None if is_half else rdata), Type(rtype).name


@pytest.mark.parametrize(
    ("rtype", "rdata"),
    [
        (Type.IPSECKEY, b"\x0a\x00\x02" + b"key"),
        (Type.IPSECKEY, b"\x0a\x03\x02\x01x\x00key"),
        (Type.AMTRELAY, b"\x0a\x00"),
        (Type.AMTRELAY, b"\x0a\x83\x01x\x00"),
        (Type.APL, b""),
        (Type.APL, b"\x40\x06\x00\x01\x0a"),
        (Type.A6, b"\x80\x01x\x00"),
        (Type.NID, b"\x00\x0a" + bytes(8)),
        (Type.TXT, b"\x0810.0.0.1"),
    ],
)
def test_what_has_no_address_passes(rtype: int, rdata: bytes) -> None:
    assert left_of(rtype, rdata) == rdata


@pytest.mark.parametrize(
    ("rtype", "rdata"),
    [
        (Type.A, b"\x08\x08\x08"),
        (Type.AAAA, PUBLIC_V4),
        (Type.WKS, b"\x08\x08"),
        (Type.L32, b"\x00\x0a\x08"),
        (Type.L64, b"\x00\x0a" + bytes(9)),
        (Type.IPSECKEY, b"\x0a"),
        (Type.IPSECKEY, b"\x0a\x01\x02\x08"),
        (Type.IPSECKEY, b"\x0a\x04\x02" + PUBLIC_V4),
        (Type.AMTRELAY, b"\x0a\x02" + PUBLIC_V4),
        (Type.APL, b"\x00\x01"),
        (Type.APL, b"\x00\x01\x20\x04\x08"),
        (Type.APL, b"\x00\x01\x20\x05" + PUBLIC_V4 + b"\x01"),
        (Type.APL, b"\x00\x01\x21\x04" + PUBLIC_V4),
        (Type.A6, b"\x81"),
        (Type.A6, b"\x00" + PUBLIC_V4),
        (Type.A6, b""),
    ],
)
def test_what_cannot_be_read_cannot_be_called_safe(rtype: int, rdata: bytes) -> None:
    assert left_of(rtype, rdata) is None


def test_a_second_block_and_a_short_one_are_looked_at() -> None:
    public, private = b"\x00\x01\x18\x03\x08\x08\x08", b"\x00\x01\x08\x01\x0a"
    assert left_of(Type.APL, public) == public
    assert left_of(Type.APL, public + private) is None
    # 0.0.0.0/0 and 8.0.0.0/6 have private networks in them.
    assert left_of(Type.APL, b"\x00\x01\x00\x00") is None
    assert left_of(Type.APL, b"\x00\x01\x06\x01\x08") is None


@pytest.mark.parametrize(
    ("key", "public", "private"),
    [(4, ["8.8.8.8", "1.1.1.1"], "10.0.0.1"), (6, ["2a00::1", "2a00::2"], "fd00::1")],
)
def test_each_address_of_a_hint_is_judged_by_itself(key: int, public: list[str], private: str) -> None:
    def rdata_of(*hosts: str) -> bytes:
        packed = b"".join(ipaddress.ip_address(host).packed for host in hosts)
        return b"\x00\x01\x00" + key.to_bytes(2) + len(packed).to_bytes(2) + packed

    assert left_of(Type.HTTPS, rdata_of(*public)) == rdata_of(*public)
    for at in range(3):
        assert left_of(Type.HTTPS, rdata_of(*public[:at], private, *public[at:])) == rdata_of(*public)


@given(
    st.sampled_from([Type.A, Type.AAAA, Type.APL, Type.IPSECKEY, Type.AMTRELAY, Type.L32, Type.L64, Type.WKS, Type.A6]),
    st.binary(max_size=40),
)
def test_any_rdata_is_kept_or_left_out(rtype: int, rdata: bytes) -> None:
    assert left_of(rtype, rdata) in (None, rdata)


@pytest.mark.parametrize(("rtype", "rdata"), forms(ipaddress.ip_address("198.18.0.1").packed))
def test_upstreams_are_held_to_it_in_every_section(rtype: int, rdata: bytes) -> None:
    options = ResolverSettings(withholds_upstreams=True)
    bad = RR(OWNER, rtype, Class.IN, 60, rdata)
    good = RR(OWNER, Type.A, Class.IN, 60, PUBLIC_V4)
    reply = Replied(Message(0, 0x8180, Question(OWNER, Type.A), (good, bad), (bad,), (bad,)))
    answer = resolved("x.example. A", reply, options=options)
    told = [*answer.answer, *answer.authority, *answer.additional]
    assert all(rdata[-4:] not in rr.rdata for rr in told)
    assert good in answer.answer


UNREADABLE = [
    (Type.A, b"\x0a\0\0"),
    (Type.AAAA, bytes(15)),
    (Type.HTTPS, b"\0\x01\0" + b"\0\x04\0\x09\x0a\0\0\x01"),
    (Type.SVCB, b"\0\x01\0" + b"\0\x04\0\x03\x0a\0\0"),
    (Type.AMTRELAY, b"\x0a\x04\x0a\0\0\x01"),
]


@pytest.mark.parametrize(
    ("rtype", "rdata"), UNREADABLE, ids=lambda value: value.name if isinstance(value, Type) else ""
)
def test_what_cannot_be_read_of_an_upstream_is_withheld_where_addresses_are(rtype: Type, rdata: bytes) -> None:
    reply = Replied(Message(0, 0x8180, Question(OWNER, rtype), (RR(OWNER, rtype, Class.IN, 60, rdata),)))
    withheld = resolved(f"x.example. {rtype.name}", reply, options=ResolverSettings(withholds_upstreams=True))
    assert (withheld.answer, [code for code, _ in withheld.ede]) == ((), [Ede.BLOCKED])
    assert resolved(f"x.example. {rtype.name}", reply).answer


def test_zones_are_held_to_it_unless_they_are_trusted() -> None:
    item = item_of("a", "x 60 APL 000120040a000001", "x 60 TYPE260 0a01c6120001")
    for rtype in ("APL", "TYPE260"):
        assert not resolved(f"x.{{a}} {rtype}", found(item)).answer
        assert resolved(f"x.{{a}} {rtype}", found(item), options=ResolverSettings.of(private_zones=[str(A)])).answer


def test_a_record_that_needs_the_hint_which_is_withheld_goes_with_it() -> None:
    mandatory, private = b"\x00\x00\x00\x02\x00\x04", b"\x00\x04\x00\x04\x0a\x00\x00\x01"
    assert left_of(Type.HTTPS, b"\x00\x01\x00" + mandatory + private) is None
    assert left_of(Type.HTTPS, b"\x00\x01\x00" + private) == b"\x00\x01\x00"
