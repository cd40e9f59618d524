"""The way of `publish`, `unpublish` and `diff` to the overlay: the running daemon, or a node of this process.

A running daemon, or one that is just starting, gets the signed item and puts it. Without a daemon, or when a flag names
another overlay, a short-lived node of this process puts it.

Guarantees: the secret key stays in this process; one block makes one connection to the daemon; what a daemon has begun
is not continued by a node of this process, in perhaps another overlay. Does not know zone files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from p2pdns.admin.control import ControlClient
from p2pdns.admin.public_address import Reported, ask_daemon
from p2pdns.admin.publishing import (
    content_of,
    dividing_by,
    hand_over,
    publish_through,
    release,
    reveal_through,
    seen_through,
    whole_through,
)
from p2pdns.cli import petnames, ui
from p2pdns.cli.petnames import Book
from p2pdns.cli.settings import Given
from p2pdns.cli.starting import GRACE_S, running_daemon
from p2pdns.config import Config
from p2pdns.dht.node.values import Others
from p2pdns.dns.zonefile.placeholders import Addresses, Unfilled
from p2pdns.errors import DaemonGone, NoContact, P2pdnsError
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import SecretKey, ZoneId, ZoneKey
from p2pdns.publishing.changes import Content
from p2pdns.publishing.divided import whole
from p2pdns.publishing.editions import Draft, Found, is_head
from p2pdns.publishing.edits import EditJournal
from p2pdns.publishing.memory import Memory
from p2pdns.publishing.publication import Publication, Rules
from p2pdns.publishing.replicas import Seen, Tell
from p2pdns.publishing.stored import Stored


async def publish_alone(
    config: Config,
    secret: SecretKey,
    content: Draft | Content,
    memory: Memory,
    rules: Rules,
    tell: Tell,
    journal: EditJournal | None = None,
) -> Stored:
    """Publish a draft or a content by a node of this process; Unavailable where it finds no other, or must not."""
    from p2pdns.cli.node import short_lived_node

    key = secret.zone_key
    async with short_lived_node(config) as node:
        publication = Publication(
            key,
            lambda seq, signed: MutableItem.signed(secret, seq, signed),
            content_of(key, content),
            node.replicas(ZoneId.of_key(key), tell),
            memory=memory,
            rules=rules,
            tell=tell,
            dividing=dividing_by(secret, node.salted_items(key), journal),
        )
        return replace(await publication.run(), through="a node of its own")


async def _look_up_alone(config: Config, key: ZoneKey) -> Seen:
    from p2pdns.cli.node import short_lived_node

    async with short_lived_node(config) as node:
        return await node.replicas(ZoneId.of_key(key), lambda progress: None).look_up()


async def _whole_alone(config: Config, item: MutableItem, tell: Tell) -> Found:
    from p2pdns.cli.node import short_lived_node

    async with short_lived_node(config) as node:
        return await whole(item, node.salted_items(item.key), tell)


async def _reveal_alone(config: Config, values: Sequence[ImmutableItem]) -> list[Others]:
    from p2pdns.cli.node import short_lived_node

    async with short_lived_node(config) as node:
        return [(await node.put(value, lambda sent, stored: None)).others for value in values]


class Daemon:
    """The daemon of this machine, if one runs, else a node of this process. The block is one connection to it."""

    def __init__(self, config: Config, given: Given) -> None:
        self._sessions = ExitStack()
        clients: dict[Path, ControlClient] = {}

        def client_of(directory: Path) -> ControlClient:
            # One connection for all that the daemon is asked.
            if directory not in clients:
                clients[directory] = ControlClient(directory, on_silence=ui.note)
                self._sessions.enter_context(clients[directory].session())
            return clients[directory]

        self._config = config
        self._is_alone = given.names_an_overlay
        self._state = given.state(client_of)
        self._client = client_of(self._state)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_trouble: object) -> None:
        self._sessions.close()

    def book(self) -> Book:
        """Return the petnames."""
        return petnames.load(self._config, self._state, client=self._client)

    def _is_running(self, *, grace_s: float = 0.0) -> bool:
        if self._is_alone:
            return False
        if running_daemon(self._state, client=self._client, grace_seconds=grace_s) is not None:
            return True
        if self._client.has_answered:
            # It may have been told of another overlay than the one that the configuration names.
            hint = "start it again with p2pdns serve, then run this command again"
            raise DaemonGone("the daemon that has answered so far has ended", place=str(self._state), hint=hint)
        return False

    def reported(self) -> dict[str, Reported]:
        """Return the public address in each family as the daemon knows it; Unavailable where none runs."""
        return ask_daemon(self._client)

    def addresses(self, words: Sequence[str], settled: Mapping[str, str] | None = None) -> Addresses:
        """Return what these placeholders for a public address stand for; of those that are settled none is asked."""
        settled = settled or {}
        if all(word in settled for word in words):
            return settled
        if self._is_alone:
            hint = (
                "leave --network and --bootstrap out: the running daemon knows it, a node for one publication does not"
            )
            return {word: Unfilled("no daemon was asked", hint) for word in words}
        if not self._is_running(grace_s=GRACE_S):
            hint = "start one with p2pdns serve, or say --state DIR: it learns the address from its contacts"
            return {word: Unfilled("no daemon runs here that could know the address", hint) for word in words}
        reported = self.reported()
        found: dict[str, str | Unfilled] = {}
        for word in words:
            one = reported[word.removeprefix("public_")]
            unfilled = Unfilled("the daemon does not know the address yet", one.known)
            found[word] = settled.get(word) or one.address or unfilled
        return found

    def publish(
        self,
        secret: SecretKey,
        content: Draft | Content,
        memory: Memory,
        rules: Rules,
        tell: Tell,
        journal: EditJournal | None = None,
    ) -> Stored:
        """Publish through the daemon, or by a node of this process."""
        # Without a bootstrap contact only a daemon can publish, so a daemon that was just started is waited for.
        if self._is_running(grace_s=0.0 if self._config.dht.bootstrap else GRACE_S):
            return publish_through(
                self._client, secret, content, memory=memory, rules=rules, tell=tell, journal=journal
            )
        # Loaded late: with a daemon this process needs no event loop.
        import asyncio

        # In any case a daemon may have started in the meantime.
        try:
            done = asyncio.run(publish_alone(self._config, secret, content, memory, rules, tell, journal))
        except NoContact:
            if not self._is_running():
                raise
            # Nothing was looked up, asked or signed yet, and the daemon may know others.
            return publish_through(
                self._client, secret, content, memory=memory, rules=rules, tell=tell, journal=journal
            )
        return hand_over(self._client, done, tell) if self._is_running() else done

    def release(self, item: MutableItem) -> bool:
        """Have the daemon keep an item alive no longer; False where it has a newer one, and keeps that."""
        return release(self._client, item)

    def look_up(self, key: ZoneKey) -> Seen:
        """Return what a look-up that asks every contact for its copy has seen of a key."""
        if self._is_running(grace_s=0.0 if self._config.dht.bootstrap else GRACE_S):
            return seen_through(self._client, key)
        import asyncio

        return asyncio.run(_look_up_alone(self._config, key))

    def whole(self, item: MutableItem, tell: Tell = lambda progress: None) -> Found:
        """Return an edition with all that it pins; Unavailable where some of that cannot be found."""
        if not is_head(item.value):
            return item
        if self._is_running(grace_s=0.0 if self._config.dht.bootstrap else GRACE_S):
            return whole_through(self._client, item, tell)
        import asyncio

        return asyncio.run(_whole_alone(self._config, item, tell))

    def next_key_of(self, key: ZoneKey) -> str | None:
        """Return the next key that the daemon reveals for a zone; None where it reveals none, or none runs."""
        return next((str(one["next"]) for one in self._told("moved") if one["key"] == str(key)), None)

    def tables_of(self, key: ZoneKey) -> list[str]:
        """Return the zone files that the running server publishes under a key."""
        return [str(one["file"]) for one in self._told("tables") if one["key"] == str(key)]

    def _told(self, what: str) -> list[dict[str, Any]]:
        """Return one list of what the daemon says of its zones; an empty one where it does not.

        This is asked after a publication, for a warning: a daemon that has gone by then makes no failure of it.
        """
        if self._is_alone:
            return []
        try:
            rows = self._client.call("zones").get(what)
        except P2pdnsError:
            return []
        return rows if isinstance(rows, list) else []

    def reveal(
        self, old_key: ZoneKey, values: Sequence[ImmutableItem], item: MutableItem | None
    ) -> tuple[list[Others], bool]:
        """Put the values that reveal a next key; return how the puts went, and whether a daemon keeps them alive."""
        if self._is_running(grace_s=0.0 if self._config.dht.bootstrap else GRACE_S):
            return reveal_through(self._client, old_key, values, item), True
        import asyncio

        return asyncio.run(_reveal_alone(self._config, values)), False
