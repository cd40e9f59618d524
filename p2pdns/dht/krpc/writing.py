"""From a message to a datagram.

Guarantees: `parse` gives back what `compose` was given; `compose_reply_within` keeps the value before the contacts
and never exceeds its limit. Does not know how large a reply its receiver has earned (`dht.guard` does).
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.bencode import encode
from p2pdns.dht.krpc.compact import CONTACT6_BYTES, CONTACT_BYTES, NodeInfo, compose_address, compose_contacts
from p2pdns.values import replace


def compose(message: krpc.Message) -> bytes:
    """Return the datagram that says `message`."""
    # Every dictionary is written in the order of its keys, so none need be made, sorted and walked.
    if isinstance(message, krpc.Reply):
        parts = [b"d", _ip(message.ip), _network(message.network), b"1:rd", *_values(message), b"e"]
        kind = b"1:y1:re"
    elif isinstance(message, krpc.RequestMessage):
        method, arguments = _arguments(message)
        parts = [b"d1:ad", arguments, b"e", _network(message.network), b"1:q", _string(method)]
        kind = b"1:y1:qe"
        if message.read_only:
            parts.append(b"2:roi1e")
    else:
        parts = [b"d1:e", encode([message.code, message.text.encode()]), _ip(message.ip), _network(message.network)]
        kind = b"1:y1:ee"
    parts += (b"1:t", _string(message.transaction))
    if message.version is not None:
        parts += (b"1:v", _string(message.version))
    parts.append(kind)
    return b"".join(parts)


def _ip(ip: Address | None) -> bytes:
    return b"" if ip is None else b"2:ip" + _string(compose_address(ip))


def _network(network: bytes | None) -> bytes:
    return b"" if network is None else b"2:nw" + _string(network)


def compose_error(error: krpc.Error, limit: int = krpc.REPLY_BYTES_MAX) -> bytes:
    """Return the datagram of a refusal, its text cut so that it keeps within `limit`."""
    data = compose(error)
    if len(data) > limit:
        data = compose(replace(error, text=""))
    return data


def compose_reply_within(reply: krpc.Reply, limit: int = krpc.REPLY_BYTES_MAX) -> krpc.Fitted:
    """Return `reply` in at most `limit` bytes, and what had to go to get there.

    A reply with a value goes without `v` and `ip`, so that contacts fit beside it; then contacts go, last to first,
    then the value. (The value alone is too long only under a long transaction id of a foreign node.)
    """
    if reply.value is None and len(data := compose(reply)) <= limit:
        return krpc.Fitted(data, 0, False)
    count = len(reply.nodes) + len(reply.nodes6)
    small = reply if reply.value is None else replace(reply, version=None, ip=None)
    small, data = _with_fewer_contacts(small, limit)
    if len(data) > limit and reply.value is not None:
        # seq without v means "nothing newer than yours" (BEP 44), so a lost value takes its whole item along.
        bare = compose_reply_within(replace(reply, value=None, key=None, signature=None, seq=None), limit)
        return bare._replace(has_lost_value=True)
    return krpc.Fitted(data, count - len(small.nodes) - len(small.nodes6), False)


def _with_fewer_contacts(reply: krpc.Reply, limit: int) -> tuple[krpc.Reply, bytes]:
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


def _shortened(contacts: Sequence[NodeInfo], excess: int, size: int, is_shared: bool) -> tuple[NodeInfo, ...]:
    drop = 1 if is_shared else max(1, excess // size)
    return tuple(contacts[: max(0, len(contacts) - drop)])


# The heads of strings: to look one up is quicker than to write a number.
_HEADS = tuple(b"%d:" % size for size in range(2_049))


def _string(data: bytes) -> bytes:
    size = len(data)
    return _HEADS[size] + data if size < 2_049 else b"%d:%b" % (size, data)


def _arguments(query: krpc.RequestMessage) -> tuple[bytes, bytes]:
    """Return the method of a query, and its arguments without the ends of the dictionary."""
    request, node_id = query.request, b"2:id" + _string(query.node_id)
    match request:
        case krpc.Get():
            method, parts = b"get", _get(request, node_id)
        case krpc.FindNode():
            method, parts = b"find_node", [node_id, _pad(request.pad_bytes), b"6:target", _string(request.target)]
        case krpc.Ping():
            method, parts = b"ping", [node_id]
        case krpc.PutMutable():
            method, parts = b"put", _put(request, node_id)
        case krpc.PutImmutable():
            method, parts = b"put", [node_id, *_target(request)]
            parts += (b"5:token", _string(request.token), b"1:v", request.value)
        case krpc.GetPeers():
            method, parts = b"get_peers", [node_id, b"9:info_hash", _string(request.info_hash)]
        case krpc.AnnouncePeer():
            # With implied_port the number is ignored, but BEP 5 wants one there.
            implied, port = int(request.port is None), request.port or 1
            method, parts = b"announce_peer", [node_id, b"12:implied_porti%de" % implied]
            parts += (b"9:info_hash", _string(request.info_hash), b"4:porti%de" % port)
            parts += (b"5:token", _string(request.token))
        case krpc.Unknown():
            method, parts = request.method, [node_id]
            if request.target is not None:
                parts += (b"6:target", _string(request.target))
    if query.want:
        parts += (b"4:want", encode(query.want))
    return method, b"".join(parts)


def _pad(size: int) -> bytes:
    return b"3:pad" + _string(bytes(size)) if size else b""


def _get(get: krpc.Get, node_id: bytes) -> list[bytes]:
    parts = [node_id, _pad(get.pad_bytes)]
    if get.seq is not None:
        parts.append(b"3:seqi%de" % get.seq)
    parts += (b"6:target", _string(get.target))
    if get.token is not None:
        parts += (b"5:token", _string(get.token))
    if get.token_of is not None:
        parts += (b"8:token_of", _string(get.token_of))
    return parts


def _put(put: krpc.PutMutable, node_id: bytes) -> list[bytes]:
    parts = [] if put.cas is None else [b"3:casi%de" % put.cas]
    parts += (node_id, b"1:k", _string(put.key))
    if put.salt:
        parts += (b"4:salt", _string(put.salt))
    parts += (b"3:seqi%de" % put.seq, b"3:sig", _string(put.signature), *_target(put))
    parts += (b"5:token", _string(put.token), b"1:v", put.value)
    return parts


def _target(put: krpc.Put) -> tuple[bytes, ...]:
    # BEP 44 has no target among the arguments of a put, and lets storers overlook what they do not know. The Rust
    # crate `mainline` (in pkarr, pkdns and iroh) drops a put that has none, without a word.
    return (b"6:target", _string(put.target)) if put.names_target else ()


def _values(reply: krpc.Reply) -> list[bytes]:
    parts = [b"2:id", _string(reply.node_id)]
    if reply.key is not None:
        parts += (b"1:k", _string(reply.key))
    if reply.nodes:
        parts += (b"5:nodes", _string(compose_contacts(reply.nodes)))
    if reply.nodes6:
        parts += (b"6:nodes6", _string(compose_contacts(reply.nodes6)))
    if reply.is_proof_wanted:
        parts.append(b"5:provei1e")
    if reply.seq is not None:
        parts.append(b"3:seqi%de" % reply.seq)
    if reply.signature is not None:
        parts += (b"3:sig", _string(reply.signature))
    if reply.token is not None:
        parts += (b"5:token", _string(reply.token))
    if reply.value is not None:
        parts += (b"1:v", reply.value)
    if reply.peers is not None:
        parts += (b"6:values", encode([compose_address(peer) for peer in reply.peers]))
    return parts
