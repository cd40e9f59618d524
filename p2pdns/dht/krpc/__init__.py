"""KRPC, the wire protocol of the DHT: its messages as frozen values, and its constants.

It is BEP 5, 32 (IPv6), 42 (`ip`), 43 (`ro`), 44 (items), and our `nw`. In here: `compact` (addresses and contacts),
`reading` (`parse`) and `writing` (`compose`, its inverse).

An item's value is carried in its *bencoded* form: BEP 44 allows any bencoded value (BEP 46 keeps a dictionary
there), and targets and signatures cover exactly that form. `string_of` returns the byte string inside, which a packed
zone is; `bencode.encode` returns the form. A reply does not name its query, so every field of `Reply` is optional.

Guarantees: a message never changes once made. Does not know the sender of a message, nor whether a signature holds.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, TypeAlias

from p2pdns.addresses import Address
from p2pdns.dht.krpc.compact import NodeInfo as NodeInfo
from p2pdns.errors import FormatError
from p2pdns.values import Value, replace

DATAGRAM_BYTES_MAX = 2_048  # An Ethernet frame carries 1472; nothing that KRPC can say needs a fragment.
REPLY_BYTES_MAX = 1_232  # IPv6's minimum MTU of 1280 less 48 of headers: never fragmented.
TRANSACTION_BYTES_MAX = 32  # Foreign nodes use 2, 4 and 8; the reflected bytes stay bounded.
TOKEN_BYTES_MAX = 64  # libtorrent's have 4, Rust mainline's 4, older ones 20: a peer's token costs us this much.
ERROR_TEXT_BYTES_MAX = 256  # A stranger's text is for a log line.
SEQ_MAX = 2**63 - 1  # BEP 44 implementations keep seq as a signed 64-bit integer.
NETWORK_BYTES = 8
KEY_BYTES = 32
SIGNATURE_BYTES = 64

# BEP 5
GENERIC_ERROR, SERVER_ERROR, PROTOCOL_ERROR, METHOD_UNKNOWN = 201, 202, 203, 204
# BEP 44
VALUE_TOO_BIG, BAD_SIGNATURE, SALT_TOO_BIG, CAS_MISMATCH, SEQ_TOO_LOW = 205, 206, 207, 301, 302


class BadQuery(FormatError):
    """A query that cannot be answered, but whose sender can be told so with `code`."""

    def __init__(self, reason: str, code: int, transaction: bytes, network: bytes | None) -> None:
        self.code = code
        self.transaction = transaction
        self.network = network
        super().__init__(reason)


class Ping(Value, frozen=True):
    """Ask whether a node is there."""


class FindNode(Value, frozen=True):
    """Ask for the contacts nearest to `target`; `pad_bytes` earn a whole reply before our address is proven."""

    target: bytes
    pad_bytes: int = 0


class Get(Value, frozen=True):
    """Ask for the item at `target` (BEP 44), with a `seq` only for a newer one.

    `token` and `pad_bytes` earn a whole reply; the token was given for `token_of`, for `target` if that is None.
    """

    target: bytes
    seq: int | None = None
    token: bytes | None = None
    pad_bytes: int = 0
    token_of: bytes | None = None


class PutMutable(Value, frozen=True):
    """Have this signed item kept (BEP 44). The storer checks both sizes: errors 205 (value) and 207 (salt).

    `names_target` says that the target is among the arguments, as some storers want it; it is not read.
    """

    key: bytes
    seq: int
    value: bytes
    signature: bytes
    token: bytes
    salt: bytes = b""
    cas: int | None = None
    names_target: bool = True

    @property
    def target(self) -> bytes:
        return hashlib.sha1(self.key + self.salt, usedforsecurity=False).digest()


class PutImmutable(Value, frozen=True):
    """Have this value kept (BEP 44); `names_target` as in `PutMutable`."""

    value: bytes
    token: bytes
    names_target: bool = True

    @property
    def target(self) -> bytes:
        return hashlib.sha1(self.value, usedforsecurity=False).digest()


class GetPeers(Value, frozen=True):
    """Ask for the peers that announced `info_hash` (BEP 5)."""

    info_hash: bytes


class AnnouncePeer(Value, frozen=True):
    """Announce that the sender has `info_hash` at `port`; None is its source port (implied_port)."""

    info_hash: bytes
    port: int | None
    token: bytes


class Unknown(Value, frozen=True):
    """A method of an unknown BEP. With a target it is answered with nodes, without one with error 204 (BEP 5)."""

    method: bytes
    target: bytes | None


Put: TypeAlias = PutMutable | PutImmutable
Request: TypeAlias = Ping | FindNode | Get | Put | GetPeers | AnnouncePeer | Unknown


class RequestMessage(Value, frozen=True, kw_only=True):
    """A request and its envelope. `want` has b"n4" and b"n6" as in the message (BEP 32)."""

    transaction: bytes
    node_id: bytes
    request: Request
    read_only: bool = False
    want: tuple[bytes, ...] = ()
    version: bytes | None = None
    network: bytes | None = None


class Reply(Value, frozen=True, kw_only=True):
    """An answer to the query of its transaction. `ip` is the asker's address as the replier saw it.

    `is_proof_wanted` says that the same query with the token of this reply gets a longer one. `portless_count` is the
    number of contacts left out when the reply was read, because no datagram can be sent to port 0.
    """

    transaction: bytes
    node_id: bytes
    nodes: tuple[NodeInfo, ...] = ()
    nodes6: tuple[NodeInfo, ...] = ()
    token: bytes | None = None
    key: bytes | None = None
    signature: bytes | None = None
    seq: int | None = None
    value: bytes | None = None
    peers: tuple[Address, ...] | None = None
    is_proof_wanted: bool = False
    portless_count: int = 0
    ip: Address | None = None
    version: bytes | None = None
    network: bytes | None = None

    def __eq__(self, other: object) -> bool:
        # A reply is written without the contacts at port 0, and is equal all the same.
        if not isinstance(other, Reply):
            return False
        return bool(Value.__eq__(replace(self, portless_count=0), replace(other, portless_count=0)))


class Error(Value, frozen=True, kw_only=True):
    """A refusal: `code` is one of the constants above, or a foreign node's own."""

    transaction: bytes
    code: int
    text: str = ""
    ip: Address | None = None
    version: bytes | None = None
    network: bytes | None = None


Message: TypeAlias = RequestMessage | Reply | Error


class Fitted(NamedTuple):
    """A reply composed within a limit, and what had to go."""

    data: bytes
    contacts_dropped: int
    has_lost_value: bool


def network_of(name: str) -> bytes:
    """Return the `nw` of a named network: the first 8 bytes of SHA-256 over its name."""
    return hashlib.sha256(name.encode()).digest()[:NETWORK_BYTES]


def string_of(value: bytes) -> bytes | None:
    """Return the byte string that the bencoded `value` is, None if it is something else.

    >>> string_of(b"5:hello"), string_of(b"i7e")
    (b'hello', None)
    """
    return value[value.index(b":") + 1 :] if value[:1].isdigit() else None
