"""The values at the boundary of a node: settings, what is wanted, outcomes and events, all frozen.

Guarantees: no value changes after it was made. Does not know how an outcome comes about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from p2pdns.addresses import Address, AddressClass, class_of
from p2pdns.dht import krpc
from p2pdns.dht.confirmation import Confirmation
from p2pdns.dht.lookup.verdict import Verdict
from p2pdns.dht.lookup.width import ALPHA
from p2pdns.dht.routing.table import K
from p2pdns.items.item import Item, MutableItem, Present, mutable_target
from p2pdns.items.keys import ZoneKey
from p2pdns.items.shards.pinned import Pinned
from p2pdns.items.succession import Commitment
from p2pdns.limits import QUESTION_RPCS_MAX

# The bounds of a timeout, chosen with `bench/lookup.py`: below 50 ms a busy peer counts as dead, and after 1 s the
# client that asked has given up.
TIMEOUT_S_MIN = 0.05
TIMEOUT_S_MAX = 1.0
PUBLIC_PREFIXES_MIN = 3  # As many prefixes must agree on our public address; one place must not choose it for us.
TIMEOUT_S_FIRST = 0.35  # Before anything was measured: the p75 of the public network is 269 ms.


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How a node behaves.

    `read_only` None lets the node find out (BEP 43: full once it is reachable); `bind_host` is where its socket is
    bound; `far_sizes` enlarges the farthest buckets; a node for one question needs no `fills_table`.
    """

    bind_host: str = "0.0.0.0"
    read_only: bool | None = None
    store: bool = True
    k: int = K
    alpha: int = ALPHA
    rpc_max: int = QUESTION_RPCS_MAX
    far_sizes: tuple[int, ...] = ()
    fills_table: bool = True
    timeout_s_min: float = TIMEOUT_S_MIN
    timeout_s_max: float = TIMEOUT_S_MAX
    timeout_s_first: float = TIMEOUT_S_FIRST
    # Known from the start, because each datagram asks for the family.
    is_ipv6: bool = field(init=False)
    is_on_loopback: bool = field(init=False)  # The kernel refuses every destination but loopback.

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_ipv6", ":" in self.bind_host)
        object.__setattr__(self, "is_on_loopback", class_of(self.bind_host) is AddressClass.LOOPBACK)


class Sibling(Protocol):
    """The same node in the other address family (BEP 32)."""

    @property
    def wants_contacts(self) -> bool:
        """Whether it knows so few contacts that ours should ask for some."""

    def contacts_near(self, target: bytes, asker: Address) -> tuple[krpc.NodeInfo, ...]:
        """Return its contacts nearest to a target that an asker of our family may be told of."""

    def contacts_heard(self, contacts: tuple[krpc.NodeInfo, ...], source: Address, now: float) -> None:
        """Take in contacts of its family that the node at `source` in ours has named."""


class PublicReport(NamedTuple):
    """Where contacts see us in public space: the address that most of their prefixes report, and how many do.

    >>> PublicReport("93.184.216.34", 3, 5).address, PublicReport("93.184.216.34", 2, 2).address
    ('93.184.216.34', None)
    """

    host: str | None = None
    vote_count: int = 0
    prefix_count: int = 0

    @property
    def address(self) -> str | None:
        """The address, if enough prefixes report it, and more than half of all."""
        is_known = self.vote_count >= PUBLIC_PREFIXES_MIN and 2 * self.vote_count > self.prefix_count
        return self.host if is_known else None


class Peer(NamedTuple):
    """A contact as it is reported; lengths in seconds, `rtt_s` is None when unmeasured.

    `failures` counts the unanswered requests since its last reply; `is_allowed` says whether BEP 42 allows its id.
    """

    node_id: bytes
    address: Address
    rtt_s: float | None
    silent_s: float
    known_s: float
    failures: int
    is_allowed: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """An item that is looked for, and the limits of the look-up.

    `key` None takes any item that belongs under the target. With `known_seq` only newer ones count. `present` judges
    seqs, so that an item from the future hides no other. `deadline` is a time of the node's clock. With `wants_copies`
    the outcome has the item of every contact. `avoided` are no first contacts, if there are others. Items that lack
    `commitment` are left out, as those that do not verify. With `wants_editions` the outcome has the older items too
    that were met, for a reader that has kept no commitment. With `pinned` only the pinned value counts, and the look-up
    ends at the first reply that has it: the pin decides, and no seq. `alpha` overrides the node's own.
    """

    target: bytes
    key: ZoneKey | None = None
    salt: bytes = b""
    known_seq: int | None = None
    present: Present | None = None
    rpc_max: int = QUESTION_RPCS_MAX
    deadline: float | None = None
    wants_copies: bool = False
    avoided: frozenset[Address] = frozenset()
    commitment: Commitment | None = None
    wants_editions: bool = False
    pinned: Pinned | None = None
    alpha: int | None = None

    def __post_init__(self) -> None:
        assert self.key is None or self.target == mutable_target(self.key.raw, self.salt), "the target of another item"


@dataclass(frozen=True, slots=True)
class GetOutcome:
    """How a get ended.

    `verdict` is about the contacts we heard of, see `p2pdns.dht.lookup.search`. `item` is None when none newer than
    `known_seq` was found; `confirmed_count` nodes hold just that seq, or the item found, and `confirmation` says for
    which item their word counts. `peer_count` addresses were asked; times are seconds since the start. `copies` and
    `editions` are empty unless they were wanted.
    """

    item: Item | None
    verdict: Verdict
    rpc_count: int
    retransmit_count: int
    peer_count: int
    answered_count: int
    first_s: float | None
    done_s: float
    bytes_sent: int
    bytes_received: int
    rpcs_to_first: int | None
    confirmed_count: int = 0
    answered: tuple[Address, ...] = ()  # Nearest first.
    # Items in replies that did not verify, or lack the commitment that was wanted, by reason.
    dropped: Mapping[str, int] = field(default_factory=dict)
    confirmation: Confirmation = field(default_factory=Confirmation)
    copies: Mapping[Address, MutableItem] = field(default_factory=dict)
    nearest: tuple[krpc.NodeInfo, ...] = ()  # Of the contacts that answered, the k nearest that count.
    editions: tuple[MutableItem, ...] = ()  # The oldest first, the item found among them.

    @property
    def complete(self) -> bool:
        return self.verdict is Verdict.COMPLETE


RATIONED = "rationed"  # Error 202 of a node of ours: too many new keys of one prefix at a time, or no room.


Cas: TypeAlias = tuple[int, ...]
"""The seqs that an item may take the place of. Each node is told the one that it has named itself, and a node that has
named none of them is told the highest, 0 if there is none: without an item it need not compare (BEP 44)."""


class Others(NamedTuple):
    """How many other nodes an item should be at, and how many of them have said that they keep it."""

    known: int = 0
    stored: int = 0

    @property
    def is_enough(self) -> bool:
        return 2 * self.stored > self.known >= 1


@dataclass(frozen=True, slots=True)
class PutOutcome:
    """How a put ended: `sent_count` others were asked to keep the item, and `stored_count` of them do.

    `refused` counts error codes, `timeout`, and `put-too-long`: another node was asked, because the token of this one
    left no room for the item. `seq_seen` is the highest seq of a verified item that the look-up found. `is_kept_here`
    and `refused_here` (an error code) say what our own storage did, if it is near. `passed_count` others answered the
    look-up and could not be asked to keep the item. `asked` are the addresses that the look-up has asked, and `held_at`
    those that refused the item because of the one that they hold (301, 302).
    """

    sent_count: int
    stored_count: int
    refused: Mapping[int | str, int] = field(default_factory=dict)
    seq_seen: int | None = None
    verdict: Verdict = Verdict.COMPLETE
    rpc_count: int = 0
    done_s: float = 0.0
    is_kept_here: bool = False
    refused_here: int | None = None
    passed_count: int = 0
    asked: tuple[Address, ...] = ()
    held_at: tuple[Address, ...] = ()
    storers: tuple[krpc.NodeInfo, ...] = ()  # The others that said that they keep it, nearest first.

    @property
    def others(self) -> Others:
        """The others that answered the look-up, 20 at most or as many as were asked, and how many keep the item."""
        return Others(max(self.sent_count, min(K, self.sent_count + self.passed_count)), self.stored_count)

    @property
    def rationed_count(self) -> int:
        return self.refused.get(krpc.SERVER_ERROR, 0)

    @property
    def reasons(self) -> dict[str, int]:
        """The refusals of the others and of our own storage, in words for a user."""
        counts: Counter[str] = Counter()
        for reason, count in self.refused.items():
            counts[RATIONED if reason == krpc.SERVER_ERROR else str(reason)] += count
        if self.refused_here is not None:
            counts[str(self.refused_here)] += 1
        return dict(counts)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question to one node that may keep an item: whether it still has it.

    The node is asked for an item newer than `seq`, or for any if that is None, so that its reply has to be signed.
    `again` is put there afterwards, unless the reply shows a newer item. With `sends_again`, a datagram without a reply
    is sent once more.
    """

    contact: krpc.NodeInfo
    key: ZoneKey
    salt: bytes = b""
    seq: int | None = None
    again: MutableItem | None = None
    sends_again: bool = False

    @property
    def target(self) -> bytes:
        return mutable_target(self.key.raw, self.salt)


@dataclass(frozen=True, slots=True)
class InquiryOutcome:
    """What one node has shown: `item` is verified, and None where it showed none; `is_kept`: it took the item again.

    `seq_named` is a seq without an item, which proves nothing. `rtt_s` is None where the first datagram was lost.
    `request_count` datagrams were sent.
    """

    has_answered: bool = False
    item: MutableItem | None = None
    seq_named: int | None = None
    rtt_s: float | None = None
    is_kept: bool = False
    request_count: int = 0
    dropped: str | None = None  # Why an item in the reply did not verify.


@dataclass(frozen=True, slots=True)
class InquiryDone:
    """An inquiry has ended."""

    operation: int
    outcome: InquiryOutcome


@dataclass(frozen=True, slots=True)
class ItemFound:
    """A get has found its first valid item, or a better one."""

    operation: int
    item: Item


@dataclass(frozen=True, slots=True)
class GetPatient:
    """A get without an item goes on, but hardly loads the node: others may begin in its place."""

    operation: int


@dataclass(frozen=True, slots=True)
class GetDone:
    """A get has ended."""

    operation: int
    outcome: GetOutcome


@dataclass(frozen=True, slots=True)
class PutProgress:
    """`sent` others were asked to keep an item so far, and `stored` of them have said that they do."""

    operation: int
    sent: int
    stored: int


@dataclass(frozen=True, slots=True)
class PutDone:
    """A put has ended."""

    operation: int
    outcome: PutOutcome


@dataclass(frozen=True, slots=True)
class FindDone:
    """A search for contacts has ended."""

    operation: int
    verdict: Verdict
    answered_count: int


@dataclass(frozen=True, slots=True)
class ItemArrived:
    """A stranger has put a valid item here."""

    target: bytes
    item: Item


@dataclass(frozen=True, slots=True)
class Joined:
    """The first search for our own neighbourhood has ended; look-ups work from now on."""

    contact_count: int


Event: TypeAlias = (
    ItemFound | GetPatient | GetDone | PutProgress | PutDone | FindDone | InquiryDone | ItemArrived | Joined
)
