"""Stand-ins below the resolver: zones signed on the spot, a DHT, a reader's state and upstreams that obey the test.

Time is a number that the test turns; nothing here waits for anything but an event of the test.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from p2pdns.dht.confirmation import Confirmation
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.node.values import GetOutcome, Wanted
from p2pdns.dns.message import Message, Question, RRset, records_of, type_of
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.errors import BadItem
from p2pdns.items.item import ImmutableItem, Item, MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.items.shards.content import content_of
from p2pdns.overlay.parts import zone_id_of
from p2pdns.overlay.ports import Held, Mark
from p2pdns.resolver.steps import Found, NoReply, UpstreamOutcome
from p2pdns.sim.memory import MemoryState

UNIX = 1_800_000_000.0
NOW = 1_000.0

SECRETS = {name: SecretKey.generate(bytes([number]) * 32) for number, name in enumerate("abcdefgh", 1)}
KEYS = {name: ZoneId.of_key(secret.zone_key) for name, secret in SECRETS.items()}
A, B, C = KEYS["a"], KEYS["b"], KEYS["c"]


def name_of(text: str, apex: Name) -> Name:
    """Return an absolute name for `{a}` (a key), `@`, a relative name, or an absolute one with a final dot."""
    for letter, key in KEYS.items():
        text = text.replace(f"{{{letter}}}", f"{key}.")
    text = text.replace("..", ".")
    if text == "@":
        return apex
    return Name.read(text) if text.endswith(".") else Name.read(text + ".").under(apex)


def rdata_of(rtype: int, text: str, apex: Name) -> bytes:
    """Return RDATA of the few types the tests use."""
    if rtype in (Type.A, Type.AAAA):
        return ipaddress.ip_address(text).packed
    if rtype in (Type.CNAME, Type.NS, Type.DNAME, Type.PTR):
        return name_of(text, apex).wire()
    if rtype == Type.MX:
        preference, host = text.split()
        return int(preference).to_bytes(2) + name_of(host, apex).wire()
    if rtype == Type.TXT:
        return bytes([len(text)]) + text.encode()
    return bytes.fromhex(text)


def rrsets(apex: Name, *lines: str) -> tuple[RRset, ...]:
    """Return the RRsets of lines such as `www 300 A 192.0.2.1`."""
    grouped: dict[tuple[Name, int, int], list[bytes]] = {}
    for line in lines:
        owner, ttl, rtype_text, text = line.split(maxsplit=3)
        rtype = type_of(rtype_text)
        grouped.setdefault((name_of(owner, apex), rtype, int(ttl)), []).append(rdata_of(rtype, text, apex))
    return tuple(RRset(owner, rtype, ttl, tuple(rdatas)) for (owner, rtype, ttl), rdatas in grouped.items())


def item_of(letter: str, *lines: str, age_s: float = 0.0) -> MutableItem:
    """Return the item of the zone with these lines, signed that long before UNIX."""
    secret = SECRETS[letter]
    apex = secret.zone_key.apex
    seq = int((UNIX - age_s) * 1_000_000)
    # Not by compose_packet: it refuses what a stranger may sign all the same.
    value = compose(Message(0, 0x8000, None, records_of(rrsets(apex, *lines))))
    return MutableItem.signed(secret, seq, value)


def found(item: MutableItem, *, settled: bool = True, confirmed_at: float = NOW, **more: object) -> Found:
    """Return the outcome that has this item."""
    facts: dict[str, object] = {"fresh": True, **more}
    return Found(item, content_of(item), settled, confirmed_at, **facts)  # type: ignore[arg-type]


def question(text: str) -> Question:
    """Return the question of `www.{a} AAAA`."""
    owner, rtype = text.split()
    return Question(name_of(owner, Name.root()), type_of(rtype))


class Clock:
    """A boot clock and a wall clock that the test turns."""

    def __init__(self) -> None:
        self.now = NOW
        self.unix = UNIX
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def boot(self) -> float:
        """Return the boot time."""
        return self.now

    def wall(self) -> float:
        """Return the Unix time."""
        return self.unix

    def later(self, seconds: float, callback: Callable[[], None]) -> _Call:
        """Take a call for later."""
        call = (self.now + seconds, callback)
        self.calls.append(call)
        return _Call(self.calls, call)

    def turn(self, seconds: float) -> None:
        """Let time pass, and make the calls that are due."""
        self.now += seconds
        self.unix += seconds
        for call in [call for call in self.calls if call[0] <= self.now]:
            self.calls.remove(call)
            call[1]()


class Told:
    """What the overlay and a publisher say went wrong: the texts, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, event: str, **fields: object) -> None:
        """Note it."""
        self.events.append(event)


@dataclass
class _Call:
    calls: list[tuple[float, Callable[[], None]]]
    call: tuple[float, Callable[[], None]]

    def cancel(self) -> None:
        """Let it not come."""
        if self.call in self.calls:
            self.calls.remove(self.call)


HOLDERS = (("127.0.0.1", 4001), ("127.0.0.1", 4002))


def ended(item: MutableItem | None = None, *, confirmed: MutableItem | None = None, **facts: object) -> GetOutcome:
    """Return the outcome of a look-up, complete unless the facts say otherwise.

    Contacts returned the item `confirmed`: where none is named the one found, unless it lay in our own storage.
    """
    confirmation = Confirmation()
    if confirmed is None and facts.get("rpcs_to_first") != 0:
        confirmed = item
    if confirmed is not None:
        confirmation.item_returned(HOLDERS[0], confirmed)
    usual = GetOutcome(
        item=item,
        verdict=Verdict.COMPLETE,
        rpc_count=30,
        retransmit_count=1,
        peer_count=20,
        answered_count=20,
        first_s=0.004,
        done_s=0.05,
        bytes_sent=3_000,
        bytes_received=9_000,
        rpcs_to_first=3,
        answered=HOLDERS,
        confirmation=confirmation,
    )
    return replace(usual, **facts)  # type: ignore[arg-type]


@dataclass
class Get:
    """A look-up that the test answers."""

    wanted: Wanted
    on_item: Callable[[Item], None]
    future: asyncio.Future[GetOutcome]
    on_patient: Callable[[], None] | None = None

    @property
    def zone_id(self) -> ZoneId:
        """Of which zone a part is wanted."""
        assert self.wanted.key is not None
        return ZoneId.of_key(self.wanted.key)

    def be_patient(self) -> None:
        """Say that what follows loads the node no more."""
        assert self.on_patient is not None
        self.on_patient()

    def end(self, item: MutableItem | None = None, **facts: object) -> None:
        """End the look-up."""
        self.future.set_result(ended(item, **facts))  # type: ignore[arg-type]


class FakeDht:
    """A DHT whose look-ups wait for the test, or end at once with what `items` has; `values` are immutable items.

    `salted` has the items with a salt by their targets. A look-up for one sends `salted_rpcs` requests if it finds it.
    """

    def __init__(self, items: dict[ZoneId, MutableItem] | None = None) -> None:
        self.gets: list[Get] = []
        self.items = items
        self.values: dict[bytes, ImmutableItem] = {}
        self.salted: dict[bytes, MutableItem] = {}
        self.salted_rpcs = 4

    def _end_pinned(self, get: Get) -> None:
        """End the look-up of a pinned item as a node does: other values are counted."""
        item, pinned = self.salted.get(get.wanted.target), get.wanted.pinned
        assert pinned is not None
        try:
            if item is not None:
                pinned.check(item.value)
        except BadItem as error:
            get.end(None, dropped={error.reason: 1}, rpc_count=min(30, get.wanted.rpc_max))
            return
        if item is None:
            is_cut = get.wanted.rpc_max < 30
            get.end(None, rpc_count=min(30, get.wanted.rpc_max), verdict=Verdict.BUDGET if is_cut else Verdict.COMPLETE)
            return
        if get.wanted.rpc_max < self.salted_rpcs:
            get.end(None, rpc_count=get.wanted.rpc_max, verdict=Verdict.BUDGET)
            return
        get.on_item(item)
        get.end(item, rpc_count=self.salted_rpcs, verdict=Verdict.FOUND)

    def get(
        self,
        wanted: Wanted,
        *,
        on_item: Callable[[Item], None],
        on_patient: Callable[[], None] | None = None,
    ) -> asyncio.Future[GetOutcome]:
        """Begin a look-up."""
        future: asyncio.Future[GetOutcome] = asyncio.get_running_loop().create_future()
        get = Get(wanted, on_item, future, on_patient)
        self.gets.append(get)
        if wanted.pinned is not None and self.items is not None:
            self._end_pinned(get)
        elif wanted.key is None and self.items is not None:
            if wanted.target in self.values:
                on_item(self.values[wanted.target])
            get.end()
        elif self.items is not None:
            item = self.items.get(get.zone_id)
            if item is not None:
                on_item(item)
            get.end(item)
        return future


class FakeState(MemoryState):
    """The state of the simulated world, whose disk obeys the test: `gate` holds commits up, `trouble` refuses them.

    `log` has the commits in order. `seqs` are marks whose items are not held.
    """

    def __init__(self, marks: dict[ZoneId, Held] | None = None, *, seqs: dict[ZoneId, Mark] | None = None) -> None:
        super().__init__(marks)
        self.seqs = {} if seqs is None else seqs
        self.log: list[tuple[int, float]] = []
        self.gate: asyncio.Event | None = None
        self.trouble: Exception | None = None
        self.protected: set[ZoneId] = set()
        self.kept: list[ZoneId] = []

    @property
    def newest_seq(self) -> int | None:
        """Return the highest seq of all."""
        return max((seq for key in (*self.marks, *self.seqs) if (seq := self.seq_of(key)) is not None), default=None)

    def seq_of(self, zone_id: ZoneId) -> int | None:
        """Return the seq of the mark."""
        mark = self.mark(zone_id)
        return None if mark is None else mark.seq

    def mark(self, zone_id: ZoneId, salt: bytes = b"") -> Mark | None:
        """Return the mark, of which the item need not be held."""
        return self.seqs.get(zone_id, super().mark(zone_id))

    def is_protected(self, zone_id: ZoneId) -> bool:
        """Return what the test says."""
        return zone_id in self.protected

    def keep(self, zone_id: ZoneId) -> None:
        """Note it."""
        self.kept.append(zone_id)

    def held(self, zone_id: ZoneId, salt: bytes = b"") -> Held | None:
        """Return the item of the mark."""
        held, mark = super().held(zone_id), self.seqs.get(zone_id)
        return None if held is not None and mark is not None and held.item.seq < mark.seq else held

    async def adopt(self, item: MutableItem, confirmed_unix: float, *, own: bool = False, pinned: bool = False) -> None:
        """Raise the mark, once the gate is open."""
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        self.log.append((item.seq, confirmed_unix))
        await super().adopt(item, confirmed_unix, own=own, pinned=pinned)
        if self.marks[zone_id_of(item)].item == item:
            self.seqs.pop(zone_id_of(item), None)


class FakeUpstream:
    """An upstream that replies what the test has lined up, and logs what it was asked."""

    def __init__(self, *outcomes: UpstreamOutcome) -> None:
        self.outcomes = deque(outcomes)
        self.asked: list[Question] = []
        self.flags: list[tuple[bool, bool, bool]] = []
        self.gate: asyncio.Event | None = None
        self.probes: set[Name] = set()
        self.on_return: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Nothing is open."""

    async def ask(self, question: Question, *, rd: bool, do: bool, cd: bool, deadline: float) -> UpstreamOutcome:
        """Reply."""
        self.asked.append(question)
        self.flags.append((rd, do, cd))
        if self.gate is not None:
            await self.gate.wait()
        return self.outcomes.popleft() if self.outcomes else NoReply("nothing lined up", is_refusal=True)

    def came_back(self, question: Question) -> bool:
        """Return whether the question is a probe."""
        return question.name in self.probes


def reply_to(asked: Question, *lines: str, rcode: int = 0, authority: tuple[str, ...] = ()) -> Message:
    """Return the reply that has these lines as its answer."""
    root = Name.root()
    sections = [
        tuple(rr for rrset in rrsets(root, *section) for rr in rrset.records()) for section in (lines, authority)
    ]
    return Message(0, 0x8180 | rcode, asked, *sections)
