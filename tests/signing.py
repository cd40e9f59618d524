"""A signer without sockets: its zone file, journal and answers, with dnspython as the client.

The signer's clock is that of the machine, by which dnspython signs, plus `clock_off_s`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update

from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.zonefile.writing import write
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT
from p2pdns.items.keys import SecretKey
from p2pdns.signer.answers import Hooks, Responder
from p2pdns.signer.filed import ZoneFile
from p2pdns.signer.journal import Journal
from p2pdns.signer.tsig import ReplayMemory, Responses
from p2pdns.signer.zone import SignedZone

SECRET = SecretKey.generate(b"\x2a" * 32)
KEY = str(SECRET.zone_key)
APEX = SECRET.zone_key.apex
ZONE_NAME = f"{KEY}."
SUFFIXES = ("p2p.alt", "p2pdns.internal")
TEXT = """; the zone of alice
$TTL 60
@    A     192.0.2.1   ; the apex
www  A     192.0.2.2
     TXT   "two words"
mail MX    10 www
"""
TSIG_KEY = dns.tsig.Key("update.", b"0123456789abcdef0123456789abcdef", dns.tsig.HMAC_SHA256)
OTHER_KEY = dns.tsig.Key("update.", b"another secret of the same length", dns.tsig.HMAC_SHA256)
HOST = "127.0.0.1"


class Lines:
    """A log that is kept: level, event and fields."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        def say(event: str, **fields: Any) -> None:
            self.kept.append((level, event, fields))

        return say

    def reasons(self) -> list[str]:
        """Return the `why` of every line that has one."""
        return [str(fields["why"]) for _, _, fields in self.kept if "why" in fields]


class Signing:
    """A signer of one zone file in a folder."""

    def __init__(
        self,
        folder: Path,
        text: str | None = TEXT,
        *,
        primary_host: str | None = None,
        size_bytes_max: int = VALUE_BYTES_WRITE_DEFAULT,
        reroot: Name | None = None,
        macs_max: int = 100,
        made: tuple[RRset, ...] = (),
    ) -> None:
        self.path = folder / "alice.zone"
        self.journal_path = folder / "alice.zone.journal"
        self.clock_off_s = 0.0
        self.lines = Lines()
        self.changes = 0
        self.notifies = 0
        self._primary_host = primary_host
        self._size_bytes_max = size_bytes_max
        self._reroot = reroot
        self._macs_max = macs_max
        self._made = made
        if text is not None:
            self.path.write_bytes(text.encode())
        self._journal: Journal | None = None
        self.start()

    def now(self) -> float:
        """Return the time by the signer's clock."""
        return time.time() + self.clock_off_s

    def start(self) -> None:
        """Start on what the disk has."""
        is_secondary = self._primary_host is not None
        file = ZoneFile(self.path, APEX, reroot=self._reroot, may_be_missing=is_secondary)
        self._journal = journal = Journal(self.journal_path, str(APEX))
        self.memory = ReplayMemory(self._macs_max)
        try:
            self.zone = SignedZone(
                file,
                journal,
                APEX,
                self.memory,
                size_bytes_max=self._size_bytes_max,
                unix_clock=self.now,
                tell=self.lines,
                made=lambda: self._made,
            )
        except BaseException:
            journal.close()
            raise
        self.answers = Responder(
            self.zone,
            {TSIG_KEY.name: TSIG_KEY},
            SUFFIXES,
            self.memory,
            Hooks(self._changed, self._notified),
            unix_clock=self.now,
            logger=self.lines,
            tell=self.lines,
            primary_host=self._primary_host,
        )

    def crash(self) -> None:
        """End as a killed process does: nothing is written any more."""
        assert self._journal is not None
        self._journal.close()

    def restart(self) -> None:
        """Crash and start."""
        self.crash()
        self.start()

    def _changed(self) -> None:
        self.changes += 1

    def _notified(self) -> None:
        self.notifies += 1

    def send(self, wire: bytes, *, is_udp: bool = False, host: str = HOST) -> list[bytes]:
        """Return the responses to bytes."""
        return self.answers.respond(wire, is_udp=is_udp, host=host)

    def ask(
        self,
        message: dns.message.Message,
        *,
        key: dns.tsig.Key | None = TSIG_KEY,
        is_udp: bool = False,
        host: str = HOST,
    ) -> dns.message.Message:
        """Return the one response to a message that this key signs; its TSIG is checked by dnspython."""
        if key is not None:
            message.use_tsig(key)
        (response,) = self.send(message.to_wire(), is_udp=is_udp, host=host)
        # Each record by itself: the order of a transfer counts.
        is_transfer = message.question[0].rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR)
        return dns.message.from_wire(
            response, keyring=key, request_mac=message.mac or b"", one_rr_per_rrset=is_transfer
        )

    def rcode(self, message: dns.message.Message, **how: Any) -> str:
        """Return the rcode of the response to a message."""
        return dns.rcode.to_text(self.ask(message, **how).rcode())

    def add(self, owner: str, ttl: int, rtype: str, data: str) -> str:
        """Add a record by an UPDATE, and return the rcode."""
        message = update()
        message.add(owner, ttl, rtype, data)
        return self.rcode(message)

    def transfer(self, message: dns.message.Message, **how: Any) -> list[Any]:
        """Return the records of a transfer that goes into one message, each as (owner, type, data)."""
        response = self.ask(message, **how)
        assert response.rcode() == 0, response
        return [
            (str(rrset.name.relativize(dns.name.from_text(ZONE_NAME))), dns.rdatatype.to_text(rdata.rdtype), str(rdata))
            for rrset in response.answer
            for rdata in rrset
        ]

    def text(self) -> str:
        """Return the zone as text, in canonical order, without its SOA."""
        return "".join(line for line in write(self.zone.zone).splitlines(True) if " SOA " not in line)


def update(zone: str = ZONE_NAME) -> dns.update.UpdateMessage:
    """Return an UPDATE of the zone, without anything in it."""
    return dns.update.UpdateMessage(zone)


def signed_again(wire: bytes) -> bytes:
    """Return a request whose bytes were changed, with a right TSIG."""
    return Responses(TSIG_KEY, b"", int.from_bytes(wire[:2])).signed(wire, time.time())


def rcode_of(wire: bytes) -> str:
    """Return the rcode of a response as text."""
    return dns.rcode.to_text(dns.rcode.Rcode(wire[3] & 15))


def tsig_of(wire: bytes) -> Any:
    """Return the TSIG of a response, unchecked."""
    tsig = dns.message.from_wire(wire, keyring=False).tsig
    assert tsig is not None
    return tsig[0]


def soa_of(message: dns.message.Message) -> Any:
    """Return the SOA in the answer of a response."""
    return next(rdata for rrset in message.answer for rdata in rrset if rdata.rdtype == dns.rdatatype.SOA)
