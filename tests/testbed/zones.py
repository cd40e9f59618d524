"""The zones of the story: those of zones/, and small ones that are signed here, so that no key enters a container.

Guarantees: a name and a run make the same key every time; the answers expected of a zone file are read from it by the
program's own reader. Does not know where anything is published.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from p2pdns.cli.dnsclient import DnsReply
from p2pdns.demo.rows import ROWS, Row
from p2pdns.dns.message import type_text
from p2pdns.dns.registry import Rcode
from p2pdns.dns.zonefile import placeholders, reader, writing
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.items.packet import compose_packet

ROOT = Path(__file__).resolve().parents[2]
ASKED_MAX = 30  # RRsets of one zone, of each resolver; all other zones have fewer.
ZONES = {path.stem: path for path in sorted((ROOT / "zones").glob("*.zone"))}


@dataclass(frozen=True)
class Expected:
    """One question and the whole RRset that answers it."""

    name: str
    type: str
    data: frozenset[str]

    def is_met_by(self, reply: Mapping[str, Any]) -> bool:
        if reply.get("rcode") != Rcode.NOERROR.name:
            return False
        return {record["data"] for record in reply["answer"] if record["type"] == self.type} == self.data


def of_zone_files(keys: Mapping[str, str]) -> list[Expected]:
    """Return a question for every RRset of zones/, whose keys these are; for some of each zone of many names."""
    expected = []
    for name, path in ZONES.items():
        text = placeholders.fill(path.read_text(), keys, path=path.name).text
        rrsets = reader.reading(text, apex=ZoneKey.read(keys[name]).apex, path=path.name).rrsets
        for rrset in rrsets[:: len(rrsets) // ASKED_MAX + 1]:
            data = frozenset(writing.rdata_text(rrset.rtype, rdata) for rdata in rrset.rdatas)
            expected.append(Expected(str(rrset.owner), type_text(rrset.rtype), data))
    return expected


def of_demo_rows(keys: Mapping[str, str]) -> list[tuple[Row, list[Any]]]:
    """Return the rows of the demo and their questions: aliases, wildcards, NXDOMAIN, truncation, letter case."""
    rows = [row for row in ROWS if not row.petname and not row.is_later and row.zone in keys]
    return [(row, [row.name(keys[row.zone]), row.type, row.transport, row.udp_size_bytes]) for row in rows]


def reply_of(facts: Mapping[str, Any]) -> DnsReply:
    if "error" in facts:
        return DnsReply("", "", "", "", facts["error"], (), (), (), (), 0.0)
    return msgspec.convert(facts, DnsReply)


class Signed:
    """A zone of one address, under a key of this run; `update` signs the next version."""

    def __init__(self, name: str, address: str, ttl: int = 300, run: str = "") -> None:
        self.name, self.ttl = name, ttl
        self._secret = SecretKey.generate(hashlib.sha256(f"{run} {name}".encode()).digest())
        self.key = str(self._secret.zone_key)
        self.update(address)

    def update(self, address: str) -> None:
        apex = self._secret.zone_key.apex
        text = f'$TTL {self.ttl}\n@ A {address}\nwww A {address}\n@ TXT "{self.name}"\n'
        value = compose_packet(reader.reading(text, apex=apex, path=self.name).rrsets, apex)
        self.item = MutableItem.signed(self._secret, int(time.time() * 1e6), value)
        self.expected = Expected(f"www.{self.key}.", "A", frozenset({address}))
