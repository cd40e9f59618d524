"""docs/spec.md and docs/threats.md say what the code does: numbers, alphabet, order of checks, vectors, places."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pdns.dns.message import RR, Message, wire
from p2pdns.dns.name import Name
from p2pdns.dns.registry import DIRECTORY, OURS_ALONE, Type
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem
from p2pdns.items import item, keys
from p2pdns.items.item import (
    SALT_BYTES_MAX,
    SEQ_RESERVED,
    VALUE_BYTES_READ_MAX,
    MutableItem,
    signing_buffer,
)
from p2pdns.items.keys import SecretKey
from p2pdns.items.shards.directory import BITS_MAX
from p2pdns.items.shards.pinned import Pinned, SaltLetter, pin_of
from p2pdns.items.shards.values import PARTS_MAX, message_bytes_max, verified
from p2pdns.naming import ZONE_KEY_ALPHABET
from tests.unit.dns.strategies import uncompressed

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
THREATS = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
SECRET = SecretKey.generate(bytes(32))


def section(title: str) -> str:
    """Return the text below a heading, up to the next one."""
    found = re.search(rf"^#+ (?:\d\. )?{re.escape(title)}\n(.*?)(?=^#|\Z)", SPEC, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables in a text, without their heads."""
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return table[2:]


@pytest.mark.parametrize("row", rows(section("Limits")), ids=lambda row: str(row[0]))
def test_limit_is_the_constant_it_names(row: list[str]) -> None:
    """A number in a document is a claim."""
    module, name = row[2].strip("`").split(":")
    assert getattr(importlib.import_module("p2pdns." + module), name) == (
        float(row[1]) if "." in row[1] else int(row[1])
    )


def test_numbers_in_the_text_are_the_constants() -> None:
    """The prose and the field table repeat some limits; they may not drift."""
    fields = {row[0]: row[1] for row in rows(section("Items"))}
    assert fields == {
        "key": str(keys.KEY_BYTES),
        "seq": "8",
        "salt": f"0 … {SALT_BYTES_MAX}",
        "value": f"0 … {VALUE_BYTES_READ_MAX}",
        "signature": str(keys.SIGNATURE_BYTES),
    }
    assert f"{item.VALUE_BYTES_WRITE_DEFAULT}, or {item.VALUE_BYTES_WRITE_MAX} on request" in SPEC
    assert f"more than {item.FUTURE_S_MAX // 3600} hours ahead" in SPEC
    assert f"more than {item.FUTURE_S_MAX // 3600} hours ahead" in " ".join(THREATS.split()).lower()


def test_alphabet_of_the_grammar_is_the_alphabet() -> None:
    """The characters of `zchar` are in the order of their values, and the last character is one of two."""
    grammar = section("Zone key")
    rule = re.search(r"^zchar +=(.*?)^zone-name", grammar, re.MULTILINE | re.DOTALL)
    assert rule
    assert "".join(re.findall(r'"(.)"', rule[1])) == ZONE_KEY_ALPHABET
    last = re.search(r'^zone-key +=.*\( "(.)" / "(.)" \)', grammar, re.MULTILINE)
    assert last
    # One bit of the key and four zero bits: the two characters whose value is a multiple of 16.
    assert last[1] + last[2] == ZONE_KEY_ALPHABET[0] + ZONE_KEY_ALPHABET[16]


# One way to break each numbered rule, applied to the parts of an honest item.
Parts = dict[str, Any]
BREAK: dict[str, Callable[[Parts], Parts]] = {
    "value-too-large": lambda parts: parts | {"value": bytes(VALUE_BYTES_READ_MAX + 1)},
    "salt-too-large": lambda parts: parts | {"salt": bytes(SALT_BYTES_MAX + 1)},
    "seq-out-of-range": lambda parts: parts | {"seq": -1},
    "seq-reserved": lambda parts: parts | {"seq": SEQ_RESERVED},
    "signature-size": lambda parts: parts | {"signature": parts["signature"][:-1]},
    "signature-s-too-large": lambda parts: parts | {"signature": parts["signature"][:-1] + b"\xff"},
    "key-size": lambda parts: parts | {"key": parts["key"][:-1]},
    "key-not-canonical": lambda parts: parts | {"key": b"\xff" * 32},
    "key-small-order": lambda parts: parts | {"key": bytes(32)},
    "key-not-a-point": lambda parts: parts | {"key": (2).to_bytes(32, "little")},
    "signature-wrong": lambda parts: parts | {"value": parts["value"] + b"!"},
}
# What one break makes impossible to break further, or undoes.
EXCLUSIVE = (
    {"seq-out-of-range", "seq-reserved"},
    {"signature-size", "signature-s-too-large"},
    {"key-size", "key-not-canonical", "key-small-order", "key-not-a-point"},
    {"value-too-large", "signature-wrong"},
)


def steps() -> list[str]:
    """Return the reason of each numbered rule, in the order of the page."""
    text = section("Verification of a mutable item")
    numbered = re.findall(r"^\d+\. (.*?)(?=^\d+\. |\n\n)", text, re.MULTILINE | re.DOTALL)
    return [re.findall(r"`([a-z-]+)`", rule)[0] for rule in numbered]


def test_rules_of_the_page_are_the_rules_of_the_code() -> None:
    """Every reason that the two modules give stands on the page, and no other."""
    source = "".join(
        (ROOT / "p2pdns" / "items" / f"{name}.py").read_text(encoding="utf-8") for name in ("keys", "item")
    )
    given = set(re.findall(r'BadItem\(\s*"([a-z-]+)"', source)) | set(re.findall(r'return "(key-[a-z-]+)", ', source))
    assert given == set(steps()) | {"target-wrong"}
    assert list(BREAK) == steps()


@pytest.mark.parametrize("first", range(len(BREAK)))
def test_rules_fail_in_the_order_of_the_page(first: int) -> None:
    """With two rules broken the earlier one names the reason."""
    reasons = list(BREAK)
    honest: Parts = {"key": SECRET.zone_key.raw, "seq": 5, "value": b"value", "salt": b"salt"}
    honest["signature"] = SECRET.sign(signing_buffer(5, b"value", b"salt"))
    assert MutableItem.verified(**honest).value == b"value"
    for second in range(first, len(reasons)):
        pair = {reasons[first], reasons[second]}
        if first != second and any(pair <= group for group in EXCLUSIVE):
            continue
        with pytest.raises(BadItem) as caught:
            MutableItem.verified(**BREAK[reasons[first]](BREAK[reasons[second]](honest)))
        assert caught.value.reason == reasons[first]


APEX = SECRET.zone_key.apex
IPV4 = bytes([192, 0, 2, 1])
A, NS, CNAME, SOA = int(Type.A), int(Type.NS), int(Type.CNAME), int(Type.SOA)
HTTPS, DNAME, DS = int(Type.HTTPS), int(Type.DNAME), int(Type.DS)


def rr(owner: str, rtype: int, rdata: bytes, *, ttl: int = 300, rclass: int = 1) -> RR:
    """Return an RR below the apex."""
    return RR(Name.read(owner + str(APEX)), rtype, rclass, ttl, rdata)


def soa(owner: str, serial: int) -> RR:
    """Return an SOA with nothing of interest but its serial."""
    return rr(owner, SOA, APEX.wire() * 2 + serial.to_bytes(4) + bytes(16))


# For each reason of the table a zone that gives it, once.
SAYS: dict[str, list[RR]] = {
    "class": [rr("www.", A, IPV4, rclass=3)],
    "foreign-owner": [RR(Name.read("example.com."), A, 1, 300, IPV4)],
    "meta-type": [rr("www.", 250, b"")],
    "dnssec-type": [rr("www.", DS, bytes(24))],
    "soa-below-apex": [soa("www.", 1)],
    "wildcard-ns": [rr("*.www.", NS, APEX.wire())],
    "bad-rdata": [rr("www.", A, IPV4 + IPV4)],
    "svcb-params": [rr("www.", HTTPS, b"\0\1\0" + b"\0\4\0\3" + bytes(3))],
    "duplicate": [rr("www.", CNAME, Name.read("a.b.").wire()), rr("WWW.", CNAME, Name.read("A.b.").wire())],
    "second-cname": [rr("www.", CNAME, Name.read("a.").wire()), rr("www.", CNAME, Name.read("b.").wire())],
    "second-soa": [soa("", 1), soa("", 2)],
    "second-dname": [rr("www.", DNAME, Name.read("a.").wire()), rr("www.", DNAME, Name.read("b.").wire())],
    "beside-cname": [rr("www.", CNAME, Name.read("a.").wire()), rr("www.", A, IPV4)],
    "occluded": [rr("www.", NS, APEX.wire()), rr("a.www.", A, IPV4)],
}


def test_every_counted_rule_of_the_page_is_counted_under_its_reason() -> None:
    """The table of what a zone may say, row by row."""
    on_page = [row[2].strip("`") for row in rows(section("What a zone may say")) if row[2]]
    assert sorted(on_page) == sorted([*SAYS, "other-section"])
    for reason, records in SAYS.items():
        value = uncompressed(Message(0, 0x8000, None, tuple(records), (), ()))
        assert dict(Zone.verified(APEX, value, 0).dropped) == {reason: 1}, reason
    elsewhere = wire.compose(Message(0, 0x8000, None, (), (rr("www.", A, IPV4),), ()))
    assert dict(Zone.verified(APEX, elsewhere, 0).dropped) == {"other-section": 1}


def test_rules_without_a_count_hold_too() -> None:
    """The lowest TTL, a TTL beyond 31 bits, the SOA that is made, and the two refusals."""
    records = [rr("www.", A, IPV4, ttl=60), rr("www.", A, bytes(4), ttl=2**31)]
    records += [rr("a.", A, IPV4, ttl=60), rr("a.", A, bytes(4), ttl=30)]
    zone = Zone.verified(APEX, wire.compose(Message(0, 0x8000, None, tuple(records), (), ())), 5_000_000)
    assert zone.rrsets[Name.read(f"www.{APEX}"), A].ttl == 0
    assert zone.rrsets[Name.read(f"a.{APEX}"), A].ttl == 30
    assert zone.soa.rdatas[0][-20:-16] == (5).to_bytes(4)
    assert zone.soa.rdatas[0][-4:] == (300).to_bytes(4)
    for value, reason in ((b"no message", "not-dns"), (bytes(12), "dns-query")):
        with pytest.raises(BadItem) as caught:
            Zone.verified(APEX, value, 0)
        assert caught.value.reason == reason
        assert f"`{reason}`" in section("What a zone may say")


@pytest.mark.parametrize("row", rows(section("Vectors")), ids=lambda row: str(row[0]))
def test_vector_file_has_as_many_vectors_as_the_page_says(row: list[str]) -> None:
    """The table of vectors is complete and counted."""
    content = json.loads((ROOT / "tests" / "vectors" / row[0]).read_text(encoding="utf-8"))
    lists = content if isinstance(content, list) else [part for part in content.values() if isinstance(part, list)]
    count = len(lists) if isinstance(content, list) else sum(len(part) for part in lists)
    assert count == int(row[2])


def test_every_vector_file_is_on_the_page_once() -> None:
    """The page lists what another implementation would want to run."""
    on_page = [row[0] for row in rows(section("Vectors"))]
    assert sorted(on_page) == sorted(path.name for path in (ROOT / "tests" / "vectors").glob("*.json"))


def test_every_threat_says_what_holds_where_and_what_does_not() -> None:
    """An attacker's paragraph names the files that stop him, which exist, and what remains."""
    parts = re.split(r"^## ", THREATS, flags=re.MULTILINE)[1:]
    assert len(parts) >= 9
    for part in parts:
        title = part.splitlines()[0]
        assert "*Not:*" in part or title == "Observer", title
        places = re.findall(r"`(p2pdns/[a-z_/.0-9]+)`", part)
        assert places or title == "Observer", title
        for place in places:
            path = ROOT / place
            # A file that outgrew its room became a folder of the same name.
            assert path.exists() or path.with_suffix("").is_dir(), f"{title}: {place}"


DIVIDED = SPEC.partition("## 7. Zones of any size")[2]
# Only for directories of our own making: four bytes of a stranger's are always an epoch.
NEVER_COUNTED = {"directory-epoch"}


def test_every_reason_for_leaving_out_a_part_of_a_divided_zone_is_on_the_page() -> None:
    """The code gives a reason as the first argument of an error, as a key of a counter, or as a result."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "p2pdns/items/shards").glob("*.py"))
    given = set(re.findall(r'(?:BadItem|FormatError)\(\s*"([a-z-]+)"', source))
    given |= {one or other for one, other in re.findall(r'dropped\["([a-z-]+)"\]|return "([a-z-]+)"', source)}
    on_page = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", DIVIDED))
    assert "foreign-cell" in given
    # A head with a salt is refused as every zone with one is, and an RR that stands twice is counted as in §3.
    assert given - NEVER_COUNTED - {"zone-with-salt", "duplicate"} <= on_page


def test_letters_of_salts_on_the_page_are_the_places() -> None:
    """The table of items with a salt, row by row."""
    letters = re.findall(r"^\| `([a-z])` \|", DIVIDED, re.MULTILINE)
    assert sorted(letters) == sorted(place.value.decode() for place in SaltLetter)


def test_rules_of_a_salted_value_fail_in_the_order_of_the_page() -> None:
    """With each rule broken together with all later ones, its own reason is given."""
    page = section("Values with a salt")
    numbered = re.findall(r"^\d+\. .*?`([a-z]+-[a-z-]+)`", page, re.MULTILINE)
    assert numbered == [
        "pin-wrong",
        "shard-too-short",
        "shard-kind",
        "manifest-pins",
        "part-count",
        "part-empty",
        "part-nonce",
        "not-dns",
    ]
    broken = {"pin-wrong": b"", "shard-too-short": b"\x09", "shard-kind": b"\x09nonc", "part-count": b"\x01nonc\x00"}
    broken |= {"part-empty": b"\x01nonc\x01pin"}
    for reason, value in broken.items():
        pin = b"none" if reason == "pin-wrong" else pin_of(value)
        with pytest.raises(BadItem) as caught:
            verified(Pinned(SaltLetter.SHARD, APEX, 1, 0, pin), value)
        assert caught.value.reason == reason


def test_types_of_a_divided_zone_on_the_page_are_the_codes() -> None:
    """The page names the private types by number."""
    assert f"RR of TYPE{DIRECTORY} and class IN" in DIVIDED
    assert OURS_ALONE == (DIRECTORY, DIRECTORY + 1)
    assert f"d | 1 | 0 … {BITS_MAX}" in DIVIDED
    assert f"1*{PARTS_MAX}pin" in DIVIDED
    assert message_bytes_max() // 1000 == 23
