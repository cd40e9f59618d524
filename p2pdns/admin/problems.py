"""What is wrong with a running daemon, as a person can act on it: cause, remedy, and a command to type.

Guarantees: every problem has all three, and a daemon that is well has none; what is only unusual (a small network, no
upstream because the configuration says so) is no problem. Does not know how they are shown, and finds out nothing by
itself: it is handed facts that the rooms of the engine know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from p2pdns.state.clockwatch import ClockWatch

UNANSWERED_MIN = 3  # Questions without any reply before an upstream counts as silent: one may be lost on the way.
STARTING_S = 10.0  # How long after a start a front may be on its way, or contacts may not have answered yet.
ZONES_NAMED_MAX = 3  # In one cause, beside a count of the others.
LINES_MAX = 3  # Faults of block lists told one by one.
LOG_COMMAND = "journalctl -u p2pdns -n 50"


@dataclass(frozen=True)
class Problem:
    """One problem; `about` is a word that programs can tell it by."""

    about: str
    cause: str
    remedy: str
    command: str

    def as_json(self) -> dict[str, str]:
        """Return the fields for a reply."""
        return asdict(self)


@dataclass(frozen=True)
class KeptZone:
    """A zone that this node keeps alive: how many other nodes have it, None before the first put of this run."""

    key: str
    petname: str | None
    seq: int | None
    copies: int | None
    copies_wanted: int
    trouble: str | None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.petname or self.key

    def as_json(self) -> dict[str, object]:
        """Return the fields for a reply."""
        return asdict(self)


# By a fragment of what the state says of its files: the remedy and the command. `{place}` is the state directory.
_FILES: tuple[tuple[str, str, str], ...] = (
    ("of a newer p2pdns", "run that newer version here, or give this one another --state DIR", "p2pdns --version"),
    ("no space", "make room on that disk, then restart the daemon", "df -h {place}"),
    ("cannot be written", "make room on that disk; then it is written again without a restart", "df -h {place}"),
    ("read-only", "make the disk writable, then restart the daemon", "findmnt -T {place}"),
    ("not kept beyond this run", "see what keeps it from writing, then restart the daemon", "ls -la {place}"),
    ("set aside", "nothing is to be done, but for the file set aside: keep it or remove it", "ls -la {place}"),
    ("its mark stays", "publish or pin again what was kept alive", "p2pdns inspect KEY"),
    ("", "nothing is to be done; the first answer of each key counts as its newest from here on", "ls -la {place}"),
)


def of_clock(watch: ClockWatch) -> Iterator[Problem]:
    """Yield that the clock is behind what was adopted."""
    if watch.cause is not None:
        remedy = "set the clock; only if it is right now and was ahead before: p2pdns forget --ahead"
        yield Problem("clock", watch.cause, remedy, "timedatectl set-ntp true")


def of_files(warnings: Sequence[str], disk_trouble: str | None, place: str) -> Iterator[Problem]:
    """Yield what is wrong with the files of the state, one problem for a remedy."""
    found: dict[tuple[str, str], list[str]] = {}
    for text in [*warnings, *([disk_trouble] if disk_trouble else [])]:
        remedy, command = next((remedy, command) for fragment, remedy, command in _FILES if fragment in text)
        found.setdefault((remedy, command.format(place=place)), []).append(text)
    for (remedy, command), texts in found.items():
        yield Problem("state", "; ".join(dict.fromkeys(texts)), remedy, command)


def of_contacts(count: int, hint: str | None, uptime_s: float) -> Iterator[Problem]:
    """Yield that there is nobody to ask."""
    if count:
        return
    if hint is not None and "--bootstrap" in hint:
        yield Problem("contacts", "no other node is known", hint, "p2pdns serve --bootstrap ADDR:PORT")
    else:
        cause = "no other node answers" if uptime_s >= STARTING_S else "no other node has answered yet"
        yield Problem("contacts", cause, "see whether the network is up and UDP gets out and back", "p2pdns doctor")


def of_upstream(
    setting: str | Sequence[str], servers: Sequence[str], counters: Mapping[str, int], trouble: str | None = None
) -> Iterator[Problem]:
    """Yield that ordinary names cannot be resolved, unless the configuration wants it so.

    `trouble` is what is wrong with the resolvers that the machine names, and the line to write instead.
    """
    if setting == "none":
        return
    if trouble is not None:
        cause, _, remedy = trouble.partition("; ")
        yield Problem("upstream", cause, remedy or "name one in [upstream] servers", "p2pdns reload")
    elif not servers:
        cause = "every name server for ordinary names leads back to this daemon"
        if not counters.get("servers-dropped"):
            cause = "no name server for ordinary names is known"
        remedy = 'name one in the configuration, [upstream] servers = ["ADDR"], and have it read'
        yield Problem("upstream", cause, remedy, "p2pdns reload")
    if servers and counters.get("queries", 0) >= UNANSWERED_MIN and not counters.get("replies"):
        cause = f"{', '.join(servers)}: no reply yet to {counters['queries']} questions for ordinary names"
        remedy = "see whether that name server answers you, and name another in [upstream] servers if not"
        yield Problem("upstream", cause, remedy, f"p2pdns resolve example.com @{servers[0]}")


def of_front(dns_addresses: Sequence[str], connection_count: int, uptime_s: float) -> Iterator[Problem]:
    """Yield that the process which answers DNS is not there."""
    if dns_addresses and not connection_count and uptime_s >= STARTING_S:
        cause = "the process that answers DNS is not connected: clients get no answers, or old ones"
        yield Problem("front", cause, "it is started again by itself; if this lasts, the log says why", LOG_COMMAND)


def of_block_lists(warnings: Sequence[str], trouble: str | None, is_outdated: bool) -> Iterator[Problem]:
    """Yield what is wrong with the lists of names that are answered as absent: files, and lines in them."""
    files = [text for text in warnings if text.startswith("[dns] ")]
    if trouble is not None and not any(text.startswith(trouble) for text in files):
        files.append(f"{trouble}; what was read before is in force")
    if files:
        remedy = "put the file back or take it out of the configuration, then have it read"
        yield Problem("block", _some(files), remedy, "p2pdns reload")
    elif is_outdated:
        yield Problem("block", "a block list has changed since it was read", "have it read", "p2pdns reload")
    lines = [text for text in warnings if not text.startswith("[dns] ")]
    if lines:
        yield Problem("block", _some(lines), "mend or remove the lines, then have the list read", "p2pdns reload")


def _some(texts: Sequence[str]) -> str:
    rest = len(texts) - LINES_MAX
    return "; ".join([*texts[:LINES_MAX], *([f"and {rest} more"] if rest > 0 else [])])


def of_zones(kept: Sequence[KeptZone], contact_count: int) -> Iterator[Problem]:
    """Yield that zones are at too few other nodes, or are not put again."""
    few = [zone for zone in kept if zone.trouble is not None and zone.copies is not None]
    if few:
        rest = len(few) - ZONES_NAMED_MAX
        named = [f"zone {zone.name}: {zone.trouble}" for zone in few[:ZONES_NAMED_MAX]]
        when = "within minutes" if contact_count else "once other nodes are known"
        remedy = f"each is put again by itself {when}; who has it is shown by"
        cause = "; ".join([*named, *([f"and {rest} more zones"] if rest > 0 else [])])
        yield Problem("copies", cause, remedy, f"p2pdns inspect {few[0].name}")


def of_held_back(held_back: Sequence[str]) -> Iterator[Problem]:
    """Yield that zones are not put again, because they are dated ahead of the clock."""
    if held_back:
        rest = len(held_back) - ZONES_NAMED_MAX
        cause = "; ".join([*held_back[:ZONES_NAMED_MAX], *([f"and {rest} more zones"] if rest > 0 else [])])
        remedy = "if the clock is right now and was wrong then, publish the zone anew in its place"
        yield Problem("copies", cause, remedy, "p2pdns publish --take-back -k KEYFILE ZONEFILE")


def of_configuration(trouble: Exception | None) -> Iterator[Problem]:
    """Yield that a newer configuration was refused."""
    if trouble is not None:
        hint = getattr(trouble, "hint", None) or "mend the line"
        cause = f"the newest configuration was refused, the one before is in force: {trouble}"
        yield Problem("configuration", cause, f"{hint}; then have it read", "p2pdns reload")
