"""Publishing through the running daemon, by the process that has the key.

`publish_through` is all that a program with a key needs: it signs here, and the daemon looks up, puts, reads back and
keeps alive. It blocks.

Guarantees: the secret key stays in this process; a publication is reported as `publishing.publication` says. Does not
know key files, the terminal, or which content is meant.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from p2pdns.admin.control import ControlClient
from p2pdns.admin.items import DaemonItems
from p2pdns.clock import unix_now
from p2pdns.dht.node.values import Cas, Others
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.publishing.changes import Content, WholeZone
from p2pdns.publishing.divided import Dividing, SaltedItems, whole
from p2pdns.publishing.editions import Draft, Found, LargeZone
from p2pdns.publishing.edits import EditJournal, EditsInMemory
from p2pdns.publishing.memory import Memory
from p2pdns.publishing.publication import Publication, Rules
from p2pdns.publishing.replicas import PublishStage, Seen, Tell, Tried
from p2pdns.publishing.stored import Stored

THROUGH = "the running daemon"

T = TypeVar("T")


class DaemonReplicas:
    """The copies of one zone, by the running daemon: `Replicas` of a publication. Nothing in it waits for a loop."""

    def __init__(self, client: ControlClient, key: ZoneKey, tell: Tell) -> None:
        self._client = client
        self._key = str(key)
        self._tell = tell
        self._sleep = time.sleep

    def unix_now(self) -> float:
        """Return the time."""
        return unix_now()

    def jitter(self) -> float:
        """Draw from [0, 1)."""
        return random.random()

    async def wait(self, seconds: float) -> None:
        """Let time pass, in this thread."""
        self._sleep(seconds)

    async def look_up(self) -> Seen:
        """Have the daemon look up every version of the key's item."""
        return Seen.of_json(self._client.call("seq", key=self._key))

    async def forget(self) -> None:
        """Have the daemon clear its mark of the key."""
        self._client.call("forget", key=self._key)

    async def put(self, item: MutableItem, cas: Cas) -> Tried:
        """Have the daemon put an item, keep it alive from now on, and look at the copies."""

        def report(progress: dict[str, Any]) -> None:
            self._tell(PublishStage.of_json(progress))

        done = self._client.call("publish", on_progress=report, item=item.to_bytes().hex(), cas=list(cas))
        return Tried.of_json(done)


def publish_through(
    client: ControlClient,
    secret: SecretKey,
    content: Draft | Content,
    *,
    memory: Memory | None = None,
    rules: Rules | None = None,
    tell: Tell = lambda progress: None,
    journal: EditJournal | None = None,
) -> Stored:
    """Publish a draft, or a change of what is published now; Unavailable when no daemon runs, or it must not be.

    With a `journal`, an edit of a large zone that is interrupted is gone on with by the next publication. The caller
    looks at `is_done` of what is returned, and raises its `failure`.
    """
    key = secret.zone_key
    publication = Publication(
        key,
        lambda seq, value: MutableItem.signed(secret, seq, value),
        content_of(key, content),
        DaemonReplicas(client, key, tell),
        memory=memory,
        rules=rules,
        tell=tell,
        dividing=dividing_by(secret, DaemonItems(client, key), journal),
    )
    with client.session():
        return replace(_at_once(publication.run()), through=THROUGH, is_kept_here=True)


def content_of(key: ZoneKey, content: Draft | Content) -> Content:
    """Return the content of a publication: a whole zone where it is a draft."""
    return WholeZone(key.apex, content) if isinstance(content, bytes | LargeZone) else content


def dividing_by(secret: SecretKey, items: SaltedItems, journal: EditJournal | None) -> Dividing:
    """Return what a publication needs for zones that do not fit one item."""

    def sign(seq: int, value: bytes, salt: bytes) -> MutableItem:
        return MutableItem.signed(secret, seq, value, salt)

    return Dividing(sign, os.urandom, items, journal or EditsInMemory())


def whole_through(client: ControlClient, item: MutableItem, tell: Tell) -> Found:
    """Return an edition with all that it pins, as the daemon finds it; Unavailable where some of that is missing."""
    return _at_once(whole(item, DaemonItems(client, item.key), tell))


def seen_through(client: ControlClient, key: ZoneKey) -> Seen:
    """Return what a look-up of the daemon's has seen of a key; Unavailable when no daemon runs."""
    return _at_once(DaemonReplicas(client, key, lambda progress: None).look_up())


def reveal_through(
    client: ControlClient, old_key: ZoneKey, values: Sequence[ImmutableItem], item: MutableItem | None
) -> list[Others]:
    """Have the daemon put the values that reveal a next key, and keep them alive; return how the puts went."""
    request = {
        "old": str(old_key),
        "values": [value.value.hex() for value in values],
        "item": None if item is None else item.to_bytes().hex(),
    }
    done = client.call("reveal", on_progress=lambda progress: None, **request)
    return [Others(one["sent"], one["stored"]) for one in done["values"]]


def release(client: ControlClient, item: MutableItem) -> bool:
    """Have the daemon keep an item alive no longer; False where it has a newer one of the key, and keeps that."""
    return bool(client.call("release", key=str(item.key), seq=item.seq)["released"])


def hand_over(client: ControlClient, done: Stored, tell: Tell = lambda progress: None) -> Stored:
    """Give what is published already to the daemon, which puts it for as long as it runs; return how it stands then."""
    item = done.item
    assert item is not None, "nothing was signed"
    tried = _at_once(DaemonReplicas(client, item.key, tell).put(item, (item.seq,)))
    newest = tried.seen.newest(unix_now())
    is_newest = newest is None or newest.seq <= item.seq or newest.value == item.value
    handed = replace(
        done,
        sent=tried.others.known,
        stored=tried.others.stored,
        through=THROUGH,
        refused=dict(tried.refused),
        is_kept_here=True,
        read_back=tried.seen.holders_of(item.value),
        is_read_back=is_newest and tried.is_read_back(item),
    )
    if is_newest and done.is_done and not handed.is_done:
        # A daemon that has just started knows few others; what was stored and read back before it came stays true.
        return replace(done, is_kept_here=True)
    return handed


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that waits for nobody."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits for a loop")
