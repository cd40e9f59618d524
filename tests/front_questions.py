"""Tables of pending questions, and clients that wait in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from p2pdns.front.gate import ClientQuery
from p2pdns.front.pending import Ending, Questions
from p2pdns.front.transport import TCP, UDP
from tests.front_messages import gate, query, unheard

GREEDY = "192.168.1.1"
# What one machine may call itself: any of 127.0.0.0/8, and in IPv6 any address of a /64.
LOOPBACKS = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:5"]
DOOR = gate(
    ["127.0.0.0/8", "::1/128", "192.168.0.0/16", "10.0.0.0/8", "fd00::/8"], listed=["192.168.9.9", "fd00:9::/32"]
)
ONE_LINK = ["fd00::1", "fd00::2", "fd00::ffff:ffff:ffff:ffff", "fd00:0:0:0:abcd::"]


def waiter(
    name: str = "www.example", *, number: int = 1, host: str = "127.0.0.1", port: int = 4000, stream: bool = False
) -> ClientQuery:
    """Return the query of a client for a name."""
    client = DOOR.access.client((host, port), TCP if stream else UDP, unheard)
    verdict = DOOR.verdict(query(name, number=number), client, 0.0)
    assert isinstance(verdict, ClientQuery)
    return verdict


def connected(now: float = 0.0) -> Questions:
    """Return an empty table with an engine."""
    table = Questions(now)
    table.engine_connected()
    return table


def add(table: Questions, who: ClientQuery, now: float) -> int:
    """Let somebody wait; return the number of the question."""
    table.add(who.key, who, now)
    pending = table.pending(who.key)
    assert pending is not None
    return pending.id


def refused(table: Questions, who: ClientQuery) -> Ending | None:
    """Let somebody wait; return why not, where that is refused."""
    added = table.add(who.key, who, 0.0)
    return added if isinstance(added, Ending) else None


def has_place(table: Questions, who: ClientQuery) -> bool:
    """Let somebody wait; return whether the question has a place at the engine."""
    add(table, who, 0.0)
    pending = table.pending(who.key)
    assert pending is not None
    return not pending.is_queued


def end(table: Questions, number: int) -> list[str]:
    """Answer a question; return the names of those that are put for it."""
    pending = table.answered(number)
    assert pending is not None
    table.released(pending)
    return put_next(table)


def put_next(table: Questions, *, has_upstream_place: bool = True) -> list[str]:
    """Return the names of the questions that are put because there is a place."""
    return [name_of(asked.question) for asked in table.next_queries(has_upstream_place=has_upstream_place)]


def name_of(question: bytes) -> str:
    """Return the first label of a question, the one that tells those of these tests apart."""
    return question[1 : 1 + question[0]].decode()


def fill(table: Questions, clients: Sequence[tuple[str, int]], *, stream: bool = False) -> Counter[tuple[str, int]]:
    """Let clients ask for ever new names in turn until none has a place; return how many each has at the engine."""
    held: Counter[tuple[str, int]] = Counter()
    asking = list(clients)
    while asking:
        for client in list(asking):
            if has_place(table, waiter(f"f{len(table)}.example", host=client[0], port=client[1], stream=stream)):
                held[client] += 1
            else:
                asking.remove(client)
    return held
