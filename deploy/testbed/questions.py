"""What `dig` printed, as values.

Guarantees: of each question there is exactly one answer, in the order in which they were asked; one without a response
has no rcode. Does not know who was asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

# A response opens with the first line, the end of the waiting for one with the second.
_GOT, _NONE = ";; Got answer:", ";; no servers could be reached"
_HEADER = re.compile(r"^;; ->>HEADER<<- opcode: \w+, status: (\w+), id: \d+", re.MULTILINE)
_FLAGS = re.compile(r"^;; flags:([^;]*);", re.MULTILINE)
_EDE = re.compile(r"^; EDE: (\d+)(?: \([^)]*\))?(?:: \((.*)\))?$", re.MULTILINE)
_TIME = re.compile(r"^;; Query time: (\d+) msec", re.MULTILINE)
_SECTION = re.compile(r"^;; (ANSWER|AUTHORITY) SECTION:\n((?:(?!\n).+\n)*)", re.MULTILINE)
_RECORD = re.compile(r"^(\S+)\s+(\d+)\s+IN\s+(\S+)\s+(.*)$")

TRIES = 1  # A second try would hide what the first one met.
WAIT_SECONDS = 5  # More than a resolver may take for one question, its four seconds.


@dataclass(frozen=True)
class Record:
    """One RR, its data as text."""

    name: str
    ttl: int
    type: str
    data: str


@dataclass(frozen=True)
class Answer:
    """What came back for one question; without a response, `rcode` and `ms` are None."""

    name: str
    type: str
    rcode: str | None = None
    flags: tuple[str, ...] = ()
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    ede: tuple[tuple[int, str], ...] = ()
    ms: int | None = None

    @property
    def data(self) -> list[str]:
        """Return the data of all answers that have the type which was asked for, sorted."""
        return sorted(record.data for record in self.answers if record.type == self.type)

    def facts(self) -> dict[str, object]:
        """Return this as values for JSON."""
        return {**asdict(self), "ede": [{"code": code, "text": text} for code, text in self.ede]}


@dataclass(frozen=True)
class Digging:
    """How questions are put to one server."""

    server: str
    port: int
    flags: Sequence[str] = field(default=())

    def command(self, questions: Sequence[tuple[str, str]]) -> list[str]:
        """Return the command that asks all of them, one after the other."""
        words = [f"@{self.server}", "-p", str(self.port), f"+tries={TRIES}", f"+time={WAIT_SECONDS}", *self.flags]
        # "-q" and "-t" keep a name that reads like a flag or a type from being one.
        return ["dig", *words, *(word for name, kind in questions for word in ("-q", name, "-t", kind))]


def read_answers(questions: Sequence[tuple[str, str]], text: str) -> list[Answer]:
    """Return the answer of each question from everything that one `dig` printed."""
    blocks = list(_blocks(text))
    # A dig that was ended early has said nothing of the rest.
    padded = [*blocks, *[""] * (len(questions) - len(blocks))]
    return [_read(name, kind, block) for (name, kind), block in zip(questions, padded, strict=False)]


def _blocks(text: str) -> Iterator[str]:
    block: list[str] | None = None
    for line in text.splitlines(keepends=True):
        if line.startswith((_GOT, _NONE)):
            if block is not None:
                yield "".join(block)
            block = []
        if block is not None:
            block.append(line)
    if block is not None:
        yield "".join(block)


def _read(name: str, kind: str, block: str) -> Answer:
    header = _HEADER.search(block)
    if header is None:
        return Answer(name, kind.upper())
    flags = _FLAGS.search(block)
    sections = {section: tuple(_records(lines)) for section, lines in _SECTION.findall(block)}
    took = _TIME.search(block)
    return Answer(
        name,
        kind.upper(),
        rcode=header[1],
        flags=tuple(flags[1].split()) if flags else (),
        answers=sections.get("ANSWER", ()),
        authority=sections.get("AUTHORITY", ()),
        ede=tuple((int(code), text) for code, text in _EDE.findall(block)),
        ms=int(took[1]) if took else None,
    )


def _records(lines: str) -> Iterator[Record]:
    for line in lines.splitlines():
        if match := _RECORD.match(line):
            yield Record(match[1], int(match[2]), match[3], match[4])
