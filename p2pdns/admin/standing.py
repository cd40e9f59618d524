"""How a running engine stands: the zones that it keeps alive, and its problems, gathered from all of its rooms.

Guarantees: only looks, and costs no signature and no commit; what keeps most from working comes first. Does not know
what makes a problem (`engine.problems` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from p2pdns.addresses import write_address
from p2pdns.admin import petnames, problems
from p2pdns.admin.problems import KeptZone, Problem
from p2pdns.clock import boot_now
from p2pdns.directory import shown
from p2pdns.errors import ConfigError
from p2pdns.publishing.upkeep import OTHERS_WANTED
from p2pdns.state.blocklists import files_of

if TYPE_CHECKING:
    from p2pdns.admin.commands import EngineParts


def kept_of(engine: EngineParts) -> list[KeptZone]:
    """Return the zones that an engine keeps alive, those in trouble first."""
    names = {entry.key: name for name, entry in petnames.in_use(engine.config, engine.state.names()).items()}
    found = []
    for key, copies in engine.publisher.kept:
        trouble = None if copies is None else copies.warning or copies.trouble
        count, seq = (None, None) if copies is None else (copies.last.stored, copies.seq)
        found.append(KeptZone(str(key), names.get(str(key)), seq, count, OTHERS_WANTED, trouble))
    return sorted(found, key=lambda zone: (zone.trouble is None, zone.copies or 0))


def problems_of(engine: EngineParts, kept: Sequence[KeptZone]) -> list[Problem]:
    """Return what is wrong with an engine, what keeps most from working first."""
    state, uptime_s = engine.state, boot_now() - engine.started_at
    place = "-" if state.directory is None else shown(state.directory)
    servers = [write_address(server) for server in engine.upstreams.current.servers]
    counters = engine.counters["upstream"]
    list_trouble, is_outdated = None, False
    try:
        is_outdated = engine.block_lists.is_outdated(files_of(engine.config.dns))
    except ConfigError as error:
        list_trouble = str(error)
    # A list that is missing also lets a reload fail: one problem, not two.
    refused = None if str(engine.reload_trouble) == list_trouble else engine.reload_trouble
    return [
        *problems.of_front(engine.dns_addresses, engine.front_count, uptime_s),
        *problems.of_configuration(refused),
        *problems.of_clock(engine.clock_watch),
        *problems.of_files(state.warnings, state.disk_trouble, place),
        *problems.of_contacts(engine.contact_count, engine.hint, uptime_s),
        *problems.of_upstream(engine.config.upstream.servers, servers, counters, engine.upstreams.problem),
        *problems.of_zones(kept, engine.contact_count),
        *problems.of_held_back(engine.publisher.held_back),
        *problems.of_block_lists(engine.block_lists.warnings, list_trouble, is_outdated),
    ]
