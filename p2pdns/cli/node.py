"""A short-lived node, for `publish`, `put`, `inspect` and `resolve --direct` without a daemon.

Guarantees: the node is read-only, keeps its state in memory, and is gone at the end of the block; without a bootstrap
contact it sends nothing, and that is an error; if all bootstrap contacts are on loopback, it is bound to loopback too.
Does not know what is published.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from p2pdns import log
from p2pdns.addresses import Address, AddressClass, class_of, read_address, write_address
from p2pdns.cli.dnsclient import DnsReply, ExtendedError, Record, meaning_of, read_type
from p2pdns.clock import boot_now, unix_now
from p2pdns.config import Config
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import GetOutcome, Inquiry, InquiryOutcome, PutOutcome, Wanted
from p2pdns.dht.storage import Storage
from p2pdns.dns.message import RR, Question, type_of, type_text
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode
from p2pdns.dns.zonefile.writing import rdata_text
from p2pdns.engine.settings import resolver_settings, short_lived_settings
from p2pdns.errors import FormatError, NoContact, Unavailable, UsageError
from p2pdns.items.item import Item, MutableItem
from p2pdns.items.keys import ZoneId, ZoneKey
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.upstream.asking import Upstream
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.parts import parts_of
from p2pdns.publishing.pacing import Pacer
from p2pdns.publishing.placing import NodeItems
from p2pdns.publishing.replicas import NodeReplicas, Tell
from p2pdns.resolver.blocking import BlockedNames
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.service import Service
from p2pdns.state import blocklists
from p2pdns.state.marks import Reader

SETTLE_TRIES_MAX = 3  # One for each zone of a usual chain of aliases.
JOIN_S_MAX = 3.0  # A bootstrap contact that is alive answers in a tenth of a second; a dead one never does.


class ShortLivedNode:
    """A node that has joined the overlay, for look-ups, puts and questions."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._state = Reader(None)
        self._gets: set[asyncio.Future[GetOutcome]] = set()
        tell = log.get_limited_logger("overlay", boot_now).error
        self._overlay = Overlay(self, self._state, clock=boot_now, unix_clock=unix_now, tell=tell)

    def get(
        self,
        wanted: Wanted,
        *,
        on_item: Callable[[Item], None],
        on_patient: Callable[[], None] | None = None,
    ) -> asyncio.Future[GetOutcome]:
        """Look an item up as the endpoint does, and remember the look-up until it ends."""
        future = self._endpoint.get(wanted, on_item=on_item, on_patient=on_patient)
        self._gets.add(future)
        future.add_done_callback(self._gets.discard)
        return future

    async def look_up(self, zone_id: ZoneId) -> GetOutcome:
        """Return the outcome of a complete look-up of the zone's item; Unavailable when no node has answered."""
        (part,) = parts_of(zone_id)
        outcome = await self._endpoint.get(part, on_item=lambda item: None)
        if outcome.item is None and outcome.answered_count == 0:
            hint = "--bootstrap ADDR:PORT names another to begin with"
            raise Unavailable("no node answered", place=str(zone_id), hint=hint)
        assert outcome.item is None or isinstance(outcome.item, MutableItem)
        return outcome

    def replicas(self, zone_id: ZoneId, tell: Tell) -> NodeReplicas:
        """Return the copies of a zone, for one publication."""
        return NodeReplicas(
            zone_id,
            self._endpoint,
            lambda item, cas, on_progress: self._endpoint.put(item, cas=cas, on_progress=on_progress),
            clock=boot_now,
            unix_clock=unix_now,
            jitter=random.random,
            sleep=asyncio.sleep,
            tell=tell,
        )

    def salted_items(self, key: ZoneKey) -> NodeItems:
        """Return the items of a divided zone, for one publication."""
        pacer = Pacer(boot_now)
        return NodeItems(self._endpoint, key, lambda item: pacer.put(0, partial(self._endpoint.put, item)), boot_now)

    async def put(self, item: Item, on_progress: Callable[[int, int], None]) -> PutOutcome:
        """Put the item at the nearest nodes."""
        return await self._endpoint.put(item, on_progress=on_progress)

    def inquire(self, inquiry: Inquiry) -> asyncio.Future[InquiryOutcome]:
        """Ask one node whether it has an item."""
        return self._endpoint.inquire(inquiry)

    async def resolve(self, question: Question, settings: ResolverSettings | None = None) -> DnsReply:
        """Return the answer that a daemon with these settings would give: the rules are those of its resolver."""
        settings = settings or ResolverSettings()
        service = Service(self._overlay, Upstream((), clock=boot_now), settings, clock=boot_now)
        began = time.perf_counter()
        resolved = await service.trace(question)
        for _ in range(SETTLE_TRIES_MAX):
            if not resolved.provisional:
                break
            # The answer is of the first valid item; a command can wait for the newest one.
            await self._until_looked_up()
            resolved = await service.trace(question)
        await self._until_looked_up()
        return DnsReply(
            name=str(question.name),
            type=type_text(question.rtype),
            server=write_address(self._endpoint.address),
            transport="overlay",
            rcode=Rcode(resolved.rcode).name,
            flags=("aa",) if resolved.is_authoritative else (),
            answer=_records(resolved.answer),
            authority=_records(resolved.authority),
            extended_errors=tuple(ExtendedError(code, meaning_of(code), text) for code, text in resolved.ede),
            ms=(time.perf_counter() - began) * 1000,
        )

    async def _until_looked_up(self) -> None:
        if self._gets:
            await asyncio.wait(self._gets)

    def close(self) -> None:
        """Leave the overlay."""
        self._endpoint.close()
        self._state.close()


def _records(rrs: tuple[RR, ...]) -> tuple[Record, ...]:
    return tuple(Record(str(rr.owner), rr.ttl, type_text(rr.rtype), rdata_text(rr.rtype, rr.rdata)) for rr in rrs)


def bind_host(bootstrap: list[Address]) -> str:
    """Return the address to bind: loopback if all bootstrap contacts are on loopback, else any address."""
    is_ipv6 = all(":" in host for host, _ in bootstrap)
    if all(class_of(host) is AddressClass.LOOPBACK for host, _ in bootstrap):
        return "::1" if is_ipv6 else "127.0.0.1"
    return "::" if is_ipv6 else "0.0.0.0"


@asynccontextmanager
async def short_lived_node(config: Config) -> AsyncIterator[ShortLivedNode]:
    """Yield a node that has joined the network of the configuration; NoContact when it cannot."""
    bootstrap = [read_address(text) for text in config.dht.bootstrap]
    if not bootstrap:
        what = f"0 contacts, so nothing was sent (network {config.dht.network})"
        hint = 'name a node with --bootstrap ADDR:PORT, or start a daemon with "p2pdns serve"'
        raise NoContact(what, place="overlay", hint=hint)
    host = bind_host(bootstrap)
    node = Node(
        node_id=None,
        network=config.dht.network,
        entropy=os.urandom,
        storage=Storage(),
        settings=short_lived_settings(config.dht, host),
        now=boot_now(),
    )
    endpoint = await Endpoint.open(node, (host, 0))
    short_lived = ShortLivedNode(endpoint)
    try:
        try:
            contact_count = await asyncio.wait_for(endpoint.bootstrap(bootstrap), JOIN_S_MAX)
        except TimeoutError:
            contact_count = node.contact_count
        if not contact_count:
            what = f"no answer from {', '.join(map(write_address, bootstrap))} in the network {config.dht.network}"
            hint = "check the address and --network: nodes of another network do not answer"
            raise NoContact(what, place="overlay", hint=hint)
        yield short_lived
    finally:
        short_lived.close()


async def resolve_directly(config: Config, name: str, rtype: str) -> DnsReply:
    """Return the answer to a question without any daemon."""
    try:
        question = Question(Name.read(name), type_of(read_type(rtype)))
    except FormatError as trouble:
        raise UsageError(f"not a name ({trouble})", place=f'"{name}"') from None
    settings = settings_of(config)
    async with short_lived_node(config) as node:
        return await node.resolve(question, settings)


def settings_of(config: Config) -> ResolverSettings:
    """Return the resolver's settings, block lists included; ConfigError if `serve` would refuse the configuration."""
    blocked = BlockedNames()
    # The warnings about lines that are no names are dropped: the daemon's log and `check` show them.
    for _ in blocklists.read(blocklists.files_of(config.dns), blocked, []):
        pass
    return resolver_settings(config, {}, blocked)
