"""Zone files as text, read to RRsets: directives, owners, TTLs, types, and all mistakes of a file.

dnspython splits a line into words and reads the data of each type; this module decides what each line is.
Guarantees: a mistake in one line hides none in another; what is returned is what `Zone.of` keeps whole.
Does not know where the text came from, keys, how much fits in an item.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer

from p2pdns.dns.message import RR, RRset, type_text
from p2pdns.dns.message.rdata import names_in, rewrite_names
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Type
from p2pdns.dns.zone.content import TTL_MAX, is_meta_type, refusal_of, select
from p2pdns.dns.zonefile import explain, generate, judging, svcb, warning
from p2pdns.dns.zonefile.entries import LineError, ReadRecord, Remark
from p2pdns.dns.zonefile.explain import LINE_HINT, Words
from p2pdns.dns.zonefile.lines import LogicalLine, logical_lines, normalised
from p2pdns.dns.zonefile.placeholders import told
from p2pdns.dns.zonefile.writing import dnspython_name
from p2pdns.errors import MISTAKES_MAX, FormatError, ZoneFileError, together
from p2pdns.values import replace

DEFAULT_TTL = 300  # Seconds; for records without a TTL in a file that has none and no SOA to take it from.
RECORDS_MAX = 100_000  # One line of $GENERATE can ask for billions.
RDATA_BYTES_MAX = 65_535  # RFC 1035 §3.2.1: its length has 16 bits.
WARNINGS_MAX = 50  # Of one file; a person who reads that many has understood.

# IDNA 2008 (RFC 5891), after the mapping to lower case that typing needs (UTS 46): 2003 makes another name of "ß".
_IDNA = dns.name.IDNA2008Codec(uts_46=True, transitional=False, allow_pure_ascii=True)
_TTL = re.compile(r"([0-9]+)|(?:[0-9]+[wdhms])+", re.IGNORECASE | re.ASCII)
_TTL_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_OTHER_CLASS = re.compile(r"(?:CH|CHAOS|HS|HESIOD|CS|CLASS[0-9]+)", re.IGNORECASE | re.ASCII)
_OUTSIDE_HINT = "write owners relative to @, without a final dot, or re-root the file with --origin NAME"
_DIRECTIVES = "$TTL, $ORIGIN and $GENERATE are read"


@dataclass(frozen=True)
class Reading:
    """What a zone file says: its RRsets in canonical order, and what is odd about it, each with its line.

    `reroot` is the apex it was written for, where that was asked for or had to be taken.
    """

    rrsets: tuple[RRset, ...]
    warnings: tuple[Remark, ...]
    reroot: Name | None = None


def read(text: str, *, apex: Name, path: str, reroot: Name | None = None, ttl: int | None = None) -> tuple[RRset, ...]:
    """Return the RRsets of a zone file, in canonical order; ZoneFileError with path and line, and all its mistakes.

    `reroot` is an apex the file was written for (`$ORIGIN example.com.`): names at or below it, in RDATA too, move
    to `apex`. `ttl` is what a `$TTL` above the first line would say.
    """
    return reading(text, apex=apex, path=path, reroot=reroot, ttl=ttl).rrsets


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
    """Return the same, and what is odd about it.

    `reroot_if_needed` is an apex the file may have been written for: it counts where owners outside the zone lie below
    it. `mistakes` are those that somebody else has found in this text; a line has one mistake at most.
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
        raise told(trouble, text) from None


@dataclass
class _Mistake:
    line: int
    what: str
    hint: str | None
    is_garbage: bool = False
    more_lines: int = 0  # Lines of the same kind right behind it.

    def error(self, path: str) -> ZoneFileError:
        more = "" if not self.more_lines else f", nor the {self.more_lines} behind it"
        if self.more_lines == 1:
            more = ", nor the line behind it"
        return ZoneFileError(self.what + more, path=path, line=self.line, hint=self.hint)


class _ZoneFileReader:
    """One zone file on its way to RRsets: what is in force at a line, and what was found up to it."""

    def __init__(self, apex: Name, reroot: Name | None, ttl: int | None) -> None:
        self.apex = apex
        self.reroot = reroot
        self.entries: list[ReadRecord] = []
        self.outside: list[Name] = []
        self._origin = dnspython_name(reroot or apex)
        self._owner: dns.name.Name | None = self._origin  # None behind a line whose owner is not known.
        self._default_ttl = ttl
        self._last_ttl: int | None = None
        self._quotes = explain.Quotes()
        self._mistakes: list[_Mistake] = []
        self._warnings: list[Remark] = []
        self._dotless = warning.Dotless()
        self._line = 0

    def read(self, text: str) -> None:
        """Read a text, up to the mistake after which no more are told."""
        for line in logical_lines(normalised(text)):
            if len(self._mistakes) > MISTAKES_MAX:
                return
            self._line = line.number
            if line.trouble is not None:
                self._mistakes.append(_Mistake(*line.trouble))
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
        self._mistakes.append(_Mistake(self._line, wrong.what, wrong.hint, wrong.is_garbage))

    def _unreadable(self, text: str) -> str:
        shown = self._quotes.of(text.split(maxsplit=1)[0])
        rest = " …" if len(text.split(maxsplit=1)) > 1 else ""
        return "cannot read this line" if shown is None else f'cannot read "{shown}{rest}"'

    # One line.

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
            # What follows without an owner belongs to nobody until this line turns out to be a record.
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
        trouble = explain.name_trouble(word, _IDNA, self._quotes)
        if trouble is not None:
            raise LineError(*trouble)
        try:
            return dns.name.from_text(word, self._origin, _IDNA)
        except dns.exception.DNSException as error:
            raise LineError(explain.reader_words(str(error)) or self._unreadable(word), LINE_HINT) from None

    def _header(self, words: dns.tokenizer.Tokenizer, owner_word: str | None) -> tuple[int | None, int, bool]:
        """Return TTL, type, and whether there is a class, in whatever order the first and the last stand."""
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
        return rtype

    def _no_type(self, token: dns.tokenizer.Token, word: str, owner_word: str | None) -> LineError:
        if owner_word is not None and owner_word.upper() in Type.__members__ and not token.is_eol_or_eof():
            what = f"the owner is missing: @ {owner_word.upper()} …"
            return LineError(what, "a line that begins with a space has the owner of the line above")
        for kind, rtype in (("A", Type.A), ("AAAA", Type.AAAA)):
            if word and explain.rdata_trouble(rtype, [token], _IDNA, explain.Quotes()) is None:
                return LineError(f"the type is missing: {kind} {word}", LINE_HINT)
        trouble = explain.unknown_type(word, self._quotes)
        # Prose at the head of a file that is no zone file is not full of unknown types; types are written in capitals.
        is_type_like = owner_word is None or len(self.entries) or word.isupper()
        if trouble is not None and (trouble[1] != LINE_HINT or is_type_like):
            return LineError(*trouble)
        first = owner_word or word
        shown = None if not first else self._quotes.of(first)
        rest = "" if token.is_eol_or_eof() else " …"
        what = "cannot read this line" if shown is None else f'cannot read "{shown}{rest}"'
        return LineError(what, LINE_HINT, is_garbage=True)

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
        """Return the bytes of RDATA; LineError in words of the type where they say none."""
        try:
            raw = self._bytes(rtype, tokens)
        except LineError:
            raise
        except Exception as error:  # dnspython's readers trip over some words in ways of their own.
            _raise_interrupt(error)
            trouble = explain.rdata_trouble(rtype, tokens, _IDNA, self._quotes)
            raise LineError(*(trouble or self._reader_words(str(error), rtype, tokens))) from None
        if len(raw) > RDATA_BYTES_MAX:
            raise LineError(
                f"{type_text(rtype)} of {len(raw)} bytes, {RDATA_BYTES_MAX} allowed", "no record holds more"
            )
        return raw

    @staticmethod
    def _reader_words(error: str, rtype: int, tokens: list[dns.tokenizer.Token]) -> Words:
        words = explain.reader_words(error)
        # What a reader quotes of the line may be part of a key.
        if words is None or any(len(part.value) > 4 and part.value in words for part in tokens):
            words = "the data cannot be read"
        return f"{type_text(rtype)}: {words}", explain.example_of(rtype)

    def _bytes(self, rtype: int, tokens: list[dns.tokenizer.Token]) -> bytes:
        if rtype in (Type.SVCB, Type.HTTPS) and not (tokens and tokens[0].value == "\\#"):
            return svcb.read(rtype, tokens, self._origin, _IDNA)
        text = " ".join([f'"{token.value}"' if token.is_quoted_string() else token.value for token in tokens])
        kind = dns.rdatatype.RdataType.make(rtype)
        words = dns.tokenizer.Tokenizer(text, idna_codec=_IDNA)
        raw = dns.rdata.from_text(dns.rdataclass.IN, kind, words, self._origin, False).to_wire()
        assert raw is not None, "without a file to write to, it returns the bytes"
        return raw

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
            raw = rewrite_names(rtype, raw, self._rerooted)
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
                if "." in token.value and not token.value.endswith("."):
                    relative = tuple(token.value.lower().encode().split(b"."))
                    if target.folded().labels == (*relative, *self._rerooted(origin).folded().labels):
                        self._dotless.add_target(self._line, token.value, target)

    def _rerooted(self, name: Name) -> Name:
        if self.reroot is None or not name.is_at_or_below(self.reroot):
            return name
        return name.moved(self.reroot, self.apex)

    # Directives.

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
        """Return the data that numbers are put into. BIND has one string there, in quotes where it has spaces.

        In TXT the quotes stay, as in PowerDNS: nobody wants the words of a text joined without their spaces.
        """
        if len(tokens) == 1 and tokens[0].is_quoted_string() and rtype not in (Type.TXT, Type.SPF):
            return str(tokens[0].value).replace('\\"', '"')
        return " ".join([f'"{token.value}"' if token.is_quoted_string() else token.value for token in tokens])

    # The end.

    def result(self, path: str, known: tuple[ZoneFileError, ...]) -> Reading:
        """Return what was read; ZoneFileError with all mistakes, those that were known before among them."""
        clashes, left_out = judging.judged(self.apex, self.entries)
        mistakes = [*self._mistakes, *(_Mistake(clash.line, clash.what, clash.hint) for clash in clashes)]
        lines = {error.line for error in known}
        found = [*known, *(mistake.error(path) for mistake in mistakes if mistake.line not in lines)]
        if found:
            raise together(found)
        if not self.entries:
            raise ZoneFileError("no records", path=path, hint="a zone needs at least one line such as: @ A 192.0.2.1")
        rrsets = tuple(select(self.apex, self._timed_records(), {}).values())
        return Reading(rrsets, self._all_warnings(rrsets, left_out), self.reroot)

    def _timed_records(self) -> list[RR]:
        """Return the records, those without a TTL with the SOA's minimum (RFC 1035 §3.3.13), or with ours."""
        ttl = DEFAULT_TTL
        for entry in self.entries:
            if entry.record.rtype == Type.SOA and entry.record.owner == self.apex:
                ttl = min(int.from_bytes(entry.record.rdata[-4:]), TTL_MAX)
                break
        kept = [entry for entry in self.entries if entry.refusal is None]
        return [entry.record if entry.has_ttl else replace(entry.record, ttl=ttl) for entry in kept]

    def _all_warnings(self, rrsets: tuple[RRset, ...], left_out: list[Remark]) -> tuple[Remark, ...]:
        visible = {(rrset.owner, rrset.rtype) for rrset in rrsets}
        seen = [entry for entry in self.entries if (entry.record.owner, entry.record.rtype) in visible]
        odd = [*warning.about_zone(self.apex, seen), *self._dotless.warnings(self.apex, self.entries)]
        found = sorted([*self._warnings, *left_out, *odd], key=lambda remark: remark.line)
        if len(found) > WARNINGS_MAX:
            found[WARNINGS_MAX - 1 :] = [Remark(found[WARNINGS_MAX - 1].line, "more warnings are left out")]
        return tuple(found)


def _raise_interrupt(error: BaseException) -> None:
    """Raise the Ctrl-C that dnspython, whose wrapper catches every exception, has made a mistake of the file."""
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, Exception):
            raise cause
        cause = cause.__cause__ or cause.__context__
