"""The rows of the demo's table: the questions and their expected answers.

The rows of one zone stand together, so that the first of them is cold: the node that answers has seen nothing of that
zone. Guarantees: a row is right only if code, sections and spelling are as expected. Does not know how to ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from p2pdns.cli.dnsclient import DnsReply
from p2pdns.dns.registry import UDP_SIZE_BYTES

NOBODY = "nobody"
"""The zone of a key that has published nothing."""

ANY = "…"
KEY_CHARACTERS_SHOWN = 6  # Enough to tell a handful of keys apart; the list of zones shows whole keys.
ANSWER_CHARACTERS_SHOWN = 46
NO_REACHABLE_AUTHORITY = 22  # RFC 8914


@dataclass(frozen=True)
class Row:
    """One question and its expected answer.

    `{key}` stands for the key of the zone, `{zone:NAME}` for that of another zone; `through` is another zone that is
    looked up on the way. A petname replaces the key in the question. What `is_later` is in no zone file: the demo makes
    it after the publication.
    """

    what: str
    zone: str
    owner: str
    type: str
    answer: tuple[str, ...] = ()
    rcode: str = "NOERROR"
    suffix: str = ""
    transport: str = "udp"
    udp_size_bytes: int = UDP_SIZE_BYTES
    has_soa: bool = False
    is_truncated: bool = False
    is_mixed_case: bool = False
    petname: str = ""
    through: str = ""
    is_later: bool = False

    def name(self, key: str) -> str:
        """Return the name to ask for."""
        name = ".".join(part for part in (self.owner, self.petname or key, self.suffix) if part) + "."
        return mixed_case(name) if self.is_mixed_case else name


# The petnames of the node that answers, each with its zone.
PETNAMES = {"alice": "links", "bob": "friend"}

UPDATED = "office"
"""The zone that is changed by DNS UPDATE after its publication."""

MOVED = "wildcard"
"""The zone that moves to its next key after its publication."""

EDITED = "many"
"""The zone of a thousand names; one record is added to it after its publication."""

ROWS = (
    Row("address", "example", "www", "A", ("A 192.0.2.80",)),
    Row("IPv6 address", "example", "www", "AAAA", ("AAAA 2001:db8::80",)),
    Row("letter case kept", "example", "www", "A", ("A 192.0.2.80",), is_mixed_case=True),
    Row("over TCP", "example", "", "A", ("A 192.0.2.80",), transport="tcp"),
    Row("mail servers", "mail", "", "MX", ("MX 10 mail.{key}.", "MX 20 backup.{key}.")),
    Row("text", "mail", "", "TXT", ("TXT v=spf1 mx -all",)),
    Row("service", "mail", "_imaps._tcp", "SRV", ("SRV 0 1 993 mail.{key}.",)),
    Row("no such type", "mail", "mail", "MX", has_soa=True),
    Row("no such name", "mail", "pop", "A", rcode="NXDOMAIN", has_soa=True),
    Row("HTTPS binding", "web", "", "HTTPS", ("HTTPS 1 . alpn=h2,h3 ipv4hint=198.51.100.10 ipv6hint=2001:db8:10::1",)),
    Row("alias", "web", "blog", "A", ("CNAME www.{key}.", "CNAME {key}.", "A 198.51.100.10")),
    Row("wildcard", "wildcard", "anna.users", "A", ("A 203.0.113.7",)),
    Row("moved to a next key", MOVED, "since", "A", ("A 203.0.113.9",), is_later=True),
    Row("over 512 bytes", "large", "key1._domainkey", "TXT", udp_size_bytes=512, is_truncated=True),
    Row("… then TCP", "large", "key1._domainkey", "TXT", ("TXT v=DKIM1; k=rsa; p=MIICIjAN…AwEAAQ==",), transport="tcp"),
    Row("of a thousand names", EDITED, "c123", "A", ("A 203.0.113.123",)),
    Row("none of these", EDITED, "c250", "A", rcode="NXDOMAIN", has_soa=True),
    Row("one more of them", EDITED, "d7", "TXT", ("TXT moved to the second floor",), is_later=True),
    Row("below p2p.alt", "office", "", "MX", ("MX 10 mail.{key}.p2p.alt.",), suffix="p2p.alt"),
    Row("by DNS UPDATE", UPDATED, "guest", "A", ("A 192.0.2.127",), is_later=True),
    Row("alias to a key", "links", "www", "A", ("CNAME www.{zone:friend}.", "A 192.0.2.141"), through="friend"),
    Row("delegation", "links", "www.friend", "A", ("CNAME www.{zone:friend}.", "A 192.0.2.141"), through="friend"),
    Row(
        "tree moved (DNAME)",
        "links",
        "photos.old",
        "A",
        ("DNAME {zone:friend}.", "CNAME photos.{zone:friend}.", "A 192.0.2.142"),
        through="friend",
    ),
    Row(
        "below a petname",
        "links",
        "www.friend",
        "A",
        ("CNAME www.{zone:friend}.p2p.alt.", "A 192.0.2.141"),
        suffix="p2p.alt",
        petname="alice",
        through="friend",
    ),
    Row("petname", "friend", "", "A", ("A 192.0.2.140",), suffix="p2p.alt", petname="bob"),
    Row("never published", NOBODY, "www", "A", rcode="SERVFAIL"),
)


def mixed_case(name: str) -> str:
    """Return the name with every second letter in the other case.

    >>> mixed_case("www.example.")
    'wWw.ExAmPlE.'
    """
    return "".join(c.upper() if index % 2 else c.lower() for index, c in enumerate(name))


def _plain(text: str) -> str:
    # Clients differ in quotes and in the strings of a text.
    return re.sub(r'[" ]', "", text).lower()


def _is_like(expected: str, found: str) -> bool:
    pattern = ".*".join(re.escape(_plain(part)) for part in expected.split(ANY))
    return re.fullmatch(pattern, _plain(found)) is not None


def _with_keys(text: str, row: Row, keys: Mapping[str, str]) -> str:
    for zone, key in keys.items():
        text = text.replace(f"{{zone:{zone}}}", key)
    return text.replace("{key}", keys[row.zone])


def problems(row: Row, keys: Mapping[str, str], reply: DnsReply) -> Iterator[str]:
    """Yield the differences between a reply and the expected one."""
    key = keys[row.zone]
    if reply.rcode != row.rcode:
        yield f"{reply.rcode}, expected {row.rcode}"
    if reply.name != row.name(key):
        yield f"the question came back as {reply.name}"
    if reply.is_truncated != row.is_truncated:
        yield "truncated" if reply.is_truncated else "not truncated"
    # A DNAME is at the top of its tree; the CNAME made of it, which has the name of the question, follows.
    owners = [record.owner for record in reply.answer if record.type != "DNAME"]
    if owners and owners[0] != row.name(key):
        yield f"the answer is at {owners[0]}"
    if not row.is_truncated:
        expected = [_with_keys(text, row, keys) for text in row.answer]
        found = [f"{record.type} {record.data}" for record in reply.answer]
        # The order within one RRset means nothing, and that of a chain follows from its owners.
        if len(expected) != len(found) or not all(any(_is_like(e, f) for f in found) for e in expected):
            yield f"answer {found or 'empty'}, expected {expected or 'empty'}"
    if row.has_soa != any(record.type == "SOA" for record in reply.authority):
        yield "no SOA" if row.has_soa else "an SOA beside an answer"
    if row.rcode == "SERVFAIL" and not any(
        error.code == NO_REACHABLE_AUTHORITY and error.text for error in reply.extended_errors
    ):
        yield f"no EDE {NO_REACHABLE_AUTHORITY} with a text"


def short(text: str, keys: Mapping[str, str]) -> str:
    """Return the text with every key cut to its first characters, in the spelling it has there.

    >>> short("10 mail.ABCDEFGHIJ.", {"mail": "abcdefghij"})
    '10 mail.ABCDEF…'
    """
    for key in keys.values():
        # A final dot after the ellipsis would look like a part of it; a dot before a suffix stays.
        pattern = re.escape(key) + r"(?:\.(?=[\s,]|$))?"
        text = re.sub(pattern, lambda match: match[0][:KEY_CHARACTERS_SHOWN] + ANY, text, flags=re.IGNORECASE)
    return text


def shown(reply: DnsReply, keys: Mapping[str, str]) -> str:
    """Return a reply as the text of one cell: its data, or the reason why there is none."""
    if reply.is_truncated:
        return "TC: ask again over TCP"
    if reply.answer:
        text = _answer_shown(reply)
    elif reply.extended_errors:
        text = str(reply.extended_errors[0])
    else:
        text = ", ".join(f"SOA {record.data}" for record in reply.authority)
    text = short(text, keys)
    return text if len(text) <= ANSWER_CHARACTERS_SHOWN else text[: ANSWER_CHARACTERS_SHOWN - 1] + ANY


def _answer_shown(reply: DnsReply) -> str:
    if not any(record.type == "CNAME" for record in reply.answer):
        return ", ".join(record.data for record in reply.answer)
    # A chain of aliases is shown as the steps to its last record.
    return " → ".join(record.data for record in reply.answer if record.type != "DNAME")
