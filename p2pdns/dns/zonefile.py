"""Zone files: text to RRsets and back, and RDATA as text.

Guarantees: `read` returns RRsets that `Zone.of` keeps whole, or raises a ZoneFileError that says file, line, what and
what to do; nothing in the file is silently left out. `write` gives text that `read` turns into the same zone. `filled`
puts zone keys where names can stand and nowhere else, and every line stays where it was.
`rdata_text` ends in printable ASCII for any octets.
Does not know: where the text came from, keys, how much fits in an item.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer
import dns.ttl
import dns.zonefile

from p2pdns.dns.message import CLASS_IN, RR, RRset, Type, rewrite_names, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.dns.zone.content import canonical_rdata, refusal_of, select
from p2pdns.errors import KEY_FILE_MARK, FormatError, ZoneFileError, first_token

DEFAULT_TTL = 300  # Seconds; for records without a TTL in a file without $TTL.
INCLUDE_DEPTH_MAX = 8  # Deeper is a file that includes itself.
RECORDS_MAX = 100_000  # One line of $GENERATE can ask for billions.

# What a text passes through on its way to a placeholder: comments, strings in quotes, escaped characters.
_PLACEHOLDER = re.compile(
    r'(?P<kept>;[^\n]*|"(?:[^"\\\n]|\\[^\n])*"?|\\.)|\{zone:(?P<name>[^\s{}"();]*)(?P<end>\}?)',
    re.IGNORECASE | re.DOTALL,
)
_PLACEHOLDER_HINT = "{zone:NAME}. stands for a key as the last label of a name; in quotes it is text"
_BEFORE_LABEL = ' \t\n()."'

_REASONS = {
    "meta-type": ("belongs to messages, not to zones", "remove the record"),
    "dnssec-type": (
        "is DNSSEC, which an item does not carry",
        "remove the record: the signature of the item covers the whole zone",
    ),
    "soa-below-apex": ("stands below the apex", "a zone has one SOA, at @"),
    "wildcard-ns": ("delegates a wildcard, which no resolver understands alike", "delegate each name with a line"),
    "svcb-params": ("has parameters that do not hold", "check the service parameters against RFC 9460"),
}


@dataclass(frozen=True, slots=True)
class _Entry:
    record: RR
    path: str
    line: int


class _Transaction(dns.zonefile.RRsetsReaderTransaction):
    """Where dnspython's reader puts what it reads: a list of entries with their lines, judged one by one."""

    def __init__(self, apex: Name, reroot: Name | None) -> None:
        origin = _dnspython_name(reroot or apex)
        super().__init__(dns.zonefile.RRSetsReaderManager(origin=origin, relativize=False), True, False)  # type: ignore[no-untyped-call]
        self.apex = apex
        self.reroot = reroot
        self.entries: list[_Entry] = []
        self.path = ""
        self.line = 0
        self.lines: list[str] = []

    def text_of_line(self) -> str:
        """Return the first word of the line that is being read: files that are none of zones may hold secrets."""
        text = self.lines[self.line - 1].strip() if 0 < self.line <= len(self.lines) else ""
        return first_token(text)

    def add(self, *args: Any) -> None:
        """Keep one record; ZoneFileError when it cannot be part of the zone."""
        owner_read, ttl, rdata = args
        owner = self._rerooted(Name(owner_read.labels[:-1]))
        octets = rdata.to_wire()
        rtype = int(rdata.rdtype)
        if self.reroot is not None:
            octets = rewrite_names(rtype, octets, self._rerooted)
        record = RR(owner, rtype, CLASS_IN, ttl, octets)
        if not owner.is_at_or_below(self.apex):
            raise self._error(
                f"{Name(owner_read.labels[:-1])} is outside the zone",
                "write owners relative to @, without a final dot, or re-root the file with --origin NAME",
            )
        refusal = refusal_of(self.apex, record)
        if refusal is not None:
            what, hint = _REASONS[refusal]
            raise self._error(f"{type_text(rtype)} {what}", hint)
        if len(self.entries) >= RECORDS_MAX:
            raise self._error(f"more than {RECORDS_MAX} records", "publish a part of it under another key")
        self.entries.append(_Entry(record, self.path, self.line))

    def _rerooted(self, name: Name) -> Name:
        if self.reroot is None or not name.is_at_or_below(self.reroot):
            return name
        return name.moved(self.reroot, self.apex)

    def _error(self, what: str, hint: str | None = None) -> ZoneFileError:
        return ZoneFileError(what, path=self.path, line=self.line, hint=hint)


class _IncludeStack(list[Any]):
    """dnspython's stack of files that wait for the end of an included one; a file that includes itself ends here."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def append(self, state: Any) -> None:
        """Push, up to `INCLUDE_DEPTH_MAX`."""
        if len(self) >= INCLUDE_DEPTH_MAX:
            raise ZoneFileError(
                f"$INCLUDE goes deeper than {INCLUDE_DEPTH_MAX} files",
                path=self.path,
                hint="look for a file that includes itself",
            )
        super().append(state)


class _Reader(dns.zonefile.Reader):
    """dnspython's reader, which tells the transaction at which line each record begins."""

    txn: _Transaction

    def close(self) -> None:
        """Close the included files that an error has left open."""
        for file in (self.current_file, *(state[3] for state in self.saved_state)):
            if file is not None:
                file.close()

    def _rr_line(self) -> None:
        self._guarded(super()._rr_line)

    def _generate_line(self) -> None:
        self._guarded(super()._generate_line)

    def _guarded(self, read_line: Any) -> None:
        # A record may go on over several lines; the first one is where a person looks.
        self.txn.path, self.txn.line = self.tok.where()
        try:
            read_line()
        except ZoneFileError:
            raise
        except FormatError as error:
            raise ZoneFileError(
                f"{error.reason.replace('-', ' ')}, {error.detail}", path=self.txn.path, line=self.txn.line
            ) from error
        except (dns.exception.DNSException, ValueError) as error:
            _raise_interrupt(error)
            what, hint = _explained(str(error), self.txn.text_of_line())
            raise ZoneFileError(what, path=self.txn.path, line=self.txn.line, hint=hint) from error


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names that `{zone:NAME}` asks for, in lower case, each once, in the order of the text.

    >>> placeholders('www CNAME www.{zone:Bob}. ; {zone:carol}')
    ('bob',)
    """
    names = (match["name"].lower() for match in _PLACEHOLDER.finditer(text) if match["kept"] is None)
    return tuple(dict.fromkeys(name for name in names if name))


def filled(text: str, keys: Mapping[str, str], *, path: str) -> str:
    """Return the text with each `{zone:NAME}` replaced by the key of that name, written in lower case in `keys`.

    ZoneFileError with path and line where a name has no key, and where no name of another zone can stand. Comments and
    strings in quotes stay as they are.

    >>> filled("bob NS {zone:bob}.", {"bob": "tkrq"}, path="a.zone")
    'bob NS tkrq.'
    """
    try:
        return _filled(text, keys, path)
    except ZoneFileError as trouble:
        raise _told(trouble, text) from None


def _filled(text: str, keys: Mapping[str, str], path: str) -> str:
    parts = []
    copied = 0
    for match in _PLACEHOLDER.finditer(text):
        if match["kept"] is not None:
            continue
        key = keys.get(match["name"].lower())
        trouble = _placeholder_trouble(text, match) or (
            _unfilled(match[0], match["name"], keys) if key is None else None
        )
        if trouble is not None:
            line = text.count("\n", 0, match.start()) + 1
            raise ZoneFileError(trouble[0], path=path, line=line, hint=trouble[1])
        assert key is not None, "what has no key is trouble"
        parts += [text[copied : match.start()], key]
        copied = match.end()
    return "".join([*parts, text[copied:]])


def _placeholder_trouble(text: str, match: re.Match[str]) -> tuple[str, str] | None:
    """Return what is wrong with the place or the form of a placeholder, and a hint."""
    if not match["name"] or not match["end"]:
        return f'cannot read "{match[0]}"', _PLACEHOLDER_HINT
    if match.start() and text[match.start() - 1] not in _BEFORE_LABEL:
        return f"{match[0]} stands inside a label", _PLACEHOLDER_HINT
    if text[match.end() : match.end() + 1] != ".":
        # A key without a dot behind it is a name of this zone to every reader of zone files, and never meant.
        return f"{match[0]} has no final dot, so it would be a name inside this zone", f"write {match[0]}."
    return None


def _unfilled(placeholder: str, name: str, keys: Mapping[str, str]) -> tuple[str, str]:
    near = difflib.get_close_matches(name.lower(), list(keys), n=1)
    hint = f"did you mean {{zone:{near[0]}}}?" if near else f"--zone {name}=KEY, or p2pdns name add {name} KEY"
    return f"{placeholder} is not filled: no zone key goes by that name here", hint


def read(
    text: str, *, apex: Name, path: str, reroot: Name | None = None, allow_include: bool = False
) -> tuple[RRset, ...]:
    """Return the RRsets of a zone file, in canonical order; ZoneFileError with path and line.

    `reroot` is an apex the file was written for (`$ORIGIN example.com.`): names at or below it, in RDATA too, move
    to `apex`. `allow_include` lets `$INCLUDE` open files.
    """
    try:
        return _read(text, apex, path, reroot, allow_include)
    except ZoneFileError as trouble:
        raise _told(trouble, text) from None


def _told(trouble: ZoneFileError, text: str) -> ZoneFileError:
    """Return the error as it may be told about this text."""
    return trouble.without_lines() if KEY_FILE_MARK in text else trouble


def _read(text: str, apex: Name, path: str, reroot: Name | None, allow_include: bool) -> tuple[RRset, ...]:
    transaction = _Transaction(apex, reroot)
    transaction.lines = text.split("\n")
    tokenizer = dns.tokenizer.Tokenizer(text, path)
    reader = _Reader(tokenizer, dns.rdataclass.IN, transaction, allow_include=allow_include, default_ttl=DEFAULT_TTL)
    # The reader leaves out owners outside its zone without a word, so that a file written for example.com would
    # become an empty zone. With the root as its zone it leaves out nothing, and we judge.
    reader.zone_origin = dns.name.root
    reader.saved_state = _IncludeStack(path)
    try:
        reader.read()
    except (dns.exception.DNSException, ValueError) as error:
        _raise_interrupt(error)
        raise _located(str(error), tokenizer) from error
    except OSError as error:
        name = error.filename or path
        raise ZoneFileError(f'"{name}" cannot be included: {error.strerror}', path=path) from error
    finally:
        reader.close()
    if not transaction.entries:
        raise ZoneFileError("no records", path=path, hint="a zone needs at least one line such as: @ A 192.0.2.1")
    _refuse_what_clashes(apex, transaction.entries)
    return tuple(select(apex, [entry.record for entry in transaction.entries], {}).values())


def _raise_interrupt(error: BaseException) -> None:
    """Raise the Ctrl-C that dnspython, whose wrapper asks no exception for its kind, has made a mistake of the file."""
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, Exception):
            raise cause
        cause = cause.__cause__ or cause.__context__


def _located(text: str, tokenizer: dns.tokenizer.Tokenizer) -> ZoneFileError:
    path, line = tokenizer.where()
    match = re.fullmatch(rf"{re.escape(path)}:(\d+): (.*)", text, re.DOTALL)
    if match:
        line, text = int(match.group(1)), match.group(2)
    what, hint = _explained(text)
    return ZoneFileError(what, path=path, line=line, hint=hint)


def _explained(text: str, line: str = "") -> tuple[str, str | None]:
    """Return dnspython's words in ours, and a hint where there is one."""
    text = re.sub(r"^caught exception <class '[^']*'>: ?", "", text).strip()
    unknown = re.fullmatch(r"unknown rdatatype '(.*)'", text)
    if unknown:
        close = difflib.get_close_matches(unknown.group(1).upper(), list(Type.__members__), n=1)
        hint = f'did you mean "{close[0]}"?' if close else "a line is: OWNER [TTL] TYPE DATA"
        return f'unknown type "{unknown.group(1)}"', hint
    if "$INCLUDE" in text:
        return "$INCLUDE is off", "put the lines of the other file here"
    if "class is not zone's class" in text:
        return "a class other than IN", "a zone has class IN only; remove the class"
    words = (text if text[1:2].isupper() else text[:1].lower() + text[1:]).rstrip(".")
    if words in ("", "text input is malformed", "DNS message is malformed"):
        return f'cannot read "{line}"' if line else "cannot read this line", "a line is: OWNER [TTL] TYPE DATA"
    return words, None


def _refuse_what_clashes(apex: Name, entries: Iterable[_Entry]) -> None:
    """Raise for every record that the rules of a zone would leave out because of another one."""
    by_owner: dict[Name, list[_Entry]] = {}
    for entry in entries:
        by_owner.setdefault(entry.record.owner, []).append(entry)
    blocker: _Entry | None = None
    for owner in sorted(by_owner):
        group = by_owner[owner]
        if blocker is not None and owner.is_at_or_below(blocker.record.owner):
            word = "delegation" if blocker.record.rtype == Type.NS else "DNAME"
            upper = _relative_text(blocker.record.owner, apex)
            raise _clash(
                group[0],
                f"{_relative_text(owner, apex)} is hidden by the {word} of {upper} in line {blocker.line}",
                "move the record out of that subtree, or remove one of the two",
            )
        _refuse_at_owner(apex, group)
        blocks = [
            entry
            for entry in group
            if entry.record.rtype == Type.DNAME or (entry.record.rtype == Type.NS and owner != apex)
        ]
        blocker = blocks[0] if blocks else blocker


def _refuse_at_owner(apex: Name, group: list[_Entry]) -> None:
    first: dict[int, _Entry] = {}
    owner = _relative_text(group[0].record.owner, apex)
    for entry in group:
        record = entry.record
        twin = first.setdefault(record.rtype, entry)
        if record.rtype not in (Type.CNAME, Type.SOA, Type.DNAME):
            continue
        if canonical_rdata(record.rtype, record.rdata) != canonical_rdata(record.rtype, twin.record.rdata):
            raise _clash(
                entry,
                f"a second {type_text(record.rtype)} at {owner}, the first is in line {twin.line}",
                "remove one of the two",
            )
    for rtype, hint in (
        (Type.CNAME, "an alias stands alone: remove it, or the other records of that owner"),
        (Type.NS, "a delegated name belongs to the other key: put the record there"),
    ):
        if rtype not in first or (rtype == Type.NS and group[0].record.owner == apex) or len(first) == 1:
            continue
        other = next(entry for entry in group if entry.record.rtype != rtype)
        raise _clash(other, f"{type_text(other.record.rtype)} beside {type_text(rtype)} at {owner}", hint)


def _clash(entry: _Entry, what: str, hint: str) -> ZoneFileError:
    return ZoneFileError(what, path=entry.path, line=entry.line, hint=hint)


def write(zone: Zone) -> str:
    """Return a zone file of the zone: one record a line, owners and names relative to the apex where they can be."""
    lines = [
        f"{_relative_text(owner, zone.apex)} {rrset.ttl} {type_text(rtype)} {_rdata_text(rtype, rdata, zone.apex)}\n"
        for (owner, rtype), rrset in zone.rrsets.items()
        for rdata in rrset.rdatas
    ]
    return "".join(lines)


def rdata_text(rtype: int, rdata: bytes) -> str:
    r"""Return RDATA as a zone file has it, names absolute; `\# 4 0a000001` where there is no better form (RFC 3597).

    >>> rdata_text(Type.A, bytes([192, 0, 2, 1])), rdata_text(65280, b"ab")
    ('192.0.2.1', '\\# 2 6162')
    """
    return _rdata_text(rtype, rdata, None)


def _rdata_text(rtype: int, rdata: bytes, apex: Name | None) -> str:
    generic = f"\\# {len(rdata)} {rdata.hex()}".rstrip()
    origin = _dnspython_name(apex) if apex else None
    try:
        value = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rtype), rdata, 0, len(rdata))
        text = value.to_text(origin, apex is not None) if origin else value.to_text()
    except (dns.exception.DNSException, ValueError, LookupError, ArithmeticError, AttributeError, TypeError):
        # Strangers wrote these octets; whatever a reader of some type trips over, they have the generic form.
        return generic
    return text if text.isascii() and text.isprintable() else generic


def _relative_text(owner: Name, apex: Name) -> str:
    labels = owner.relative_to(apex)
    return str(Name.of(*labels)).removesuffix(".") if labels else "@"


def _dnspython_name(name: Name) -> dns.name.Name:
    return dns.name.Name((*name.labels, b""))
