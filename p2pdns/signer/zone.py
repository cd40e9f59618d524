"""The signer's zone: content, serial and history, with the journal and the zone file under it.

Guarantees: `commit` returns once a change is on the disk, and changes nothing where that fails; after a crash at any
moment the zone is what was acknowledged; a zone file that somebody has edited keeps both, his edits and the changes
that it lacked; serials only rise (RFC 1982), but for those of a primary. Does not know messages, or the overlay.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from p2pdns.dns.message import RR, RRset, records_of, type_of, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.dns.zone import MADE_SOA_TTL, MICROSECONDS, Zone
from p2pdns.errors import FormatError, P2pdnsError, Unavailable
from p2pdns.publishing.editions import Draft, draft_of, extent_of
from p2pdns.signer.content import (
    Content,
    ZoneChange,
    changed,
    content_of,
    difference,
    incremented,
    is_newer,
    next_serial,
    own_soa,
    serial_of,
    soa_of,
    with_soa_serial,
)
from p2pdns.signer.filed import Filed, ZoneFile
from p2pdns.signer.journal import FILE_BYTES_MAX, JOURNAL_BYTES_MAX, Entry, Journal
from p2pdns.signer.tsig import FUDGE_S, ReplayMemory
from p2pdns.timing import UnixClock

# Changes kept for secondaries that were away. A secondary that lacks more of them gets the whole zone, which is
# smaller than the history.
HISTORY_STEPS_MAX = 1_000
HISTORY_RECORDS_MAX = 20_000


@dataclass(frozen=True)
class Step:
    """One change of the zone as IXFR shows it: the SOAs before and after, and the other records (RFC 1995 §4)."""

    before: RR
    after: RR
    removed: tuple[RR, ...]
    added: tuple[RR, ...]


def _written(record: RR) -> list[Any]:
    return [str(record.owner), type_text(record.rtype), record.ttl, record.rdata.hex()]


def _read_record(fields: list[Any]) -> RR:
    owner, rtype, ttl, rdata = fields
    return RR(Name.read(owner), type_of(rtype), Class.IN, int(ttl), bytes.fromhex(rdata))


class SignedZone:
    """The zone of one key. `content` is what its records are, without a made SOA."""

    def __init__(
        self,
        file: ZoneFile,
        journal: Journal,
        apex: Name,
        memory: ReplayMemory,
        *,
        size_bytes_max: int,
        unix_clock: UnixClock,
        tell: Any,
        made: Callable[[], Sequence[RRset]] = tuple,
    ) -> None:
        """Read file and journal; an error of the one or the other where they give no zone.

        `made` are the records that p2pdns alone makes: they go into the value, and no client sees them.
        """
        self.apex = apex
        self._file = file
        self._journal = journal
        self._memory = memory
        self._size_bytes_max = size_bytes_max
        self._clock = unix_clock
        self._tell = tell
        self._made = made
        self._history: deque[Step] = deque()
        self._compact_at_bytes = JOURNAL_BYTES_MAX
        self._filed: Filed = file.load()
        self.content: Content = content_of(self._filed.reading.rrsets)
        self.serial = 0
        # Whether the file is left as it is, and the journal alone has what it lacks.
        self.is_file_kept = False
        self._recover()
        self._served: Zone | None = None

    @property
    def soa(self) -> RR:
        """The SOA that clients and secondaries see."""
        return soa_of(self.content, self.apex, self.serial)

    @property
    def zone(self) -> Zone:
        """The zone as it answers questions."""
        if self._served is None:
            records = with_soa_serial(self.content, self.apex, self.serial)
            self._served = Zone.of(self.apex, records.values(), self.serial * MICROSECONDS)
        return self._served

    @property
    def records(self) -> tuple[RR, ...]:
        """All records but the SOA."""
        return tuple(record for record in records_of(self.content.values()) if record.rtype != Type.SOA)

    @property
    def made_ns(self) -> tuple[RR, ...]:
        """The NS of the apex for transfers, where the zone has none: BIND and dnspython take no zone without it."""
        if (self.apex, Type.NS) in self.content:
            return ()
        return (RR(self.apex, Type.NS, Class.IN, MADE_SOA_TTL, self.apex.wire()),)

    def value(self) -> Draft:
        """Return what is to be signed."""
        return self._drafted(self.content)

    def refuse_unfit(self, content: Content) -> None:
        """Raise ZoneFileError for a content that cannot be published."""
        size_max, path = self._size_bytes_max, str(self._file.path)
        extent_of(self._drafted(content), self.apex, made=self._made(), size_bytes_max=size_max, path=path)

    def _drafted(self, content: Content) -> Draft:
        path, size_max = str(self._file.path), self._size_bytes_max
        return draft_of(content.values(), self.apex, made=self._made(), size_bytes_max=size_max, path=path)

    def steps_since(self, serial: int) -> list[Step] | None:
        """Return the changes after a serial, in order; None where the history does not reach so far."""
        steps = list(self._history)
        for index, step in enumerate(steps):
            if serial_of(step.before.rdata) == serial:
                return steps[index:]
        return None

    def note(self, mac: bytes, time_signed: int) -> None:
        """Have a MAC on the disk whose request has changed nothing."""
        self._journal.append({"mac": mac.hex(), "at": time_signed})
        self._compact_if_large()

    def commit(self, content: Content, *, mac: bytes = b"", time_signed: int = 0, serial: int | None = None) -> bool:
        """Make this the content, once it is on the disk; return whether it differs from the one before.

        `serial` is that of a primary. ZoneFileError for a content that does not fit, Unavailable where the disk takes
        nothing: then all stays as it was.
        """
        if not difference(self.content, content) and serial in (None, self.serial):
            if mac:
                self.note(mac, time_signed)
            return False
        number = self._next_serial(content) if serial is None else serial
        after = with_soa_serial(content, self.apex, number)
        self.refuse_unfit(after)
        step = self._step(after, number)
        change = difference(self.content, after)
        entry: Entry = {
            "from": _written(step.before),
            "to": _written(step.after),
            "removed": [_written(record) for record in change.removed],
            "added": [_written(record) for record in change.added],
        }
        if mac:
            entry |= {"mac": mac.hex(), "at": time_signed}
        self._journal.append(entry)
        self._adopt(after, number)
        self._remember(step)
        self._compact_if_large()
        return True

    def _next_serial(self, content: Content) -> int:
        own = own_soa(content, self.apex)
        if own is None:
            return next_serial(self.serial, self._clock())
        given = serial_of(own.rdata)
        # A serial that its owner chose counts by ones, as in other servers.
        return given if is_newer(given, self.serial) else incremented(self.serial)

    def _adopt(self, content: Content, serial: int) -> None:
        self.content, self.serial, self._served = content, serial, None

    def _step(self, after: Content, serial: int) -> Step:
        change = difference(self.content, after)
        return Step(
            self.soa,
            soa_of(after, self.apex, serial),
            tuple(record for record in change.removed if record.rtype != Type.SOA),
            tuple(record for record in change.added if record.rtype != Type.SOA),
        )

    def _remember(self, step: Step) -> None:
        if any((record.owner, record.rtype) == (self.apex, Type.NS) for record in (*step.removed, *step.added)):
            # The made NS comes or goes with it, and no step says so: secondaries get the whole zone.
            self._history.clear()
            return
        self._history.append(step)
        size = sum(len(known.removed) + len(known.added) for known in self._history)
        while len(self._history) > HISTORY_STEPS_MAX or size > HISTORY_RECORDS_MAX:
            oldest = self._history.popleft()
            size -= len(oldest.removed) + len(oldest.added)

    def reload(self) -> bool:
        """Read the zone file again, if it was changed; return whether the zone has changed.

        Changes that the old file lacked are made in the content of the new one. ZoneFileError for a file with mistakes:
        the zone stays.
        """
        filed = self._file.load()
        if filed.digest == self._filed.digest:
            return False
        pending = difference(content_of(self._filed.reading.rrsets), self.content)
        content = changed(content_of(filed.reading.rrsets), pending)
        is_changed = self.commit(content)
        # After the change is in the journal, because the journal counts changes from the file that was read before.
        self._filed = filed
        self._checkpoint()
        return is_changed

    def write_back(self) -> None:
        """Bring the zone file up to date; edits of others are read first. Unavailable where it cannot be written."""
        self.reload()
        if not difference(content_of(self._filed.reading.rrsets), self.content):
            return
        made = self._file.rewrite(self._filed, self.content)
        if made is None:
            if not self.is_file_kept:
                self.is_file_kept = True
                self._tell.warning("the zone file stays as it is; the journal has the changes", file=self._file.path)
            return
        self._filed = made
        self._checkpoint()

    def close(self) -> None:
        """Let another process have the journal."""
        self._journal.close()

    # The journal. An entry with "file" says that the changes above it are in the file of that digest; one with "to" is
    # a change, with the SOAs before and after; one with "mac" alone is a request that changed nothing.

    def _checkpoint(self) -> None:
        pending = difference(content_of(self._filed.reading.rrsets), self.content)
        if pending:
            self._journal.compact(self._entries_that_count())
            return
        self._journal.append({"file": self._filed.digest, "serial": self.serial})

    def _entries_that_count(self) -> list[Entry]:
        """Return what a journal needs: the file, what it lacks as one change, and the MACs that would still pass."""
        pending = difference(content_of(self._filed.reading.rrsets), self.content)
        entries: list[Entry] = [{"file": self._filed.digest, "serial": self.serial}]
        if pending:
            entries.append(
                {
                    "to": _written(self.soa),
                    "removed": [_written(record) for record in pending.removed],
                    "added": [_written(record) for record in pending.added],
                }
            )
        recent = self._memory.recent(self._clock())
        return entries + [{"mac": mac.hex(), "at": at} for mac, at in recent]

    def _compact_if_large(self) -> None:
        if self._journal.size_bytes <= self._compact_at_bytes:
            return
        try:
            self._journal.compact(self._entries_that_count())
        except Unavailable as trouble:
            # The change is in the journal already; the next one tries again.
            self._tell.warning("the journal cannot be made shorter", why=trouble.what)
        # If most of the journal still counts, it is not rewritten at every change; but a start must be able to read it.
        self._compact_at_bytes = min(max(JOURNAL_BYTES_MAX, 2 * self._journal.size_bytes), FILE_BYTES_MAX // 2)

    def _recover(self) -> None:
        entries = self._journal.entries
        digest, lacked = None, list[Entry]()
        try:
            for entry in entries:
                self._remember_mac(entry)
                if "file" in entry:
                    digest, lacked, self.serial = entry["file"], [], int(entry["serial"])
                elif "to" in entry:
                    lacked.append(entry)
                    self.serial = serial_of(_read_record(entry["to"]).rdata)
                    if "from" in entry:
                        self._remember(_step_of(entry, self.apex))
            for entry in lacked:
                self.content = changed(self.content, _change_of(entry))
        except (
            *(LookupError, TypeError, ValueError, ArithmeticError, AttributeError),
            *(RecursionError, struct.error, FormatError),
        ) as trouble:
            hint = f"mv {self._journal.path} elsewhere to go on from the zone file"
            what = f"an entry cannot be read ({type(trouble).__name__})"
            raise Unavailable(what, place=str(self._journal.path), hint=hint) from None
        self._go_on_from(digest)
        try:
            self.refuse_unfit(self.content)
        except P2pdnsError as trouble:
            if lacked:
                hint = f"mend the zone file, or mv {self._journal.path} elsewhere to go on without these changes"
                what = f"with the {len(lacked)} changes of the journal, {trouble.what}"
                raise Unavailable(what, place=str(self._file.path), hint=hint) from None
            raise
        if self._journal.cut_bytes:
            what = "the last line of the journal was cut short, and is removed; nobody was told of it"
            self._tell.warning(what, bytes=self._journal.cut_bytes)

    def _go_on_from(self, digest: str | None) -> None:
        """Choose the serial to go on with, after a start with a file that the journal knows, or does not know."""
        own = own_soa(self.content, self.apex)
        if digest == self._filed.digest:
            self.content = with_soa_serial(self.content, self.apex, self.serial)
            return
        # The file was edited while no signer ran, or is new: secondaries must ask for all of it.
        self._history.clear()
        if digest is None:
            self.serial = next_serial(0, self._clock()) if own is None else serial_of(own.rdata)
        else:
            self.serial = self._next_serial(self.content)
        self.content = with_soa_serial(self.content, self.apex, self.serial)
        self._journal.compact(self._entries_that_count())

    def _remember_mac(self, entry: Entry) -> None:
        now = self._clock()
        if "mac" in entry and int(entry["at"]) + FUDGE_S >= now:
            self._memory.remember(bytes.fromhex(entry["mac"]), int(entry["at"]), now)


def _change_of(entry: Entry) -> ZoneChange:
    return ZoneChange(_records(entry["removed"]), _records(entry["added"]))


def _records(rows: Iterable[list[Any]]) -> tuple[RR, ...]:
    return tuple(map(_read_record, rows))


def _step_of(entry: Entry, apex: Name) -> Step:
    change = _change_of(entry)
    return Step(
        _read_record(entry["from"]),
        _read_record(entry["to"]),
        tuple(record for record in change.removed if (record.owner, record.rtype) != (apex, Type.SOA)),
        tuple(record for record in change.added if (record.owner, record.rtype) != (apex, Type.SOA)),
    )
