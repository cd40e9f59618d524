"""Zone files as text, read to RRsets: directives, owners, TTLs, types, and all mistakes of a file.

dnspython splits a line into words and reads the data of each type; this module decides what each line is.
Guarantees: a mistake in one line hides none in another, and `Zone.of` keeps every RRset that is returned.
Does not know the origin of the text, zone keys, how much fits in an item.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer

from p2pdns.dns.message import RR, RRset, type_text
from p2pdns.dns.message.rdata import names_in, rewrite_wires
from p2pdns.dns.name import Name
from p2pdns.dns.registry import OURS_ALONE, Class, Type
from p2pdns.dns.zone.content import TTL_MAX, is_meta_type, refusal_of, select
from p2pdns.dns.zonefile import explain, generate, judging, svcb, warning
from p2pdns.dns.zonefile.entries import LineError, ReadRecord, Remark
from p2pdns.dns.zonefile.explain import LINE_HINT
from p2pdns.dns.zonefile.lines import LogicalLine, logical_lines, normalised
from p2pdns.dns.zonefile.writing import dnspython_name
from p2pdns.errors import KEY_FILE_MARK, MISTAKES_MAX, FormatError, ZoneFileError, together
from p2pdns.values import replace

DEFAULT_TTL = 300  # Seconds; for records without a TTL in a file that has no TTL and no SOA.
RECORDS_MAX = 100_000  # One line of $GENERATE can ask for billions.
RDATA_BYTES_MAX = 65_535  # RFC 1035 §3.2.1: its length has 16 bits.
WARNINGS_MAX = 50  # Of one file; more of them tell a person no more.

# IDNA 2008 (RFC 5891), after the mapping to lower case that typed names need (UTS 46). IDNA 2003 changes "ß" to "ss".
_IDNA = dns.name.IDNA2008Codec(uts_46=True, transitional=False, allow_pure_ascii=True)
_TTL = re.compile(r"([0-9]+)|(?:[0-9]+[wdhms])+", re.IGNORECASE | re.ASCII)
_TTL_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII)
_OTHER_CLASS = re.compile(r"(?:CH|CHAOS|HS|HESIOD|CS|CLASS[0-9]+)", re.IGNORECASE | re.ASCII)
_OUTSIDE_HINT = "write owners relative to @, without a final dot, or re-root the file with --origin NAME"
_DIRECTIVES = "$TTL, $ORIGIN and $GENERATE are read"


@dataclass(frozen=True)
class Reading:
    """The RRsets of a zone file in canonical order, the warnings about it, and the apex that was replaced, if any.

    `entries` are its records in the order of the file, with their lines; those too that readers leave out.
    """

    rrsets: tuple[RRset, ...]
    warnings: tuple[Remark, ...]
    reroot: Name | None = None
    entries: tuple[ReadRecord, ...] = ()


def reading(
    text: str,
    *,
    apex: Name,
    path: str,
    reroot: Name | None = None,
    reroot_if_needed: Name | None = None,
    ttl: int | None = None,
    mistakes: Iterable[ZoneFileError] = (),
) -> Reading:
    """Return the RRsets and the warnings of a zone file; ZoneFileError with path, line and all mistakes of the file.

    `reroot` is an apex that the file was written for: names at or below it, in RDATA too, move to `apex`.
    `reroot_if_needed` is such an apex that counts only where owners outside the zone are below it. `ttl` acts as a
    `$TTL` above the first line. `mistakes` were found in this text before; a line has one mistake at most.
    """
    try:
        reader = _ZoneFileReader(apex, reroot, ttl)
        reader.read(text)
        if reroot is None and reroot_if_needed is not None:
            if any(owner.is_at_or_below(reroot_if_needed) for owner in reader.outside):
                reader = _ZoneFileReader(apex, reroot_if_needed, ttl)
                reader.read(text)
        return reader.result(path, tuple(mistakes))
    except ZoneFileError as trouble:
        raise (trouble.without_lines() if KEY_FILE_MARK in text else trouble) from None


class _ZoneFileReader:
    """The reading of one zone file: the settings in force at the current line, and all that was found up to it."""

    def __init__(self, apex: Name, reroot: Name | None, ttl: int | None) -> None:
        self.apex = apex
        self.reroot = reroot
        self.entries: list[ReadRecord] = []
        self.outside: list[Name] = []
        self._origin = dnspython_name(reroot or apex)
        self._owner: dns.name.Name | None = self._origin  # None after a line whose owner could not be read.
        self._default_ttl = ttl
        self._last_ttl: int | None = None
        self._quotes = explain.Quotes()
        self._mistakes: list[LineError] = []
        self._warnings: list[Remark] = []
        self._dotless: list[tuple[int, str, Name]] = []  # Targets that were typed like names of the public DNS.
        self._line = 0

    def read(self, text: str) -> None:
        """Read a text, up to the mistake after which no more are shown."""
        for line in logical_lines(normalised(text)):
            if len(self._mistakes) > MISTAKES_MAX:
                return
            self._line = line.number
            if line.trouble is not None:
                number, what, hint = line.trouble
                self._mistakes.append(LineError(what, hint, line=number))
            elif (content := line.text.lstrip(" \t")) and content[0] not in ";\n":
                self._read_line(line)

    def _read_line(self, line: LogicalLine) -> None:
        try:
            self._read_words(dns.tokenizer.Tokenizer(line.text, idna_codec=_IDNA))
        except LineError as wrong:
            self._wrong(wrong)
        except FormatError as error:
            self._wrong(LineError(f"{error.reason.replace('-', ' ')}, {error.detail}"))
        except (dns.exception.DNSException, ValueError) as error:
            _raise_interrupt(error)
            self._wrong(LineError(explain.reader_words(str(error)) or self._unreadable(line.text), LINE_HINT))

    def _wrong(self, wrong: LineError) -> None:
        last = self._mistakes[-1] if self._mistakes else None
        if wrong.is_garbage and last is not None and last.is_garbage:
            if last.line + last.more_lines + 1 == self._line:
                last.more_lines += 1
                return
        wrong.line = self._line
        self._mistakes.append(wrong)

    def _unreadable(self, text: str) -> str:
        first, *rest = text.split(maxsplit=1) or [""]
        shown = self._quotes.of(first) if first else None
        return "cannot read this line" if shown is None else f'cannot read "{shown}{" …" if rest else ""}"'

    def _read_words(self, words: dns.tokenizer.Tokenizer) -> None:
        token = words.get(want_leading=True)
        owner_word: str | None = None
        if token.is_whitespace():
            token = words.get()
        elif token.is_identifier() and not token.value.startswith("$"):
            owner_word = token.value
        if token.is_eol_or_eof():
            return
        if token.is_identifier() and token.value.startswith("$") and owner_word is None:
            self._directive(token.value.upper(), words)
            return
        owner = self._owner
        if owner_word is None:
            words.unget(token)
        else:
            # Where this line turns out to be no record, following lines without an owner have none.
            self._owner = None
            owner = self._name(owner_word)
        ttl, rtype, has_class = self._header(words, owner_word)
        self._owner = owner
        if owner_word is not None:
            self._warnings += warning.about_owner(self._line, owner_word, has_class)
        tokens = words.get_remaining()
        raw = self._rdata(rtype, tokens)
        if owner is not None:
            self._add(owner, ttl, rtype, raw, tokens)

    def _name(self, word: str) -> dns.name.Name:
        try:
            return dns.name.from_text(word, self._origin, _IDNA)
        except (dns.exception.DNSException, ValueError, IndexError) as error:
            # The word may be wrong by itself, or only too long below the origin.
            trouble = explain.name_trouble(word, _IDNA, self._quotes)
            if trouble is None:
                trouble = explain.reader_words(str(error)) or self._unreadable(word), LINE_HINT
            raise LineError(*trouble) from None

    def _header(self, words: dns.tokenizer.Tokenizer, owner_word: str | None) -> tuple[int | None, int, bool]:
        """Return TTL, type, and whether there is a class; TTL and class come in any order before the type."""
        ttl: int | None = None
        has_class = False
        while True:
            token = words.get()
            word = token.value
            if token.is_identifier() and ttl is None and _TTL.fullmatch(word):
                self._last_ttl = ttl = self._ttl(word)
            elif token.is_identifier() and not has_class and word.upper() in ("IN", "CLASS1"):
                has_class = True
            elif token.is_identifier() and not has_class and _OTHER_CLASS.fullmatch(word):
                raise LineError("a class other than IN", "a zone has class IN only; remove the class")
            else:
                return ttl, self._type(token, owner_word), has_class

    def _type(self, token: dns.tokenizer.Token, owner_word: str | None) -> int:
        word = token.value if token.is_identifier() else ""
        try:
            rtype = int(dns.rdatatype.from_text(word))
        except (dns.exception.DNSException, ValueError):
            raise self._no_type(token, word, owner_word) from None
        if is_meta_type(rtype):
            raise LineError(f"{type_text(rtype)} {judging.REASONS['meta-type'][0]}", judging.REASONS["meta-type"][1])
        if rtype in OURS_ALONE:
            raise LineError(f"{type_text(rtype)} is a record that p2pdns alone makes", "remove the record")
        return rtype

    def _no_type(self, token: dns.tokenizer.Token, word: str, owner_word: str | None) -> LineError:
        if owner_word is not None and owner_word.upper() in Type.__members__ and not token.is_eol_or_eof():
            what = f"the owner is missing: @ {owner_word.upper()} …"
            return LineError(what, "a line that begins with a space has the owner of the line above")
        for kind, rtype in (("A", Type.A), ("AAAA", Type.AAAA)):
            if word and explain.rdata_trouble(rtype, [token], _IDNA, explain.Quotes()) is None:
                return LineError(f"the type is missing: {kind} {word}", LINE_HINT)
        trouble = explain.unknown_type(word, self._quotes)
        # A file of prose should not give a list of unknown types. Types are mostly written in capitals.
        is_type_like = owner_word is None or len(self.entries) or word.isupper()
        if trouble is not None and (trouble[1] != LINE_HINT or is_type_like):
            return LineError(*trouble)
        rest = "" if token.is_eol_or_eof() else " …"
        return LineError(self._unreadable(f"{owner_word or word}{rest}"), LINE_HINT, is_garbage=True)

    @staticmethod
    def _ttl(word: str) -> int:
        # Python refuses to read thousands of digits.
        digits = [part.lstrip("0") for part in re.findall(r"[0-9]+", word)]
        units = re.findall(r"[a-z]", word.lower()) or ["s"]
        seconds = TTL_MAX + 1
        if all(len(part) <= len(str(TTL_MAX)) for part in digits):
            seconds = sum(int(part or 0) * _TTL_UNITS[unit] for part, unit in zip(digits, units, strict=True))
        if seconds > TTL_MAX:
            raise LineError(f"a TTL has at most {TTL_MAX}", "seconds, or 1h, 2d and the like")
        return seconds

    def _rdata(self, rtype: int, tokens: list[dns.tokenizer.Token]) -> bytes:
        """Return the RDATA of these words; LineError in words of the type where there is none."""
        try:
            raw = self._bytes(rtype, tokens)
        except LineError:
            raise
        except Exception as error:  # For some words, dnspython's readers fail with other exceptions than its own.
            _raise_interrupt(error)
            trouble = explain.rdata_trouble(rtype, tokens, _IDNA, self._quotes)
            raise LineError(*(trouble or explain.reader_trouble(rtype, tokens, str(error)))) from None
        if len(raw) > RDATA_BYTES_MAX:
            what = f"{type_text(rtype)} of {len(raw)} bytes, {RDATA_BYTES_MAX} allowed"
            raise LineError(what, "no record holds more")
        return raw

    def _bytes(self, rtype: int, tokens: list[dns.tokenizer.Token]) -> bytes:
        if rtype in (Type.SVCB, Type.HTTPS) and not (tokens and tokens[0].value == "\\#"):
            return svcb.read(rtype, tokens, self._origin, _IDNA)
        if rtype == Type.A and len(tokens) == 1 and tokens[0].is_identifier() and _IPV4.fullmatch(tokens[0].value):
            # Most records of large zones are such, and dnspython takes far longer for them.
            return bytes(map(int, tokens[0].value.split(".")))
        return svcb.rdata_of(rtype, " ".join(map(svcb.quoted, tokens)), self._origin, _IDNA)

    def _add(
        self, owner_read: dns.name.Name, ttl: int | None, rtype: int, raw: bytes, tokens: list[dns.tokenizer.Token]
    ) -> None:
        """Keep one record; LineError when it cannot be part of the zone."""
        if ttl is None:
            ttl = self._default_ttl if self._default_ttl is not None else self._last_ttl
        typed = Name(owner_read.labels[:-1])
        owner = self._rerooted(typed)
        if not owner.is_at_or_below(self.apex):
            self.outside.append(typed)
            raise LineError(f"{typed} is outside the zone", _OUTSIDE_HINT)
        if self.reroot is not None:
            raw = rewrite_wires(rtype, raw, lambda wire: self._rerooted(Name.parse(wire)[0]).wire())
        record = RR(owner, rtype, Class.IN, ttl or 0, raw)
        if len(self.entries) >= RECORDS_MAX:
            raise LineError(f"more than {RECORDS_MAX} records", "publish a part of it under another key")
        self.entries.append(ReadRecord(record, self._line, refusal_of(self.apex, record), ttl is not None))
        if rtype == Type.TXT:
            self._warnings += warning.about_text(self._line, tokens)
        else:
            self._watch_targets(record, tokens)

    def _watch_targets(self, record: RR, tokens: list[dns.tokenizer.Token]) -> None:
        origin = Name(self._origin.labels[:-1])
        for target in names_in(record.rtype, record.rdata):
            for token in tokens:
                if warning.ends_like_a_domain(token.value):
                    relative = tuple(token.value.lower().encode().split(b"."))
                    if target.folded().labels == (*relative, *self._rerooted(origin).folded().labels):
                        self._dotless.append((self._line, token.value, target))

    def _rerooted(self, name: Name) -> Name:
        if self.reroot is None or not name.is_at_or_below(self.reroot):
            return name
        return name.moved(self.reroot, self.apex)

    def _directive(self, word: str, words: dns.tokenizer.Tokenizer) -> None:
        if word == "$GENERATE":
            self._generate(words)
            return
        tokens = words.get_remaining()
        if word == "$INCLUDE":
            raise LineError("$INCLUDE is off", "put the lines of the other file here")
        if word not in ("$TTL", "$ORIGIN"):
            shown = self._quotes.of(word)
            raise LineError("no such directive" if shown is None else f"{shown} is not a directive", _DIRECTIVES)
        if len(tokens) != 1 or not tokens[0].is_identifier():
            example = "$TTL 3600" if word == "$TTL" else "$ORIGIN sub"
            raise LineError(f"{word} has one value", f"as {example}")
        value = tokens[0].value
        if word == "$ORIGIN":
            self._origin = self._name(value)
        elif _TTL.fullmatch(value):
            self._default_ttl = self._ttl(value)
        else:
            raise LineError(
                self._quotes.sentence(value, "is not a TTL", "this is not a TTL"), "as $TTL 3600 or $TTL 1h"
            )

    def _generate(self, words: dns.tokenizer.Tokenizer) -> None:
        numbers = generate.range_of(words.get().value)
        owner = words.get()
        if not owner.is_identifier():
            raise LineError("$GENERATE needs an owner, a type and data", "as $GENERATE 1-9 host$ A 192.0.2.$")
        ttl, rtype, _ = self._header(words, None)
        tokens = words.get_remaining()
        data = self._template(rtype, tokens)
        if len(self.entries) + len(numbers) > RECORDS_MAX:
            raise LineError(f"more than {RECORDS_MAX} records", "publish a part of it under another key")
        for number in numbers:
            self._owner = name = self._name(generate.substituted(owner.value, number))
            made = dns.tokenizer.Tokenizer(generate.substituted(data, number), idna_codec=_IDNA).get_remaining()
            self._add(name, ttl, rtype, self._rdata(rtype, made), made)

    @staticmethod
    def _template(rtype: int, tokens: list[dns.tokenizer.Token]) -> str:
        """Return the data with `$` in it. BIND reads one string there, in quotes where it has spaces.

        In TXT the quotes stay, as in PowerDNS: without them, the words of a text would be joined.
        """
        if len(tokens) == 1 and tokens[0].is_quoted_string() and rtype not in (Type.TXT, Type.SPF):
            return str(tokens[0].value).replace('\\"', '"')
        return " ".join(map(svcb.quoted, tokens))

    def result(self, path: str, known: tuple[ZoneFileError, ...]) -> Reading:
        """Return the result; ZoneFileError with all mistakes, also those that were known before."""
        clashes, left_out = judging.judged(self.apex, self.entries)
        mistakes = [*self._mistakes, *(LineError(clash.what, clash.hint, line=clash.line) for clash in clashes)]
        lines = {error.line for error in known}
        found = [*known, *(mistake.for_user(path) for mistake in mistakes if mistake.line not in lines)]
        if found:
            raise together(found)
        if not self.entries:
            raise ZoneFileError("no records", path=path, hint="a zone needs at least one line such as: @ A 192.0.2.1")
        rrsets = tuple(select(self.apex, self._timed_records(), Counter()).values())
        return Reading(rrsets, self._all_warnings(rrsets, left_out), self.reroot, tuple(self.entries))

    def _timed_records(self) -> list[RR]:
        """Return the records; one without a TTL gets the SOA's minimum (RFC 1035 §3.3.13) or `DEFAULT_TTL`."""
        soas = (entry.record for entry in self.entries if entry.record.rtype == Type.SOA)
        soa = next((record for record in soas if record.owner == self.apex), None)
        ttl = DEFAULT_TTL if soa is None else min(int.from_bytes(soa.rdata[-4:]), TTL_MAX)
        kept = [entry for entry in self.entries if entry.refusal is None]
        return [entry.record if entry.has_ttl else replace(entry.record, ttl=ttl) for entry in kept]

    def _all_warnings(self, rrsets: tuple[RRset, ...], left_out: list[Remark]) -> tuple[Remark, ...]:
        visible = {(rrset.owner, rrset.rtype) for rrset in rrsets}
        seen = [entry for entry in self.entries if (entry.record.owner, entry.record.rtype) in visible]
        odd = [*warning.about_zone(self.apex, seen), *warning.about_targets(self.apex, self.entries, self._dotless)]
        found = sorted([*self._warnings, *left_out, *odd], key=lambda remark: remark.line)
        if len(found) > WARNINGS_MAX:
            what = f"{len(found) - WARNINGS_MAX + 1:,} more warnings are left out"
            found[WARNINGS_MAX - 1 :] = [Remark(found[WARNINGS_MAX - 1].line, what)]
        return tuple(found)


def _raise_interrupt(error: BaseException) -> None:
    """Raise a Ctrl-C again: dnspython's wrapper catches every exception, so it looks like a mistake of the file."""
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, Exception):
            raise cause
        cause = cause.__cause__ or cause.__context__
