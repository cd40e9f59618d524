"""From a datagram to a message.

Guarantees: `parse` ends in a value or a `FormatError`; a query whose sender can be told what is wrong raises
`BadQuery`, which carries the transaction and the error code. Fields that decide something (id, target, token, k, sig,
seq, v, nodes, values, nw) are checked for type and size; fields that only advise (the message's `v`, `ip`, `want`,
`ro`) count as absent when they are not what they should be, because foreign nodes put all kinds of things there.
Does not know who sent a message, nor whether a signature or a token holds.
"""

from __future__ import annotations

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.bencode import Value, decode, encode
from p2pdns.dht.krpc.compact import CONTACT6_BYTES, CONTACT_BYTES, ID_BYTES, parse_address, parse_contacts
from p2pdns.dht.krpc.usual import parse_usual
from p2pdns.errors import FormatError


def may_hold_item(data: bytes) -> bool:
    """Return whether a datagram looks like a reply with a signed item, told without reading it."""
    return data.endswith(b"1:y1:re") and b"3:sig64:" in data


def parse(data: bytes) -> krpc.Message:
    """Return the message in `data`; `FormatError` with the reason, or `BadQuery` where an error is owed."""
    if len(data) > krpc.DATAGRAM_BYTES_MAX:
        raise FormatError("krpc-too-long", f"{len(data)} bytes, {krpc.DATAGRAM_BYTES_MAX} allowed")
    usual = parse_usual(data)
    return usual if usual is not None else parse_any(data)


def parse_any(data: bytes) -> krpc.Message:
    """As `parse`, for a datagram of any form and no more than the allowed length."""
    top = decode(data)
    if not isinstance(top, dict):
        raise FormatError("krpc-no-dictionary")
    transaction = top.get(b"t")
    if not isinstance(transaction, bytes) or not 1 <= len(transaction) <= krpc.TRANSACTION_BYTES_MAX:
        raise FormatError("krpc-transaction")
    network = top.get(b"nw")
    if network is not None and not (isinstance(network, bytes) and len(network) == krpc.NETWORK_BYTES):
        raise FormatError("krpc-network")
    kind = top.get(b"y")
    if kind == b"r":
        return _parse_reply(top, data, transaction, network)
    if kind == b"q":
        try:
            return _parse_query(top, data, transaction, network)
        except FormatError as error:
            if isinstance(error, krpc.BadQuery):
                raise
            raise krpc.BadQuery(error.reason, krpc.PROTOCOL_ERROR, transaction, network) from None
    if kind == b"e":
        return _parse_error(top, transaction, network)
    raise FormatError("krpc-kind")


def _parse_query(
    top: dict[bytes, Value], data: bytes, transaction: bytes, network: bytes | None
) -> krpc.RequestMessage:
    method = top.get(b"q")
    arguments = top.get(b"a")
    if not isinstance(method, bytes):
        raise FormatError("krpc-method")
    if not isinstance(arguments, dict):
        raise FormatError("krpc-arguments")
    want = arguments.get(b"want")
    return krpc.RequestMessage(
        transaction=transaction,
        node_id=_sized(arguments, b"id", ID_BYTES),
        request=_parse_request(method, arguments, data),
        read_only=top.get(b"ro") == 1,
        want=tuple(family for family in (b"n4", b"n6") if isinstance(want, list) and family in want),
        version=_advice(top, b"v"),
        network=network,
    )


def _parse_request(method: bytes, arguments: dict[bytes, Value], data: bytes) -> krpc.Request:
    match method:
        case b"ping":
            return krpc.Ping()
        case b"find_node":
            pad = _advice(arguments, b"pad")
            return krpc.FindNode(_sized(arguments, b"target", ID_BYTES), len(pad or b""))
        case b"get":
            token = _advice(arguments, b"token")
            pad = _advice(arguments, b"pad")
            target = _sized(arguments, b"target", ID_BYTES)
            token_of = _advice(arguments, b"token_of")
            if token_of is not None and len(token_of) != ID_BYTES:
                token_of = None
            return krpc.Get(target, _optional_integer(arguments, b"seq"), token, len(pad or b""), token_of)
        case b"put":
            return _parse_put(arguments, data)
        case b"get_peers":
            return krpc.GetPeers(_sized(arguments, b"info_hash", ID_BYTES))
        case b"announce_peer":
            return _parse_announce(arguments)
    for name in (b"target", b"info_hash"):
        target_found = arguments.get(name)
        if isinstance(target_found, bytes) and len(target_found) == ID_BYTES:
            return krpc.Unknown(method, target_found)
    return krpc.Unknown(method, None)


def _parse_put(arguments: dict[bytes, Value], data: bytes) -> krpc.Put:
    token = _token(arguments)
    if b"v" not in arguments:
        raise FormatError("krpc-no-v")
    value = _value_form(arguments[b"v"], data)
    # The item implies its target; one that the sender names is not read, because programs with one structure for all
    # arguments may write twenty zeros there. A token is good for the item's own target only, so nobody is told that
    # we keep something at a target for which he got no token.
    names_target = b"target" in arguments
    if b"k" not in arguments:
        return krpc.PutImmutable(value, token, names_target)
    seq = _optional_integer(arguments, b"seq")
    if seq is None:
        raise FormatError("krpc-no-seq")
    salt = arguments.get(b"salt", b"")
    if not isinstance(salt, bytes):
        raise FormatError("krpc-salt")
    return krpc.PutMutable(
        key=_sized(arguments, b"k", krpc.KEY_BYTES),
        seq=seq,
        value=value,
        signature=_sized(arguments, b"sig", krpc.SIGNATURE_BYTES),
        token=token,
        salt=salt,
        cas=_optional_integer(arguments, b"cas"),
        names_target=names_target,
    )


def _parse_announce(arguments: dict[bytes, Value]) -> krpc.AnnouncePeer:
    info_hash = _sized(arguments, b"info_hash", ID_BYTES)
    token = _token(arguments)
    implied = arguments.get(b"implied_port")
    if isinstance(implied, int) and implied:
        return krpc.AnnouncePeer(info_hash, None, token)
    port = arguments.get(b"port")
    if not isinstance(port, int) or not 0 < port <= 65_535:
        raise FormatError("krpc-port")
    return krpc.AnnouncePeer(info_hash, port, token)


def _parse_reply(top: dict[bytes, Value], data: bytes, transaction: bytes, network: bytes | None) -> krpc.Reply:
    values = top.get(b"r")
    if not isinstance(values, dict):
        raise FormatError("krpc-reply")
    nodes = values.get(b"nodes", b"")
    nodes6 = values.get(b"nodes6", b"")
    if not isinstance(nodes, bytes) or not isinstance(nodes6, bytes):
        raise FormatError("krpc-nodes")
    contacts, contacts6 = parse_contacts(nodes), parse_contacts(nodes6, ipv6=True)
    ip = _advice(top, b"ip")
    peers = values.get(b"values")
    return krpc.Reply(
        transaction=transaction,
        node_id=_sized(values, b"id", ID_BYTES),
        nodes=contacts,
        nodes6=contacts6,
        token=_token(values) if b"token" in values else None,
        key=_sized(values, b"k", krpc.KEY_BYTES) if b"k" in values else None,
        signature=_sized(values, b"sig", krpc.SIGNATURE_BYTES) if b"sig" in values else None,
        seq=_optional_integer(values, b"seq"),
        value=_value_form(values[b"v"], data) if b"v" in values else None,
        peers=None if peers is None else _parse_peers(peers),
        is_proof_wanted=values.get(b"prove") == 1,
        portless_count=len(nodes) // CONTACT_BYTES + len(nodes6) // CONTACT6_BYTES - len(contacts) - len(contacts6),
        ip=parse_address(ip) if ip else None,
        version=_advice(top, b"v"),
        network=network,
    )


def _parse_peers(values: Value) -> tuple[Address, ...]:
    if not isinstance(values, list):
        raise FormatError("krpc-values")
    found = [parse_address(value) if isinstance(value, bytes) else None for value in values]
    return tuple(address for address in found if address)


def _parse_error(top: dict[bytes, Value], transaction: bytes, network: bytes | None) -> krpc.Error:
    error = top.get(b"e")
    if not isinstance(error, list) or not error or not isinstance(error[0], int):
        raise FormatError("krpc-error")
    text = error[1] if len(error) > 1 else b""
    if not isinstance(text, bytes):
        raise FormatError("krpc-error")
    ip = _advice(top, b"ip")
    return krpc.Error(
        transaction=transaction,
        code=error[0],
        text=text[: krpc.ERROR_TEXT_BYTES_MAX].decode("utf-8", "replace"),
        ip=parse_address(ip) if ip else None,
        version=_advice(top, b"v"),
        network=network,
    )


def _sized(values: dict[bytes, Value], name: bytes, size: int) -> bytes:
    value = values.get(name)
    if not isinstance(value, bytes) or len(value) != size:
        raise FormatError(f"krpc-{_word(name)}")
    return value


def _token(values: dict[bytes, Value]) -> bytes:
    token = values.get(b"token")
    if not isinstance(token, bytes) or len(token) > krpc.TOKEN_BYTES_MAX:
        raise FormatError("krpc-token")
    return token


def _advice(values: dict[bytes, Value], name: bytes) -> bytes | None:
    value = values.get(name)
    return value if isinstance(value, bytes) else None


def _optional_integer(values: dict[bytes, Value], name: bytes) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value <= krpc.SEQ_MAX:
        raise FormatError(f"krpc-{_word(name)}")
    return value


def _value_form(value: Value, data: bytes) -> bytes:
    form = encode(value)
    # A byte string has one form. A dictionary with its keys out of order has been hashed and signed by its sender
    # in a form that no other reader will arrive at, so it is refused rather than filed under another target.
    if not isinstance(value, bytes) and form not in data:
        raise FormatError("krpc-v", "the value is not in canonical form")
    return form


def _word(name: bytes) -> str:
    return name.decode().replace("_", "-")
