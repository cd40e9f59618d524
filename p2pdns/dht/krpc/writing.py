"""From a message to a datagram.

Guarantees: `parse` gives back what `compose` was given; `compose_reply_within` keeps the value before the contacts
and never exceeds its limit. Does not know how large a reply its receiver has earned (`dht.guard` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from p2pdns.dht.bencode import Encodable, Encoded, encode
from p2pdns.dht.krpc.compact import Contact, compose_address, compose_contacts
from p2pdns.dht.krpc.messages import (
    REPLY_BYTES_MAX,
    AnnouncePeer,
    Error,
    FindNode,
    Fitted,
    Get,
    GetPeers,
    Message,
    Ping,
    PutImmutable,
    PutMutable,
    Query,
    Reply,
    Request,
    Unknown,
)

CONTACT_BYTES, CONTACT6_BYTES = 26, 38


def compose(message: Message) -> bytes:
    """Return the datagram that says `message`."""
    top: dict[bytes, Encodable] = {b"t": message.transaction}
    if message.version is not None:
        top[b"v"] = message.version
    if message.network is not None:
        top[b"nw"] = message.network
    if isinstance(message, Query):
        method, arguments = _request(message.request)
        arguments[b"id"] = message.node_id
        if message.want:
            arguments[b"want"] = message.want
        top |= {b"y": b"q", b"q": method, b"a": arguments}
        if message.read_only:
            top[b"ro"] = 1
        return encode(top)
    if message.ip is not None:
        top[b"ip"] = compose_address(message.ip)
    if isinstance(message, Reply):
        top |= {b"y": b"r", b"r": _reply(message)}
    else:
        top |= {b"y": b"e", b"e": [message.code, message.text.encode()]}
    return encode(top)


def compose_error(error: Error, limit: int = REPLY_BYTES_MAX) -> bytes:
    """Return the datagram of a refusal, its text cut so that it keeps within `limit`."""
    data = compose(error)
    if len(data) > limit:
        data = compose(replace(error, text=""))
    return data


def compose_reply_within(reply: Reply, limit: int = REPLY_BYTES_MAX) -> Fitted:
    """Return `reply` in at most `limit` bytes, and what had to go to get there.

    A reply with a value goes without `v` and `ip`, so that contacts fit beside it; then contacts go, last to first,
    then the value. (The value alone is too long only under a long transaction id of a foreign node.)
    """
    count = len(reply.nodes) + len(reply.nodes6)
    small = reply if reply.value is None else replace(reply, version=None, ip=None)
    small, data = _with_fewer_contacts(small, limit)
    if len(data) > limit and reply.value is not None:
        # seq without v means "nothing newer than yours" (BEP 44), so a lost value takes its whole item along.
        bare = compose_reply_within(replace(reply, value=None, key=None, signature=None, seq=None), limit)
        return bare._replace(has_lost_value=True)
    return Fitted(data, count - len(small.nodes) - len(small.nodes6), False)


def _with_fewer_contacts(reply: Reply, limit: int) -> tuple[Reply, bytes]:
    data = compose(reply)
    while len(data) > limit and (reply.nodes or reply.nodes6):
        excess = len(data) - limit
        # The family that takes more room gives way first, whichever was asked for beside the other.
        if len(reply.nodes) * CONTACT_BYTES >= len(reply.nodes6) * CONTACT6_BYTES:
            reply = replace(reply, nodes=_shortened(reply.nodes, excess, CONTACT_BYTES, bool(reply.nodes6)))
        else:
            reply = replace(reply, nodes6=_shortened(reply.nodes6, excess, CONTACT6_BYTES, bool(reply.nodes)))
        data = compose(reply)
    return reply, data


def _shortened(contacts: Sequence[Contact], excess: int, size: int, is_shared: bool) -> tuple[Contact, ...]:
    drop = 1 if is_shared else max(1, excess // size)
    return tuple(contacts[: max(0, len(contacts) - drop)])


def _request(request: Request) -> tuple[bytes, dict[bytes, Encodable]]:
    match request:
        case Ping():
            return b"ping", {}
        case FindNode(target, pad_bytes):
            padding: dict[bytes, Encodable] = {b"pad": bytes(pad_bytes)} if pad_bytes else {}
            return b"find_node", {b"target": target, **padding}
        case Get():
            return b"get", _get(request)
        case PutMutable():
            return b"put", _put(request)
        case PutImmutable(value, token):
            return b"put", {b"v": Encoded(value), b"token": token}
        case GetPeers(info_hash):
            return b"get_peers", {b"info_hash": info_hash}
        case AnnouncePeer(info_hash, port, token):
            # With implied_port the number is ignored, but BEP 5 wants one there.
            place = {b"port": port or 1, b"implied_port": int(port is None)}
            return b"announce_peer", {b"info_hash": info_hash, b"token": token, **place}
        case Unknown(method, target):
            return method, {} if target is None else {b"target": target}


def _get(get: Get) -> dict[bytes, Encodable]:
    arguments: dict[bytes, Encodable] = {b"target": get.target}
    if get.seq is not None:
        arguments[b"seq"] = get.seq
    if get.token is not None:
        arguments[b"token"] = get.token
    if get.pad_bytes:
        arguments[b"pad"] = bytes(get.pad_bytes)
    return arguments


def _put(put: PutMutable) -> dict[bytes, Encodable]:
    arguments: dict[bytes, Encodable] = {
        b"k": put.key,
        b"seq": put.seq,
        b"sig": put.signature,
        b"token": put.token,
        b"v": Encoded(put.value),
    }
    if put.salt:
        arguments[b"salt"] = put.salt
    if put.cas is not None:
        arguments[b"cas"] = put.cas
    return arguments


def _reply(reply: Reply) -> dict[bytes, Encodable]:
    values: dict[bytes, Encodable] = {b"id": reply.node_id}
    if reply.nodes:
        values[b"nodes"] = compose_contacts(reply.nodes)
    if reply.nodes6:
        values[b"nodes6"] = compose_contacts(reply.nodes6)
    if reply.token is not None:
        values[b"token"] = reply.token
    if reply.key is not None:
        values[b"k"] = reply.key
    if reply.signature is not None:
        values[b"sig"] = reply.signature
    if reply.seq is not None:
        values[b"seq"] = reply.seq
    if reply.value is not None:
        values[b"v"] = Encoded(reply.value)
    if reply.peers is not None:
        values[b"values"] = [compose_address(peer) for peer in reply.peers]
    return values
