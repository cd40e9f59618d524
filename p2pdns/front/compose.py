"""Every response of this front: a kept answer, or a short message of our own, fitted to one client.

Guarantees: a response repeats the ID, the question in the client's letter case, RD and CD; RA is set when the question
was understood, AA only without RD, AD only when the query asks for it, the answer has earned it and the client is
trusted; TTLs count down from the time when the answer was made; a response has an OPT if and only if the query had one,
with DO echoed, the options that the gate owes the client, and explanations (EDE); a response never has more bytes than
the client takes: one that does not fit has TC, the question and the OPT. Does not know where an answer comes from.
"""

from __future__ import annotations

from p2pdns.dns.labels import HEADER_BYTES
from p2pdns.dns.life import STALE_TTL_S
from p2pdns.dns.registry import OPCODE_MASK, RCODE_MASK, Ede, Explanations, Flag, Option, Rcode, Type
from p2pdns.front.gate import ClientQuery, Told
from p2pdns.link import Answer, clipped_text

EDE_BYTES_MAX = 400  # All explanations together: they alone must not push an answer out of a 1232-byte datagram.
_STALE, _STALE_NXDOMAIN = (int(Ede.STALE_ANSWER), ""), (int(Ede.STALE_NXDOMAIN_ANSWER), "")
_OPT_BYTES = 11
# Every response passes these (the registry says why they are bound here).
_QR, _AA, _TC, _RD, _RA, _AD, _CD = (int(flag) for flag in Flag)
_NXDOMAIN, _EDE = int(Rcode.NXDOMAIN), Option.EDE.to_bytes(2, "big")
_TYPE_OPT = Type.OPT.to_bytes(2, "big")


def compose_told(told: Told, *, udp_size: int) -> bytes:
    """Return a response that needs no look-up: an error, one TXT RR (TTL 0, class of the question), or TC alone."""
    asked, rcode, answer = told.asked, told.rcode, b""
    if told.texts:
        rdata = b"".join(bytes([len(text)]) + text for text in told.texts)
        answer = b"\xc0\x0c" + Type.TXT.to_bytes(2, "big") + asked.question[-2:] + bytes(4)
        answer += len(rdata).to_bytes(2, "big") + rdata
    flags = _QR | (asked.flags & (OPCODE_MASK | _RD | _CD)) | (rcode & RCODE_MASK)
    # A query that was not understood gets no statement about recursion; other resolvers do the same.
    flags |= 0 if rcode in (Rcode.FORMERR, Rcode.NOTIMP) else _RA
    flags |= _TC if told.is_cut else 0
    head = asked.id + flags.to_bytes(2, "big")
    counts = (b"\x00\x01" if asked.question else b"\x00\x00") + bytes([0, bool(told.texts)]) + bytes(4)
    return _fitted(head + counts + asked.question + answer, asked, rcode >> 4, told.ede, udp_size)


def compose_answer(
    asked: ClientQuery, answer: Answer, now: float, *, is_stale: bool, udp_size: int, ede: Explanations = ()
) -> bytes:
    """Return a kept answer as the response to one query.

    `is_stale`: it is past its expiry, so its TTLs are 30 at most, with EDE 3 and no AD. `ede` is added to its own.
    """
    message = bytearray(answer.message)
    message[0:2] = asked.id
    kept = int.from_bytes(message[2:4], "big") & RCODE_MASK
    flags = _QR | _RA | kept | (asked.flags & (_RD | _CD))
    # A query without RD asks us as the server of a zone; to all others we are a resolver, which never sets AA.
    if not (asked.flags & _RD or is_stale):
        flags |= int.from_bytes(message[2:4], "big") & _AA
    wants_ad = asked.dnssec_ok or asked.flags & _AD
    if wants_ad and asked.client.is_trusted and answer.ad_eligible and not (is_stale or answer.provisional):
        flags |= _AD
    message[2:4] = flags.to_bytes(2, "big")
    # Owners that equal the question point to offset 12, so this one copy gives them the client's case as well.
    message[HEADER_BYTES : HEADER_BYTES + len(asked.question)] = asked.question
    age = max(0, int(now - answer.made_at))
    for offset in answer.ttl_offsets:
        ttl = int.from_bytes(message[offset : offset + 4], "big") - age
        if is_stale:
            ttl = min(ttl, STALE_TTL_S) if ttl > 0 else STALE_TTL_S
        message[offset : offset + 4] = max(0, ttl).to_bytes(4, "big")
    told = (*answer.ede, *ede)
    if is_stale:
        stale = _STALE_NXDOMAIN if kept & RCODE_MASK == _NXDOMAIN else _STALE
        # The engine may have set this EDE already, with a reason.
        told = told if any(code == stale[0] for code, _ in told) else (stale, *told)
    return _fitted(bytes(message), asked, 0, told, udp_size, answer.ttl_offsets)


def _fitted(
    message: bytes, asked: ClientQuery, rcode_high: int, ede: Explanations, udp_size: int, offsets: tuple[int, ...] = ()
) -> bytes:
    """Return a message with its OPT. If too long, it loses EDE texts first, then additional records, then all."""
    room = asked.size_max - len(asked.options) - (_OPT_BYTES if asked.has_opt else 0)
    told = b"".join(_ede_option(code, clipped_text(text, 255)) for code, text in ede) if asked.has_opt else b""
    if told and (len(told) > EDE_BYTES_MAX or len(message) + len(told) > room):
        # The EDE codes say most of it; the answer matters more than the texts.
        told = b"".join(_ede_option(code, b"") for code, _ in ede)
    if len(message) + len(told) > room:
        message = _without_additional(message, asked, offsets)
    if len(message) + len(told) > room:
        message = _truncated(message, asked)
    return _with_opt(message, asked, rcode_high, told, udp_size) if asked.has_opt else message


def _with_opt(message: bytes, asked: ClientQuery, rcode_high: int, told: bytes, udp_size: int) -> bytes:
    options = asked.options + told
    opt = b"\x00" + _TYPE_OPT + udp_size.to_bytes(2, "big")
    opt += bytes([rcode_high, 0, 0x80 if asked.dnssec_ok else 0, 0]) + len(options).to_bytes(2, "big") + options
    additional = int.from_bytes(message[10:12], "big") + 1
    return b"".join((message[:10], additional.to_bytes(2, "big"), message[12:], opt))


def _ede_option(code: int, text: bytes) -> bytes:
    return _EDE + (2 + len(text)).to_bytes(2, "big") + code.to_bytes(2, "big") + text


def _without_additional(message: bytes, asked: ClientQuery, offsets: tuple[int, ...]) -> bytes:
    # RFC 2181 §9: additional records are left out silently; TC is for records that the question asked for.
    answers, authorities, additionals = (int.from_bytes(message[i : i + 2], "big") for i in (6, 8, 10))
    count = answers + authorities
    if not additionals or len(offsets) != count + additionals:
        return message
    end = HEADER_BYTES + len(asked.question)
    if count:
        # The TTL of a record is followed by the length of its RDATA and the RDATA.
        at = offsets[count - 1] + 4
        end = at + 2 + int.from_bytes(message[at : at + 2], "big")
    return message[:10] + bytes(2) + message[HEADER_BYTES:end]


def _truncated(message: bytes, asked: ClientQuery) -> bytes:
    # RFC 2181 §9: the client ignores a cut response and asks over TCP, so only the question is worth sending.
    flags = int.from_bytes(message[2:4], "big") | _TC
    counts = (b"\x00\x01" if asked.question else b"\x00\x00") + bytes(6)
    return message[:2] + flags.to_bytes(2, "big") + counts + asked.question
