"""One machine of a simulated world: a node and its endpoint, and above them the other parts of an engine.

Guarantees: only the socket and the database are stand-ins, all else is our own code. Does not know the scenario.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from p2pdns.addresses import Address
from p2pdns.clock import boot_now, unix_now
from p2pdns.dht.krpc import NodeInfo
from p2pdns.dht.node.machine import Node
from p2pdns.dht.node.values import Cas, NodeSettings, PutOutcome
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.dht.storage import Storage
from p2pdns.dht.stored import StoredRow
from p2pdns.dns.message import Question
from p2pdns.items.item import MutableItem, Present
from p2pdns.items.keys import ZoneId
from p2pdns.limits import QUESTION_S_MAX
from p2pdns.link import Ask
from p2pdns.net.endpoint import Endpoint
from p2pdns.net.upstream.asking import Upstream
from p2pdns.overlay.finder import Overlay
from p2pdns.overlay.ports import OnProgress, Tell
from p2pdns.publishing.replicas import HeldHere, NodeReplicas
from p2pdns.publishing.upkeep import Publisher
from p2pdns.resolver.names import ResolverSettings
from p2pdns.resolver.service import Service
from p2pdns.resolver.steps import Budget, Fetch, FetchPinned, Resolved, ZoneOutcome
from p2pdns.sim.chance import Chance
from p2pdns.sim.memory import ForgetfulStorage, MemoryState
from p2pdns.sim.network import VirtualNetwork
from p2pdns.sim.observe import AnswerGiven, Fetched, ObservedNetwork, Observer

PORT = 6_881
NETWORK_NAME = "simulated"
CLOCK_LOOK_S = 60.0  # As often as the daemon compares its clock with the newest item, which is when it saves contacts.
FIRST_OCTETS = range(11, 91)  # Public space that no block of special use reaches into.
SPREADING = 40_503  # Odd, and 2¹⁶ divided by the golden ratio: its multiples fill 16 bits evenly, each once.
HOSTS_MAX = 1 << 16


class HonestNode(Node):
    """Our node. A placed world fills its table by the method that notes a reply (see `placing`)."""

    def know(self, contact: NodeInfo, rtt_s: float, now: float) -> None:
        """Take a contact in, if there is room, as one that has answered after such a time."""
        if self._core.table.wants(contact.node_id, contact.address):
            self._core.table.answered(contact, rtt_s, now)

    def has_been_placed(self) -> None:
        """Go on as a node does that knows its neighbourhood."""
        self._bootstrap.has_joined = True


MakeNode = Callable[..., Node]
"""Makes the node of a machine from the arguments of `Node`; that of a hostile machine lies."""


def host_of(number: int) -> str:
    """Return the address of a machine, another for each number: in a /16 of its own as long as there are some.

    BEP 42 derives the first bits of an id from the address, from the low bits of each octet. So these must differ much,
    or the ids of a world would lie on a few points of the circle.

    >>> host_of(0), host_of(1), host_of(20_480)
    ('11.0.0.1', '12.0.158.56', '11.0.48.1')
    """
    assert number < HOSTS_MAX, "no more addresses of this kind"
    rest, first = divmod(number, len(FIRST_OCTETS))
    third, fourth = divmod((number * SPREADING + 1) % HOSTS_MAX, 256)
    return f"{FIRST_OCTETS[first]}.{rest % 256}.{third}.{fourth}"


@dataclass(frozen=True)
class Habits:
    """How a machine differs from others: its wrong clock, what it is told to be, and where it sits."""

    clock_off_s: float = 0.0
    read_only: bool | None = None
    is_behind_nat: bool = False
    forgets: bool = False  # It keeps an item in memory only, and for two hours, as BEP 44 allows.


class VirtualEngine:
    """A machine that can be started, stopped and started again."""

    def __init__(
        self,
        network: VirtualNetwork,
        host: str,
        seed: str,
        tell: Tell,
        *,
        observer: Observer | None = None,
        habits: Habits = Habits(),
        make_node: MakeNode | None = None,
    ) -> None:
        self.address: Address = (host, PORT)
        self.is_honest = make_node is None
        self.state = MemoryState()
        self.is_up = False
        self.habits = habits
        self.up_s = 0.0
        self.was_up = False
        self._up_since = 0.0
        self._wire = network
        self._observer = observer
        self._tell = tell
        self._make_node: MakeNode = make_node or HonestNode
        self._chance = Chance(seed)
        self._node_id: bytes | None = None
        self._stopped_at: float | None = None
        self._known: Sequence[Address] = ()
        self._rows: dict[bytes, StoredRow] = {}
        self._clock_timer: asyncio.TimerHandle | None = None

    def unix_now(self) -> float:
        """Return the time that this machine's clock shows."""
        return unix_now() + self.habits.clock_off_s

    def begin_as(self, node_id: bytes) -> None:
        """Start as a node that has an id already and need not join, because it is told whom it knows (see `know`)."""
        self._node_id = node_id
        self.begin()
        if isinstance(self.node, HonestNode):
            self.node.has_been_placed()

    def know(self, contact: NodeInfo, rtt_s: float, now: float) -> None:
        """Have an honest node take a contact in."""
        assert isinstance(self.node, HonestNode), "a hostile node joins as it likes"
        self.node.know(contact, rtt_s, now)

    async def start(self, known: Sequence[Address] = ()) -> None:
        """Start, or start again with the kept state; return once the neighbourhood is known."""
        self.begin(known)
        if known:
            await self.endpoint.bootstrap(known)

    def begin(self, known: Sequence[Address] = ()) -> None:
        """Start, and wait for nothing: the machine joins by these addresses, or those of its first start, and contacts.

        It binds its socket to every address, as the daemon does by default; so it learns from others where it is.
        """
        now = boot_now()
        storage = ForgetfulStorage() if self.habits.forgets else Storage()
        saved = self._saved()
        self.node = self._make_node(
            node_id=self._node_id,
            network=NETWORK_NAME,
            entropy=self._chance.randbytes,
            storage=storage,
            settings=NodeSettings(bind_host="0.0.0.0", read_only=self.habits.read_only),
            now=now,
        )
        for row in sorted(self._rows.values(), key=lambda row: (row.put_unix, row.target)):
            storage.load(row, now, self.unix_now())
        self.node.restore_contacts(saved, now)
        self._known = known or self._known
        self.endpoint = Endpoint(self.node, self._wire.open(self.address), self.unix_now)
        self._open_service()
        self._tell_time()
        self.is_up = self.was_up = True
        self._up_since = now
        if self._known:
            self.endpoint.bootstrap(self._known)
        self.publisher.start()

    def _saved(self) -> Sequence[SavedContact]:
        # Asked of the node that has stopped, because most machines that stop do not start again, and half of 10,000
        # with their contacts on disk as well would take 100 MB.
        return () if self._stopped_at is None else self.node.contacts(self._stopped_at)

    def _open_service(self) -> None:
        host = self.address[0]
        observer, endpoint = self._observer, self.endpoint
        self.network = endpoint if observer is None else ObservedNetwork(endpoint, host, observer)
        self.overlay = Overlay(self.network, self.state, clock=boot_now, unix_clock=self.unix_now, tell=self._tell)
        self.endpoint.on_arrival = self.overlay.item_arrived
        self.service = Service(self.overlay, Upstream((), clock=boot_now), ResolverSettings(), clock=boot_now)
        self.overlay.on_invalidate = self.service.invalidate
        self.endpoint.on_joined = self.overlay.joined
        self.publisher = Publisher(
            self.network,
            self.state,
            clock=boot_now,
            unix_clock=self.unix_now,
            jitter=self._chance.random,
            tell=self._tell,
            on_published=self.overlay.published,
            look_up=self._look_up,
            memory=self.state,
        )

    def _tell_time(self) -> None:
        present = Present(self.unix_now(), self.state.newest_seq)
        self.node.storage.precedence.tell_time(boot_now(), present)
        self._clock_timer = asyncio.get_running_loop().call_later(CLOCK_LOOK_S, self._tell_time)

    async def _look_up(self, zone_id: ZoneId) -> None:
        self.overlay.flush(zone_id)
        await self.overlay.unfollowed(zone_id, True, Budget(deadline=boot_now() + QUESTION_S_MAX))

    def replicas(self, zone_id: ZoneId, *, is_kept: bool) -> NodeReplicas:
        """Return the copies of a zone, for a publication: through this machine's daemon, or by its node alone."""

        def known() -> HeldHere:
            mark, held = self.state.mark(zone_id), self.state.held(zone_id)
            return HeldHere(None if mark is None else mark.seq, None if held is None else held.item)

        def put(item: MutableItem, cas: Cas | None, on_progress: OnProgress) -> Awaitable[PutOutcome]:
            if is_kept:
                return self.publisher.publish(item, on_progress, cas=cas)
            return self.network.put(item, cas=cas, on_progress=on_progress)

        return NodeReplicas(
            zone_id,
            self.network,
            put,
            clock=boot_now,
            unix_clock=self.unix_now,
            jitter=self._chance.random,
            sleep=asyncio.sleep,
            known=known if is_kept else HeldHere,
        )

    async def ask(self, question: Question) -> Resolved:
        """Return this machine's answer to a question of a program on it."""
        began = boot_now()
        fetched: list[Fetched] = []

        def narrate(step: Fetch | FetchPinned, outcome: ZoneOutcome) -> tuple[str, ...]:
            mark = self.state.mark(step.zone_id)
            fetched.append(Fetched(step.zone_id, outcome, None if mark is None else mark.seq))
            return ()

        resolved = await self.service.resolve(question, Ask(began + QUESTION_S_MAX), narrate=narrate)
        if self._observer is not None:
            answered = AnswerGiven(question, resolved, tuple(fetched), boot_now() - began)
            self._observer.question_ended(self.address[0], answered)
        return resolved

    @property
    def session_s(self) -> float:
        """How long this machine is up, since its last start."""
        return boot_now() - self._up_since if self.is_up else 0.0

    @property
    def lived_s(self) -> float:
        """How long this machine was up, in all its sessions."""
        return self.up_s + self.session_s

    async def stop(self) -> None:
        """End as a process does; its state, with its contacts and the items it stores for others, is on its disk."""
        now = boot_now()
        self.up_s, self.is_up = self.lived_s, False
        self._node_id, self._stopped_at = self.node.node_id, now
        for target, row in self.node.storage.take_changes(now, self.unix_now()):
            if row is None:
                self._rows.pop(target, None)
            else:
                self._rows[target] = row
        if self._clock_timer is not None:
            self._clock_timer.cancel()
        self.service.close()
        await self.publisher.close()
        await self.overlay.close()
        self.endpoint.close()

    def lose_state(self) -> None:
        """Lose the disk of a machine that is down: the next start is the first one of a new node at the old address."""
        assert not self.is_up, "a running machine has its state in memory too"
        self.state = MemoryState()
        self._node_id, self._stopped_at, self._known = None, None, ()
        self._rows.clear()
        if self._observer is not None:
            self._observer.state_lost(self.address[0])
