"""The datagrams that nodes of a named network write nearly always, each read by one or two regular expressions.

Guarantees: what is read here is what `reading` would read by the general decoder, and everything else is left to it:
every length in a pattern is a literal, so a datagram that matches has one meaning. Does not know what is wrong with a
datagram that does not match.
"""

from __future__ import annotations

import re

from p2pdns.dht import krpc
from p2pdns.dht.krpc.compact import CONTACT_BYTES, parse_address, parse_contacts

# With its last digits a number could be above `SEQ_MAX`.
_SEQ = rb"(?:3:seqi(0|[1-9][0-9]{0,17})e)?"
_ENVELOPE = rb"1:t(?:4:(.{4})|2:(.{2}))(?:1:v4:(.{4}))?"

_query = re.compile(
    rb"d1:ad2:id20:(.{20})(?:3:pad([1-9][0-9]{0,2}):(\x00+))?"
    + _SEQ
    + rb"(?:6:target20:(.{20}))?(?:5:token8:(.{8}))?(?:8:token_of20:(.{20}))?"
    + rb"e2:nw8:(.{8})1:q(?:4:(ping)|9:(find_node)|3:get)(2:roi1e)?"
    + _ENVELOPE
    + rb"1:y1:qe",
    re.DOTALL,
).fullmatch
_reply_head = re.compile(
    rb"d(?:2:ip6:(.{6}))?2:nw8:(.{8})1:rd2:id20:(.{20})(?:5:nodes([1-9][0-9]{1,2}):)?", re.DOTALL
).match
_reply_tail = re.compile(
    rb"(5:provei1e)?" + _SEQ + rb"(?:5:token8:(.{8}))?e" + _ENVELOPE + rb"1:y1:re", re.DOTALL
).fullmatch


def parse_usual(data: bytes) -> krpc.Message | None:
    """Return the message in a datagram of the usual form, None for any other datagram."""
    if data.startswith(b"d1:ad"):
        return _parse_query(data)
    return _parse_reply(data)


def _parse_query(data: bytes) -> krpc.RequestMessage | None:
    match = _query(data)
    if match is None:
        return None
    node_id, pad_size, pad, seq, target, token, token_of, network, ping, find, read_only, long, short, version = (
        match.groups()
    )
    pad_bytes = 0
    if pad_size is not None:
        pad_bytes = len(pad)
        if int(pad_size) != pad_bytes:
            return None
    request: krpc.Request
    if ping is not None:
        request = krpc.Ping()
    elif target is None:
        return None
    elif find is not None:
        request = krpc.FindNode(target, pad_bytes)
    else:
        request = krpc.Get(target, None if seq is None else int(seq), token, pad_bytes, token_of)
    return krpc.RequestMessage(
        transaction=long or short,
        node_id=node_id,
        request=request,
        read_only=read_only is not None,
        version=version,
        network=network,
    )


def _parse_reply(data: bytes) -> krpc.Reply | None:
    head = _reply_head(data)
    if head is None:
        return None
    ip, network, node_id, size_text = head.groups()
    at, size = head.end(), 0
    if size_text is not None:
        size = int(size_text)
        if size % CONTACT_BYTES:
            return None
        at += size
    tail = _reply_tail(data, at)
    if tail is None:
        return None
    contacts = parse_contacts(data[at - size : at])
    prove, seq, token, long, short, version = tail.groups()
    return krpc.Reply(
        transaction=long or short,
        node_id=node_id,
        nodes=contacts,
        token=token,
        seq=None if seq is None else int(seq),
        is_proof_wanted=prove is not None,
        portless_count=size // CONTACT_BYTES - len(contacts),
        ip=None if ip is None else parse_address(ip),
        version=version,
        network=network,
    )
