"""The same questions to us, unbound and BIND: where the replies differ, and whether docs/conformance.md says why.

    python bench/conformance.py [--only TEXT] [--verbose]

A private root (NSD) on loopback; unbound and BIND above it, and ours above that unbound. What is compared of a reply:
rcode, flags, question, numbers of RRs, OPT and its options, and the answer itself without TTLs. A difference that the
table does not explain ends in exit status 1, and so does a reply of ours that is not what the RFCs want; an
explanation that no longer fits is reported. Needs the Debian packages unbound, bind9 and nsd, whose services it leaves
alone. Nothing is sent to any address but 127.0.0.1.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import re
import socket
import struct
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.rcode
import resolvers
from probes import PROBES, Probe
from resolvers import ROOT, Resolver

from tests.conformance import wire

TABLE = ROOT / "docs" / "conformance.md"
REPLY_S_MAX = 5.0  # A resolver whose cache is cold has answered by then.
SILENCE_S = 1.0  # How long nothing has to come to count as silence; sane questions are answered in milliseconds.
PIPELINED_COUNT = 20
FOLLOWING_COUNT = 5
OURS = "p2pdns"
FLAG_NAMES = {"AA": wire.AA, "TC": wire.TC, "RD": wire.RD, "RA": wire.RA, "Z": wire.Z, "AD": wire.AD, "CD": wire.CD}

Reply = dict[str, object]


@dataclass(frozen=True)
class Row:
    """One explanation: which probes, whose reply differs from ours in what, and why."""

    probes: tuple[str, ...]
    differs: Mapping[str, tuple[str, ...]]
    why: str

    def explains(self, probe: str, name: str, fields: Sequence[str]) -> bool:
        """Return whether this is the reason for just these differences."""
        is_meant = any(fnmatch.fnmatchcase(probe, pattern) for pattern in self.probes)
        return is_meant and name in self.differs and tuple(sorted(self.differs[name])) == tuple(sorted(fields))


@dataclass(frozen=True)
class Difference:
    """One probe to which another resolver replied otherwise than we did."""

    probe: str
    name: str
    fields: tuple[str, ...]
    ours: Reply
    theirs: Reply

    def __str__(self) -> str:
        """Show both sides."""
        sides = [f"{field}: ours {self.ours.get(field)}, {self.name} {self.theirs.get(field)}" for field in self.fields]
        return f"{self.probe} | {self.name}: {', '.join(self.fields)} | {'; '.join(sides)}"


# Asking.


def framed(message: bytes) -> bytes:
    """Return a message as it travels over TCP."""
    return struct.pack("!H", len(message)) + message


def read_framed(sock: socket.socket) -> bytes | None:
    """Return the next message of a stream, None at its end; TimeoutError when nothing comes."""
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2]):
        wanted = 2 - len(data) if len(data) < 2 else 2 + int.from_bytes(data[:2]) - len(data)
        try:
            piece = sock.recv(wanted)
        except ConnectionResetError:
            return None
        if not piece:
            return None
        data += piece
    return data[2:]


def ask(resolver: Resolver, probe: Probe, transport: str) -> Reply:
    """Return what a resolver makes of a probe, in comparable form."""
    wait_s = SILENCE_S if probe.wanted.get("outcome") in ("silence", "closed") else REPLY_S_MAX
    try:
        if transport == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(wait_s)
                sock.connect(resolver.address)
                sock.send(probe.message)
                return normalised(probe.message, sock.recv(65_535), has_odd_rdata=probe.has_odd_rdata)
        with socket.create_connection(resolver.address, timeout=wait_s) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return played(sock, probe)
    except TimeoutError:
        return {"outcome": "silence"}
    except ConnectionError:
        return {"outcome": "closed"}


def played(sock: socket.socket, probe: Probe) -> Reply:
    """Return what comes of a probe on a connection."""
    message = probe.message
    if probe.play in ("pipelined", "one after another"):
        return _several(sock, message, is_pipelined=probe.play == "pipelined")
    if probe.play == "byte by byte":
        for byte in framed(message):
            sock.sendall(bytes([byte]))
    else:
        sock.sendall(framed(message))
    if probe.play == "half closed":
        sock.shutdown(socket.SHUT_WR)
    response = read_framed(sock)
    if response is not None and probe.play == "then a question":
        sock.sendall(framed(wire.query("www.example")))
        response = read_framed(sock)
        message = wire.query("www.example")
    if response is None:
        return {"outcome": "closed"}
    return normalised(message, response, has_odd_rdata=probe.has_odd_rdata)


def _several(sock: socket.socket, message: bytes, *, is_pipelined: bool) -> Reply:
    count = PIPELINED_COUNT if is_pipelined else FOLLOWING_COUNT
    queries = [number.to_bytes(2) + message[2:] for number in range(count)]
    found: set[int] = set()
    if is_pipelined:
        sock.sendall(b"".join(map(framed, queries)))
    with contextlib.suppress(TimeoutError):
        for query in queries:
            if not is_pipelined:
                sock.sendall(framed(query))
            response = read_framed(sock)
            if response is None:
                break
            if wire.Response(response).rcode == wire.NOERROR:
                found.add(int.from_bytes(response[:2]))
    return {"outcome": f"{len(found)} answers"}


def normalised(query: bytes, data: bytes, *, has_odd_rdata: bool = False) -> Reply:
    """Return what counts of a response: no ID, no TTL, no order, no case but the question's."""
    try:
        response = wire.Response(data, has_odd_rdata)
        message = dns.message.from_wire(data, continue_on_error=has_odd_rdata)
        assert response.sections, "its records can be read"
    except (dns.exception.DNSException, AssertionError, IndexError, struct.error) as trouble:
        return {"outcome": f"unreadable ({type(trouble).__name__})"}
    asked = query[wire.HEADER_BYTES : wire.HEADER_BYTES + len(response.question)]
    question = "none" if not response.question else "echoed" if response.question == asked else "changed"
    first = next(iter(response.answer), None)
    answer = {
        (rrset.name.to_text().lower(), int(rrset.rdclass), int(rrset.rdtype), rdata.to_digestable())
        for rrset in message.answer
        for rdata in rrset
    }
    if has_odd_rdata:
        # No name in it is compressed, because its types are younger than RFC 3597.
        answer = {(one.owner.lower().hex(), one.rclass, one.rtype, one.rdata) for one in response.answer}
    opt = response.opt
    edns = "none" if opt is None else f"{opt.ttl >> 16 & 0xFF}{' DO' * bool(opt.ttl & wire.DO)}"
    return {
        "outcome": "answer" if data[:2] == query[:2] else "another id",
        "rcode": dns.rcode.to_text(dns.rcode.Rcode(response.rcode)),
        "flags": " ".join(name for name, bit in FLAG_NAMES.items() if response.flags & bit),
        "question": question,
        "owner": "none" if first is None else "echoed" if first.owner == asked[: len(first.owner)] else "other",
        "answers": len(response.answer),
        "authorities": len(response.authority),
        "additionals": len(response.additional),
        "edns": edns,
        "options": " ".join(sorted({str(code) for code, _ in response.options})),
        # What each server says of itself is its own.
        "answer": () if message.question and message.question[0].rdclass == wire.CH else tuple(sorted(answer)),
    }


# Comparing.


def fields_that_differ(ours: Reply, theirs: Reply) -> tuple[str, ...]:
    """Return in what two replies differ; where one is none that can be read, that is all there is to say."""
    if ours["outcome"] != theirs["outcome"]:
        return ("outcome",)
    return tuple(field for field in {**ours, **theirs} if ours.get(field) != theirs.get(field))


def is_as_wanted(probe: Probe, reply: Reply) -> bool:
    """Return whether a reply is what the RFCs want."""
    return all(reply.get(field, reply.get("outcome")) == value for field, value in probe.wanted.items())


def read_table(text: str) -> list[Row]:
    """Return the explanations of the document: the rows of its tables that have `probe` at their head."""
    rows: list[Row] = []
    is_inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            is_inside = False
        elif cells[0] == "probe":
            is_inside = True
        elif is_inside and not set(cells[0]) <= set("-: "):
            names = tuple(re.findall(r"`([^`]+)`", cells[0]))
            rows.append(Row(names, _differs(cells[1]), cells[2] if len(cells) > 2 else ""))
    return rows


def _differs(cell: str) -> dict[str, tuple[str, ...]]:
    found = {}
    for part in cell.split(";"):
        name, _, fields = part.partition(":")
        found[name.strip()] = tuple(field.strip() for field in fields.split(","))
    return found


def judged(differences: Iterable[Difference], rows: Sequence[Row]) -> tuple[list[Difference], list[str]]:
    """Return the differences without explanation, and the explanations without difference."""
    used: set[tuple[int, str]] = set()
    unexplained = []
    for difference in differences:
        found = [i for i, row in enumerate(rows) if row.explains(difference.probe, difference.name, difference.fields)]
        used.update((index, difference.name) for index in found)
        if not found:
            unexplained.append(difference)
    unused = [
        f"{', '.join(row.probes)} | {name}: {', '.join(row.differs[name])}"
        for index, row in enumerate(rows)
        for name in row.differs
        if (index, name) not in used
    ]
    return unexplained, unused


# Reporting.


def measured(
    resolved: Sequence[Resolver], probes: Sequence[Probe]
) -> tuple[list[Difference], dict[str, list[str]], int]:
    """Return the differences, what each resolver did not do as wanted, and how many questions that were."""
    differences: list[Difference] = []
    unwanted: dict[str, list[str]] = {resolver.name: [] for resolver in resolved}
    count = 0
    for probe in probes:
        for transport in probe.transports:
            name = f"{probe.name}/{transport}"
            count += 1
            replies = {resolver.name: ask(resolver, probe, transport) for resolver in resolved}
            for other, reply in replies.items():
                if not is_as_wanted(probe, reply):
                    wrong = {field: reply.get(field) for field in probe.wanted}
                    unwanted[other].append(f"{name}: wanted {dict(probe.wanted)}, is {wrong or reply}")
                fields = fields_that_differ(replies[OURS], reply)
                if fields:
                    differences.append(Difference(name, other, fields, replies[OURS], reply))
    return differences, unwanted, count


def report(resolved: Sequence[Resolver], probes: Sequence[Probe], rows: Sequence[Row], *, verbose: bool) -> int:
    """Ask everything, print what came of it, and return the exit status."""
    differences, unwanted, count = measured(resolved, probes)
    unexplained, unused = judged(differences, rows)
    if verbose:
        for difference in differences:
            print(difference)
    judged_count = sum(len(probe.transports) for probe in probes if probe.wanted)
    print(f"{count} questions, of which {judged_count} have one right reply")
    for resolver in resolved:
        right = judged_count - len(unwanted[resolver.name])
        others = sum(difference.name == resolver.name for difference in differences)
        told = "" if resolver.name == OURS else f", {others} replies differ from ours"
        print(f"  {resolver.name:8} {resolver.version:28} {right:3d} right{told}")
    for resolver in resolved:
        if verbose or resolver.name == OURS:
            for line in unwanted[resolver.name]:
                print(f"WRONG {resolver.name}: {line}")
    print(f"{len(differences)} differences, {len(differences) - len(unexplained)} explained in docs/conformance.md")
    for difference in unexplained:
        print(f"UNEXPLAINED {difference}")
    for line in unused:
        print(f"no longer true: {line}")
    return 1 if unexplained or unwanted[OURS] else 0


def main() -> int:
    """Run the bench and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="probes whose name has this text")
    parser.add_argument("--verbose", action="store_true", help="show explained differences and the others' faults too")
    options = parser.parse_args()
    if missing := resolvers.missing_packages():
        print(f"p2pdns: error: the bench needs {' '.join(missing)}", file=sys.stderr)
        print(f"p2pdns: hint: sudo apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    probes = [probe for probe in PROBES if options.only in probe.name]
    asked = [f"{probe.name}/{transport}" for probe in probes for transport in probe.transports]
    rows = [row for row in read_table(TABLE.read_text()) if any(fnmatch.filter(asked, text) for text in row.probes)]
    with tempfile.TemporaryDirectory(prefix="conformance") as folder, resolvers.running(Path(folder)) as resolved:
        return report(resolved, probes, rows, verbose=options.verbose)


if __name__ == "__main__":
    sys.exit(main())
