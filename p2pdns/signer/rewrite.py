"""A zone file with a new content: what has not changed stays byte for byte.

A line whose record is gone goes, a line whose record has another TTL is written anew, the serial of an SOA is replaced
in its place, and new records come at the end. Guarantees: the new text was read and gives the wanted content; a line
whose record stays is kept, unless it took its owner or TTL from a line that went. `None` where no such text was found,
and always for files with `$GENERATE` or `$INCLUDE`. Does not know where the file is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from p2pdns.dns.message import RR, records_of, type_text
from p2pdns.dns.message.rdata import rewrite_wires
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zonefile.entries import ReadRecord
from p2pdns.dns.zonefile.lines import logical_lines, normalised
from p2pdns.dns.zonefile.placeholders import escaped
from p2pdns.dns.zonefile.reader import Reading
from p2pdns.dns.zonefile.writing import rdata_text
from p2pdns.errors import ZoneFileError
from p2pdns.signer.content import Content, content_of, difference, identity_of, serial_of, with_serial
from p2pdns.values import replace

TRIES_MAX = 4  # Each try writes lines anew whose TTL came from a line that went; one is enough for usual files.
_PHYSICAL = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_WORD = re.compile(r';[^\r\n]*|"(?:[^"\\]|\\.)*"|[()\s]+|(?P<word>(?:[^\s;"()\\]|\\.)+)', re.DOTALL)

Read = Callable[[str], Reading]


def is_never_rewritten(text: str) -> bool:
    """Return whether a file has lines that stand for other lines."""
    words = (line.text.split(maxsplit=1)[:1] for line in logical_lines(normalised(text)))
    return any(word and word[0].upper() in ("$GENERATE", "$INCLUDE") for word in words)


def rewritten(text: str, reading: Reading, apex: Name, content: Content, read: Read) -> str | None:
    """Return the text with another content; `reading` is that of the text, and `read` reads another one."""
    if is_never_rewritten(text):
        return None
    plan = _Plan(text, reading, apex, content)
    for _ in range(TRIES_MAX):
        candidate = plan.text()
        try:
            found = read(candidate)
        except ZoneFileError:
            return None
        if not difference(content_of(found.rrsets), content) and not difference(content, content_of(found.rrsets)):
            return candidate
        if not plan.learn(found):
            return None
    return None


@dataclass(frozen=True)
class _Kept:
    """A line that stays: its record, and whether its own words are enough to read it so."""

    entry: ReadRecord
    record: RR


class _Plan:
    """What becomes of each logical line: kept, given its owner, written anew, or left out."""

    def __init__(self, text: str, reading: Reading, apex: Name, content: Content) -> None:
        self._apex = apex
        self._reroot = reading.reroot
        self._content = content
        self._physical = [match[0] for match in _PHYSICAL.finditer(text)]
        self._end = "\r\n" if self._physical and self._physical[0].endswith("\r\n") else "\n"
        self._spans = [(line.number, line.text.count("\n") + 1) for line in logical_lines(normalised(text))]
        self._is_moved = any(self._raw(*span).upper().lstrip("\ufeff \t").startswith("$ORIGIN") for span in self._spans)
        self._entries = {entry.line: entry for entry in reading.entries}
        before = content_of(reading.rrsets)
        self._kept: dict[int, _Kept] = {}
        self._anew: dict[int, RR] = {}
        self._gone: set[int] = set()
        self._with_owner: set[int] = set()
        self._line_of: dict[int, int] = {}  # Line in the last candidate -> line in the file.
        self._new = self._sort(before)
        self._find_lost_owners()

    def _raw(self, number: int, count: int) -> str:
        return "".join(self._physical[number - 1 : number - 1 + count])

    def _sort(self, before: Content) -> list[RR]:
        """Decide about each record of the file; return the records that it lacks."""
        wanted = {identity_of(record): record for record in records_of(self._content.values())}
        missing = dict(wanted)
        for line, entry in self._entries.items():
            record = entry.record
            key = identity_of(record)
            known = before.get((record.owner, record.rtype))
            if known is None:
                # Every reader leaves this record out, so no change is made to it.
                self._kept[line] = _Kept(entry, record)
                continue
            now = wanted.get(key)
            if now is None and record.rtype == Type.SOA:
                now = self._with_other_serial(record, missing)
            if now is None:
                self._gone.add(line)
            elif now.ttl != known.ttl or (now.rdata != record.rdata and record.rtype == Type.SOA):
                self._anew[line] = now
            else:
                self._kept[line] = _Kept(entry, now)
            missing.pop(key, None)
        return list(missing.values())

    def _with_other_serial(self, record: RR, missing: dict[tuple[Name, int, bytes], RR]) -> RR | None:
        for key, other in missing.items():
            if other.rtype == Type.SOA:
                same = with_serial(record.rdata, serial_of(other.rdata)) == other.rdata
                if same:
                    del missing[key]
                    return other
        return None

    def _find_lost_owners(self) -> None:
        """Find the lines that took their owner from a line that goes."""
        is_lost = False
        for line in sorted(self._entries):
            has_owner = not self._physical[line - 1].lstrip("\ufeff")[:1].isspace()
            if line in self._gone:
                is_lost = is_lost or has_owner
            elif has_owner or line in self._anew:
                is_lost = False
            elif is_lost:
                self._with_owner.add(line)
                is_lost = False

    def text(self) -> str:
        """Return the new text."""
        parts: list[str] = []
        self._line_of = {}
        line = 1
        for number, count in self._spans:
            raw = self._raw(number, count)
            if number in self._gone:
                continue
            if number in self._anew:
                raw = self._written_anew(number, raw)
            elif number in self._with_owner:
                raw = self._owner_text(self._kept[number].record) + raw
            self._line_of[line] = number
            line += len(_PHYSICAL.findall(raw))
            parts.append(raw)
        text = "".join(parts)
        if self._new and text and not text.endswith(("\n", "\r")):
            text += self._end
        return text + "".join(map(self._line, self._new))

    def learn(self, found: Reading) -> bool:
        """Compare a reading of the candidate; have lines written anew that are read otherwise; False if none is."""
        entries = {self._line_of.get(entry.line): entry for entry in found.entries}
        wrong = [line for line, kept in self._kept.items() if not _is_read_alike(kept.entry, entries.get(line))]
        if not wrong:
            # Each line says what it said, and the lowest TTL of an RRset went with another line, or was the SOA's.
            ttls = {(rrset.owner, rrset.rtype): rrset.ttl for rrset in found.rrsets}
            wrong = [
                line
                for line, kept in self._kept.items()
                if ttls.get((kept.record.owner, kept.record.rtype), kept.record.ttl) != kept.record.ttl
            ]
        for line in wrong:
            self._with_owner.discard(line)
            self._anew[line] = self._kept.pop(line).record
        return bool(wrong)

    def _written_anew(self, number: int, raw: str) -> str:
        record = self._anew[number]
        old = self._entries[number].record
        if record.rtype == Type.SOA and record.ttl == old.ttl:
            with_serial_only = _serial_replaced(raw, serial_of(old.rdata), serial_of(record.rdata))
            if with_serial_only is not None:
                return with_serial_only
        return self._line(record)

    def _line(self, record: RR) -> str:
        moved = self._as_in_file(record)
        apex = None if self._is_moved else (self._reroot or self._apex)
        # A name that looks like a placeholder would be one to the next reader of the file.
        data = escaped(rdata_text(moved.rtype, moved.rdata, apex))
        return f"{self._owner_text(record)} {record.ttl} {type_text(record.rtype)} {data}{self._end}"

    def _owner_text(self, record: RR) -> str:
        owner = self._as_in_file(record).owner
        return escaped(str(owner) if self._is_moved else owner.text_in(self._reroot or self._apex))

    def _as_in_file(self, record: RR) -> RR:
        """Return a record with the names of the apex that the file was written for."""
        if self._reroot is None:
            return record
        apex, reroot = self._apex, self._reroot

        def move(wire: bytes) -> bytes:
            name = Name.parse(wire)[0]
            return name.moved(apex, reroot).wire() if name.is_at_or_below(apex) else wire

        owner = record.owner.moved(apex, reroot)
        return replace(record, owner=owner, rdata=rewrite_wires(record.rtype, record.rdata, move))


def _is_read_alike(before: ReadRecord, now: ReadRecord | None) -> bool:
    """Return whether a line is still read as it was; the TTL is that of the line, not of its RRset."""
    if now is None or identity_of(now.record) != identity_of(before.record):
        return False
    return (now.has_ttl, now.record.ttl) == (before.has_ttl, before.record.ttl)


def _serial_replaced(raw: str, old: int, new: int) -> str | None:
    """Return the text of an SOA record with another serial, None where the serial is not found."""
    words = [match for match in _WORD.finditer(raw) if match["word"] is not None]
    for index, match in enumerate(words):
        if match["word"].upper() == "SOA" and len(words) > index + 3:
            serial = words[index + 3]
            if serial["word"] == str(old):
                return f"{raw[: serial.start()]}{new}{raw[serial.end() :]}"
    return None
