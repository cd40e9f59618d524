"""Problems of a running daemon that a person can act on: each with its cause, a remedy, and a command to type.

Guarantees: a healthy daemon has no problem; a state that is only unusual (a small network, no upstream because the
configuration says so) is none; the gravest comes first; looking for them changes nothing, and costs no signature and no
commit. Does not know how problems are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pdns.addresses import write_address
from p2pdns.admin import petnames
from p2pdns.clock import boot_now
from p2pdns.directory import shown
from p2pdns.errors import ConfigError
from p2pdns.publishing.upkeep import OTHERS_WANTED
from p2pdns.resolver.steps import WORDS
from p2pdns.state.blocklists import files_of
from p2pdns.state.clockwatch import ClockWatch

if TYPE_CHECKING:
    from p2pdns.admin.commands import EngineParts

UNANSWERED_MIN = 3  # Questions without any reply before an upstream counts as silent: one may be lost on the way.
STARTING_S = 10.0  # How long after a start the front need not be connected, nor contacts have answered.
NAMED_MAX = 3  # Zones or faults named in one cause, beside a count of the others.
LOG_COMMAND = "journalctl -u p2pdns -n 50"


@dataclass(frozen=True)
class Problem:
    """One problem; `about` is the word by which programs tell it apart."""

    about: str
    cause: str
    remedy: str
    command: str


@dataclass(frozen=True)
class KeptZone:
    """A zone that this node keeps alive; `copies` counts the other nodes that have it, None before the first put."""

    key: str
    petname: str | None
    seq: int | None
    copies: int | None
    copies_wanted: int
    trouble: str | None

    @property
    def name(self) -> str:
        return self.petname or self.key


# A fragment of a warning of the state, its remedy, and the command. `{place}` is the state directory.
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
    """Yield the problem of a clock that is behind the newest item adopted."""
    if watch.cause is not None:
        remedy = "set the clock; only if it is right now and was ahead before: p2pdns forget --ahead"
        yield Problem("clock", watch.cause, remedy, "timedatectl set-ntp true")


def of_files(warnings: Sequence[str], disk_trouble: str | None, place: str) -> Iterator[Problem]:
    """Yield the problems of the files of the state, one for each remedy."""
    found: dict[tuple[str, str], list[str]] = {}
    for text in [*warnings, *([disk_trouble] if disk_trouble else [])]:
        remedy, command = next((remedy, command) for fragment, remedy, command in _FILES if fragment in text)
        found.setdefault((remedy, command.format(place=place)), []).append(text)
    for (remedy, command), texts in found.items():
        yield Problem("state", "; ".join(dict.fromkeys(texts)), remedy, command)


def of_contacts(count: int, hint: str | None, uptime_s: float) -> Iterator[Problem]:
    """Yield the problem of a node without contacts."""
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
    """Yield the problems of resolving ordinary names, unless the configuration turns that off.

    `trouble` is the fault of the resolvers that the machine names, and after "; " the remedy.
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
    """Yield the problem of a front that is not connected."""
    if dns_addresses and not connection_count and uptime_s >= STARTING_S:
        cause = "the process that answers DNS is not connected: clients get no answers, or old ones"
        yield Problem("front", cause, "it is started again by itself; if this lasts, the log says why", LOG_COMMAND)


def of_block_lists(warnings: Sequence[str], trouble: str | None, is_outdated: bool) -> Iterator[Problem]:
    """Yield the problems of block lists: their files, and the lines in them."""
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


def _some(texts: Sequence[str], noun: str = "") -> str:
    rest = len(texts) - NAMED_MAX
    return "; ".join([*texts[:NAMED_MAX], *([f"and {rest} more{noun}"] if rest > 0 else [])])


def of_zones(kept: Sequence[KeptZone], contact_count: int) -> Iterator[Problem]:
    """Yield the problem of zones that too few other nodes have."""
    few = [zone for zone in kept if zone.trouble is not None and zone.copies is not None]
    if few:
        when = "within minutes" if contact_count else "once other nodes are known"
        remedy = f"each is put again by itself {when}; who has it is shown by"
        cause = _some([f"zone {zone.name}: {zone.trouble}" for zone in few], " zones")
        yield Problem("copies", cause, remedy, f"p2pdns inspect {few[0].name}")


def of_tables(troubles: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Yield the problem of zones of the configuration that are not published as they should be."""
    if texts := [f"{file}: {why}" for file, why in troubles]:
        remedy = "mend the file; a zone that is not watched is then read by"
        yield Problem("publish", _some(texts, " zones"), remedy, "p2pdns reload")


def of_held_back(held_back: Sequence[str]) -> Iterator[Problem]:
    """Yield the problem of zones that are not put again because they are dated ahead of the clock."""
    if held_back:
        remedy = "if the clock is right now and was wrong then, publish the zone anew in its place"
        command = "p2pdns publish --take-back -k KEYFILE ZONEFILE"
        yield Problem("copies", _some(held_back, " zones"), remedy, command)


def of_refused(refused: Sequence[tuple[str, str]]) -> Iterator[Problem]:
    """Yield the problem of zones whose newest item is not adopted: their names, and why."""
    if refused:
        cause = _some([f"zone {name}: {why}" for name, why in refused], " zones")
        remedy = "its key may be stolen: if it is yours, move the zone to its next key, else ask its owner; see"
        yield Problem("succession", cause, remedy, f"p2pdns inspect {refused[0][0]}")


def of_revealed(troubles: Sequence[tuple[str, str]], contact_count: int) -> Iterator[Problem]:
    """Yield the problem of next keys that readers may not find: the old keys, and why."""
    if troubles:
        when = "within minutes" if contact_count else "once other nodes are known"
        cause = _some([f"zone {name}: {why}" for name, why in troubles], " zones")
        yield Problem("succession", cause, f"each value is put again by itself {when}; see", "p2pdns zones")


def refused_of(engine: EngineParts, kept: Sequence[KeptZone]) -> list[tuple[str, str]]:
    """Return the zones that a person relies on here, and whose newest item is not adopted, with the reason."""
    names = {zone.key: zone.name for zone in kept}
    names |= {
        entry.key: name for name, entry in petnames.in_use(engine.config, engine.state.reader.names.read()).items()
    }
    found = [(str(zone_id), WORDS[reason]) for zone_id, reason in engine.overlay.refused]
    return [(names[key], why) for key, why in found if key in names]


def revealed_of(engine: EngineParts) -> list[tuple[str, str]]:
    """Return the zones that have moved from here, and whose next key too few nodes have, with the reason."""
    return [(str(one.revealed.old_key), one.trouble) for one in engine.revealing.kept if one.trouble is not None]


def of_configuration(trouble: Exception | None) -> Iterator[Problem]:
    """Yield the problem of a newer configuration that was refused."""
    if trouble is not None:
        hint = getattr(trouble, "hint", None) or "mend the line"
        cause = f"the newest configuration was refused, the one before is in force: {trouble}"
        yield Problem("configuration", cause, f"{hint}; then have it read", "p2pdns reload")


def kept_of(engine: EngineParts) -> list[KeptZone]:
    """Return the zones that an engine keeps alive, those in trouble first."""
    names = {
        entry.key: name for name, entry in petnames.in_use(engine.config, engine.state.reader.names.read()).items()
    }
    found = []
    for key, copies in engine.publisher.kept:
        trouble = None if copies is None else copies.warning or copies.trouble
        count, seq = (None, None) if copies is None else (copies.last.stored, copies.seq)
        found.append(KeptZone(str(key), names.get(str(key)), seq, count, OTHERS_WANTED, trouble))
    return sorted(found, key=lambda zone: (zone.trouble is None, zone.copies or 0))


def problems_of(engine: EngineParts, kept: Sequence[KeptZone]) -> list[Problem]:
    """Return the problems of an engine, the gravest first."""
    state, uptime_s = engine.state, boot_now() - engine.started_at
    place = shown(state.directory) if state.directory else "-"
    servers = [write_address(server) for server in engine.upstreams.current.servers]
    counters = engine.counters["upstream"]
    list_trouble, is_outdated = None, False
    try:
        is_outdated = engine.block_lists.is_outdated(files_of(engine.config.dns))
    except ConfigError as error:
        list_trouble = str(error)
    # A missing list also makes a reload fail: that is one problem, not two.
    refused = None if str(engine.reload_trouble) == list_trouble else engine.reload_trouble
    return [
        *of_front(engine.dns_addresses, engine.front_count, uptime_s),
        *of_configuration(refused),
        *of_clock(engine.clock_watch),
        *of_files(state.warnings, state.reader.trouble, place),
        *of_contacts(engine.contact_count, engine.hint, uptime_s),
        *of_upstream(engine.config.upstream.servers, servers, counters, engine.upstreams.problem),
        *of_zones(kept, engine.contact_count),
        *of_tables(engine.tables.troubles),
        *of_held_back(engine.publisher.held_back),
        *of_refused(refused_of(engine, kept)),
        *of_revealed(revealed_of(engine), engine.contact_count),
        *of_block_lists(engine.block_lists.warnings, list_trouble, is_outdated),
    ]
