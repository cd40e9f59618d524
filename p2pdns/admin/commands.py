"""The verbs of the control socket.

Guarantees: a request with a missing or wrong argument is refused with words and changes nothing; every reply can be
written as JSON. Does not know sockets (`admin.control_server` does) nor how the engine is put together.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Protocol

from p2pdns.addresses import write_address
from p2pdns.admin import petnames
from p2pdns.admin.control import Handler, Progress
from p2pdns.admin.items import fetch, place
from p2pdns.admin.narration import PAST_THE_FRONT, Narration
from p2pdns.admin.public_address import family_of, reports_of
from p2pdns.admin.replicas import replicas_of
from p2pdns.admin.status import status_of
from p2pdns.admin.succession import moved_of, reveal
from p2pdns.admin.tables import PublishedTables
from p2pdns.admin.upkeep import forgotten_ahead, holders_facts, released, zones_of
from p2pdns.clock import boot_now, unix_now
from p2pdns.config import Config
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import Cas
from p2pdns.dns.message import RR, Question, type_of, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode
from p2pdns.dns.zonefile.writing import rdata_text
from p2pdns.errors import P2pdnsError, StrangerError, Unavailable, UsageError
from p2pdns.items.item import MutableItem, Present
from p2pdns.items.keys import ZoneId
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.families import Families
from p2pdns.net.upstream.current import Upstreams
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.holders import holders_of
from p2pdns.overlay.parts import zone_id_of
from p2pdns.publishing.partkeeping import PartKeeper
from p2pdns.publishing.revealing import Revealing
from p2pdns.publishing.upkeep import Publisher, refuse_odd, refuse_older
from p2pdns.resolver.names import InZone
from p2pdns.resolver.service import Service
from p2pdns.resolver.steps import WORDS, Budget, Found, Missing, Resolved
from p2pdns.state import State
from p2pdns.state.blocklists import BlockLists
from p2pdns.state.clockwatch import ClockWatch

CLIENT_PREFIX = "control"
CAS_MAX = 256  # Seqs that one item may take the place of: some for each round of a publication.
COPIES_NAMES_MAX = 64  # The owners of an answer; a message of DNS has room for few more.
PEERS_SHOWN_MAX = 2_048  # At 250 bytes each they fit into a line; a full table of both families has some hundreds.
STORED_SHOWN_MAX = 4_096  # At 180 bytes each they fit into a line; a store of the default size holds more.

_REASONS = {
    Missing.ABSENT: "the nodes asked have no item of this key",
    Missing.UNREACHABLE: "no node answered",
    Missing.BUDGET: "the look-up would have cost more than a question may",
    Missing.OLDER: "only older items can be had than one that was shown here before",
    Missing.ODD: WORDS[Missing.ODD],
    Missing.CONFLICT: WORDS[Missing.CONFLICT],
    Missing.ENDLESS: "the keys that follow this one are too many, or come back to one",
    Missing.DEADLINE: f"no item was found within {QUESTION_S_MAX:g} s",
}


class EngineParts(Protocol):
    """The engine as the verbs use it; `p2pdns.engine.main.Engine`."""

    config: Config
    state: State
    node: Node
    endpoint: Endpoint | Families
    overlay: Overlay
    service: Service
    publisher: Publisher
    part_keeper: PartKeeper
    revealing: Revealing
    dns_addresses: tuple[str, ...]
    started_at: float
    block_lists: BlockLists
    clock_watch: ClockWatch
    upstreams: Upstreams
    supervisor_pid: int | None
    reload_trouble: P2pdnsError | None
    tables: PublishedTables

    @property
    def contact_count(self) -> int: ...
    @property
    def front_count(self) -> int: ...
    @property
    def counters(self) -> dict[str, dict[str, int]]: ...
    @property
    def hint(self) -> str | None: ...
    async def reload(self) -> dict[str, Any]:
        """Read the configuration again."""

    def names_changed(self) -> None:
        """Take over the petnames of the state."""


def _text(request: Mapping[str, Any], argument: str) -> str:
    value = request.get(argument)
    if not isinstance(value, str) or not value:
        raise UsageError("missing, or not text", place=f'{request["verb"]}: "{argument}"')
    return value


def _zone_id(request: Mapping[str, Any], argument: str = "key") -> ZoneId:
    return _read_zone_id(_text(request, argument))


def _read_zone_id(text: str) -> ZoneId:
    try:
        return ZoneId.read(text)
    except StrangerError as error:
        raise UsageError(f"not a zone key: {error}", place=f'"{text[:64]}"') from None


def _item(request: Mapping[str, Any]) -> MutableItem:
    try:
        return MutableItem.read_file(bytes.fromhex(_text(request, "item")))
    except ValueError:
        raise UsageError("not hexadecimal", place=f'{request["verb"]}: "item"') from None


def _cas(request: Mapping[str, Any]) -> Cas | None:
    seqs = request.get("cas")
    if seqs is None:
        return None
    if not isinstance(seqs, list) or len(seqs) > CAS_MAX or not all(type(seq) is int and seq >= 0 for seq in seqs):
        raise UsageError(f"not a list of {CAS_MAX} seqs at most", place='publish: "cas"')
    return tuple(seqs)


def _name(request: Mapping[str, Any]) -> Name:
    text = _text(request, "name")
    try:
        return Name.read(text)
    except StrangerError as error:
        raise UsageError(f"not a name: {error}", place=f'"{text[:64]}"') from None


def _budget() -> Budget:
    return Budget(deadline=boot_now() + QUESTION_S_MAX, client_prefix=CLIENT_PREFIX, is_privileged=True)


def _rr(rr: RR) -> dict[str, Any]:
    data = rdata_text(rr.rtype, rr.rdata)
    return {"owner": str(rr.owner), "ttl": rr.ttl, "type": type_text(rr.rtype), "data": data}


def answer_of(resolved: Resolved) -> dict[str, Any]:
    """Return an answer as JSON shows it."""
    return {
        "rcode": Rcode(resolved.rcode).name if resolved.rcode in set(Rcode) else f"RCODE{resolved.rcode}",
        "answer": [_rr(rr) for rr in resolved.answer],
        "authority": [_rr(rr) for rr in resolved.authority],
        "additional": [_rr(rr) for rr in resolved.additional],
        "ede": [{"code": code, "text": text} for code, text in resolved.ede],
        "provisional": resolved.provisional,
        "rpcs": resolved.rpc_count,
    }


class Commands:
    """The verbs, each a method; `verbs` is the table of them."""

    def __init__(self, engine: EngineParts) -> None:
        self._engine = engine

    @property
    def verbs(self) -> dict[str, Handler]:
        """Return the table that the control server serves."""
        return {
            "status": self.status,
            "lookups": self.lookups,
            "stored": self.stored,
            "peers": self.peers,
            "publish": self.publish,
            "place": self.place,
            "fetch": self.fetch,
            "put": self.put,
            "seq": self.seq,
            "public-address": self.public_address,
            "item": self.item,
            "trace": self.trace,
            "copies": self.copies,
            "flush": self.flush,
            "reload": self.reload,
            "pin": self.pin,
            "forget": self.forget,
            "zones": self.zones,
            "tables": self.tables,
            "holders": self.holders,
            "release": self.release,
            "reveal": self.reveal,
            "names": self.names,
            "name-add": self.name_add,
            "name-import": self.name_import,
            "name-remove": self.name_remove,
        }

    async def status(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return what the engine knows of itself."""
        return {"status": status_of(self._engine, self._hint())}

    async def lookups(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return the last look-ups, newest last."""
        return {
            "lookups": [
                {
                    "key": str(entry.zone_id),
                    "rpcs": entry.rpcs,
                    "retransmits": entry.retransmits,
                    "peers": entry.peers,
                    "first_ms": entry.first_ms,
                    "complete_ms": entry.complete_ms,
                    "verdict": entry.verdict.value,
                    "at": entry.at,
                    "is_refresh": entry.is_refresh,
                    "is_confirmed": entry.is_confirmed,
                    "pinned": entry.pinned or None,
                }
                for entry in self._engine.overlay.reports
            ]
        }

    async def stored(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return what this node keeps for the overlay, its own included: targets, with zone key and seq."""
        everything = self._engine.node.storage.everything(boot_now())
        return {
            "stored": [
                {
                    "target": entry.target.hex(),
                    "key": str(entry.item.key) if isinstance(entry.item, MutableItem) else None,
                    "seq": entry.seq,
                    "size_bytes": entry.size_bytes,
                }
                for entry in islice(everything, STORED_SHOWN_MAX)
            ],
            "items_held": len(self._engine.node.storage),
        }

    async def peers(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return every contact by family, the latest to answer first."""
        found, families = [], {}
        for endpoint in self._engine.endpoint.endpoints:
            node, family = endpoint.node, family_of(endpoint)
            families[family] = {
                "network": node.network,
                "node_id": node.node_id.hex(),
                "address": write_address(endpoint.address),
                "contacts": node.contact_count,
            }
            found += [
                {
                    "node_id": peer.node_id.hex(),
                    "address": write_address(peer.address),
                    "family": family,
                    "rtt_ms": None if peer.rtt_s is None else round(1_000 * peer.rtt_s, 1),
                    "silent_s": round(peer.silent_s, 1),
                    "known_s": round(peer.known_s, 1),
                    "failures": peer.failures,
                    "id_allowed": peer.is_allowed,
                }
                for peer in node.peers(boot_now())
            ]
        return {"families": families, "peers": found[:PEERS_SHOWN_MAX]}

    async def publish(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Put a signed item in the place of those with the seqs `cas`, keep it alive, and look at the copies.

        Without `cas` it takes the place of anything older, and nobody looks.
        """
        item = _item(request)
        tried = await replicas_of(self._engine, zone_id_of(item), report).put(item, _cas(request))
        return {**tried.to_json(), "seq": item.seq, "kept_here": True}

    async def place(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Put items of a zone that have a salt, and keep them alive, for two hours if no head pins them by then."""
        return await place(self._engine, _zone_id(request), request, report)

    async def fetch(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return the items of a zone under some salts: those that are kept here, and others that a look-up finds."""
        return await fetch(self._engine, _zone_id(request), request, report)

    async def put(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Put a signed item of any key once: it is neither adopted as our own nor kept alive."""
        item = _item(request)
        known = await self.seq({"verb": "put", "key": str(item.key)}, report)
        refuse_older(item, known["seq"], unix_now())
        refuse_odd(item, self._engine.state.reader.commitments.kept(zone_id_of(item)))
        outcome = await self._engine.endpoint.put(
            item, on_progress=lambda sent, stored: report({"sent": sent, "stored": stored})
        )
        sent, stored = outcome.others
        return {"sent": sent, "stored": stored, "seq": item.seq, "refused": outcome.reasons}

    async def seq(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return the highest seq of a key that counts, and every version that a complete look-up has seen.

        `ahead` is the seq of an item that was found and is from the future: it does not count until it is adopted.
        `mark` is the seq that was adopted here; it counts at any clock.
        """
        seen = await replicas_of(self._engine, _zone_id(request), report).look_up()
        present = Present(unix_now(), mark_seq=seen.mark_seq)
        found = [version.item.seq for version in seen.versions]
        seqs = [seq for seq in found if not present.is_ahead(seq)]
        seqs += [] if seen.mark_seq is None else [seen.mark_seq]
        ahead = max(filter(present.is_ahead, found), default=None)
        return {"seq": max(seqs, default=None), "ahead": ahead, **seen.to_json()}

    async def public_address(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return where contacts see this node in public space, by family."""
        return reports_of(self._engine.endpoint.endpoints)

    async def item(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return the item of this very key, as the bytes of an item file, and how well it is known."""
        zone_id = _zone_id(request)
        outcome = await self._engine.overlay.unfollowed(zone_id, request.get("settled") is True, _budget())
        if not isinstance(outcome, Found):
            raise Unavailable(_REASONS[outcome.reason], place=str(zone_id), hint=self._hint())
        age_s = boot_now() - outcome.confirmed_at
        following = petnames.last_of(self._engine.state.reader, str(zone_id))
        moved = [] if following is None else [f"succeeded by {following}, whose zone answers"]
        return {
            "item": outcome.item.to_bytes().hex(),
            "seq": outcome.item.seq,
            "settled": outcome.settled,
            "unconfirmed": outcome.unconfirmed,
            "fresh": outcome.fresh,
            "notes": [*outcome.notes, *moved],
            "confirmed_s": round(age_s, 3) if age_s < float("inf") else None,
            "copies_trouble": self._copies_trouble(zone_id),
        }

    def _copies_trouble(self, zone_id: ZoneId) -> str | None:
        copies = self._engine.publisher.copies(zone_id)
        return None if copies is None else copies.trouble

    async def copies(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return, for each zone that one of the names is in, why others may not find it though this machine has it."""
        names = request.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UsageError("missing, or not a list of names", place='copies: "names"')
        troubles: dict[str, str] = {}
        for text in names[:COPIES_NAMES_MAX]:
            place = self._engine.service.settings.place_of(_name({"name": text}))
            if isinstance(place, InZone) and (trouble := self._copies_trouble(place.zone_id)) is not None:
                troubles[str(place.zone_id)] = trouble
        return {"troubles": troubles}

    def _hint(self) -> str | None:
        return None if self._engine.contact_count else self._engine.hint

    async def trace(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Resolve a name and return the answer, and every step in words."""
        type_name = request.get("type", "A")
        try:
            rtype = type_of(str(type_name))
        except StrangerError:
            raise UsageError("not a type", place=f'"{str(type_name)[:20]}"', hint="as A, AAAA or TYPE65280") from None
        narration = Narration(self._engine.overlay, self._copies_trouble)
        resolved = await self._engine.service.trace(Question(_name(request), rtype), narration.fetched)
        asked, *steps = resolved.trace
        steps = [asked, PAST_THE_FRONT, *steps, *await narration.afterwards(QUESTION_S_MAX)]
        return {"trace": steps, "answer": answer_of(resolved)}

    async def flush(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Drop the cached answers and zones of one zone, of the zone of a name, or all; marks and items stay."""
        engine, zone_id = self._engine, None
        if "zone" in request:
            zone_id = _zone_id(request, "zone")
        elif "name" in request:
            place = engine.service.settings.place_of(_name(request))
            # Ordinary names have no tag in the front's cache, so everything is dropped for them.
            zone_id = place.zone_id if isinstance(place, InZone) else None
        elif request.get("all") is not True:
            raise UsageError('one of "name", "zone" or "all": true is needed', place="flush")
        engine.overlay.flush(zone_id)
        if zone_id is None:
            engine.upstreams.current.flush()
            engine.service.invalidate(None)
        return {"flushed": "everything" if zone_id is None else str(zone_id)}

    async def reload(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Read the configuration again and say what took effect."""
        return await self._engine.reload()

    async def pin(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Keep the newest item of a key alive from now on, as its publisher would."""
        zone_id = _zone_id(request)
        if self._engine.state.reader.held(zone_id) is None:
            await self._engine.overlay.unfollowed(zone_id, True, _budget())
        return {"seq": (await self._engine.publisher.pin(zone_id)).seq}

    async def zones(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return the zones that are kept alive, and what is known of their copies."""
        kept, tables = await zones_of(self._engine), list(self._engine.tables.rows)
        return {"zones": kept, "tables": tables, "moved": moved_of(self._engine)}

    async def tables(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Take over what the signer of this server says of the `[[publish]]` tables."""
        return self._engine.tables.take(request)

    async def reveal(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Reveal the next key of a zone that has moved, and keep the values that do that alive."""
        return await reveal(self._engine, request, report)

    async def holders(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return which of the nodes nearest to a zone has which edition of it."""
        zone_id = _zone_id(request)
        return holders_facts(await holders_of(self._engine.endpoint, zone_id), unix_now())

    async def release(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Keep the zone of a key alive no longer, if its newest item is the one with that seq; its mark stays."""
        return {"released": released(self._engine, _zone_id(request), request.get("seq"))}

    async def forget(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Clear the mark and the commitment of a key, or all marks ahead of the clock; keep no item of them alive."""
        if request.get("ahead") is True:
            return {"forgotten": forgotten_ahead(self._engine)}
        zone_id = _zone_id(request)
        self._engine.publisher.forget(zone_id)
        had_commitment = self._engine.state.reader.commitments.kept(zone_id) is not None
        was_revealed = self._engine.revealing.forget(zone_id)
        was_known = self._engine.state.reader.forget(zone_id) or was_revealed
        self._engine.overlay.forget(zone_id)
        self._engine.clock_watch.look()
        return {"forgotten": was_known, "had_commitment": had_commitment}

    async def names(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return the petnames in use and where each comes from."""
        reader = self._engine.state.reader
        names = petnames.in_use(self._engine.config, reader.names.read(), reader)
        return {
            "names": {
                name: {"key": entry.key, "from": entry.source, "succeeded_by": entry.succeeded_by}
                for name, entry in names.items()
            }
        }

    async def name_add(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Give a zone key a petname."""
        return self._add_names({_text(request, "name"): _zone_id(request)})

    async def name_import(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Give petnames to many zone keys, or to none of them."""
        names = request.get("names")
        if not isinstance(names, dict) or not all(isinstance(key, str) for key in names.values()):
            raise UsageError("missing, or not a table of keys", place='name-import: "names"')
        return self._add_names({name: _read_zone_id(key) for name, key in names.items()})

    def _add_names(self, names: Mapping[str, ZoneId]) -> dict[str, Any]:
        added = petnames.add(self._engine.state, self._engine.config, names)
        self._engine.names_changed()
        return {"added": added}

    async def name_remove(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Remove a petname."""
        name = petnames.remove(self._engine.state, self._engine.config, _text(request, "name"))
        self._engine.names_changed()
        return {"removed": name}
