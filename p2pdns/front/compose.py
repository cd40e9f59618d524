"""Every response this front sends: a kept answer, or a few words of our own, fitted to one client.

Guarantees: the ID, the question in the client's letter case, RD and CD are repeated; RA is set where a question was
understood, AA only without RD, AD only where it was asked for, earned and the client is trusted; TTLs are counted
down from when the answer was made; OPT if and only if the query had one, with DO echoed, the options that the gate
owes the client, and explanations (EDE); never more bytes than the client takes, with TC, question and OPT kept when
the answer does not fit. Does not know where an answer comes from.
"""

from __future__ import annotations

from p2pdns.front.gate import (
    FLAG_AA,
    FLAG_AD,
    FLAG_CD,
    FLAG_OPCODE,
    FLAG_QR,
    FLAG_RA,
    FLAG_RD,
    FLAG_TC,
    FORMERR,
    NOTIMP,
    TYPE_OPT,
    TYPE_TXT,
    Asked,
    Ede,
)
from p2pdns.link import HEADER_BYTES, Answer, clipped_text

STALE_TTL_S = 30  # RFC 8767 §4
OPTION_EDE = 15
RCODE_MASK = 0x000F
EDE_BYTES_MAX = 400  # All explanations together; they must not push an answer out of a 1232-byte datagram alone.
EDE_STALE, EDE_STALE_NXDOMAIN = (3, ""), (19, "")
RCODE_NXDOMAIN = 3
_OPT_BYTES = 11


def compose_told(
    asked: Asked, rcode: int, *, ede: Ede = (), texts: tuple[bytes, ...] = (), is_cut: bool = False, udp_size: int
) -> bytes:
    """Return a response without a look-up: an error, one TXT RR (TTL 0, class of the question), or TC alone."""
    answer = b""
    if texts:
        rdata = b"".join(bytes([len(text)]) + text for text in texts)
        answer = b"\xc0\x0c" + TYPE_TXT.to_bytes(2, "big") + asked.question[-2:] + bytes(4)
        answer += len(rdata).to_bytes(2, "big") + rdata
    flags = FLAG_QR | (asked.flags & (FLAG_OPCODE | FLAG_RD | FLAG_CD)) | (rcode & RCODE_MASK)
    # What was not understood was no question, and says nothing of recursion; other resolvers do the same.
    flags |= 0 if rcode in (FORMERR, NOTIMP) else FLAG_RA
    flags |= FLAG_TC if is_cut else 0
    head = asked.id + flags.to_bytes(2, "big")
    counts = (b"\x00\x01" if asked.question else b"\x00\x00") + bytes([0, bool(texts)]) + bytes(4)
    return _fitted(head + counts + asked.question + answer, asked, rcode >> 4, ede, udp_size)


def compose_answer(
    asked: Asked, answer: Answer, now: float, *, is_stale: bool, is_trusted: bool, udp_size: int, ede: Ede = ()
) -> bytes:
    """Return a kept answer as the response to one query.

    `is_stale` serves it past its time: TTL 30 at most, EDE 3, no AD. `ede` is added to the answer's own.
    """
    message = bytearray(answer.message)
    message[0:2] = asked.id
    kept = int.from_bytes(message[2:4], "big") & RCODE_MASK
    flags = FLAG_QR | FLAG_RA | kept | (asked.flags & (FLAG_RD | FLAG_CD))
    # AA is for who asks as a resolver asks the server of a zone; to all others this is a resolver.
    if not (asked.flags & FLAG_RD or is_stale):
        flags |= int.from_bytes(message[2:4], "big") & FLAG_AA
    wants_ad = asked.dnssec_ok or asked.flags & FLAG_AD
    if wants_ad and is_trusted and answer.ad_eligible and not (is_stale or answer.provisional):
        flags |= FLAG_AD
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
        stale = EDE_STALE_NXDOMAIN if kept & RCODE_MASK == RCODE_NXDOMAIN else EDE_STALE
        # The engine may have said so already, with its reason.
        told = told if any(code == stale[0] for code, _ in told) else (stale, *told)
    return _fitted(bytes(message), asked, 0, told, udp_size, answer.ttl_offsets)


def _fitted(
    message: bytes, asked: Asked, rcode_high: int, ede: Ede, udp_size: int, offsets: tuple[int, ...] = ()
) -> bytes:
    """Return a message with its OPT, within the size of the client: first without what it can do without, then cut."""
    room = asked.size_max - len(asked.options) - (_OPT_BYTES if asked.has_opt else 0)
    told = b"".join(_ede_option(code, clipped_text(text, 255)) for code, text in ede) if asked.has_opt else b""
    if told and (len(told) > EDE_BYTES_MAX or len(message) + len(told) > room):
        # The codes say most of it; an answer is worth more than its explanation.
        told = b"".join(_ede_option(code, b"") for code, _ in ede)
    if len(message) + len(told) > room:
        message = _without_additional(message, asked, offsets)
    if len(message) + len(told) > room:
        message = _truncated(message, asked)
    return _with_opt(message, asked, rcode_high, told, udp_size) if asked.has_opt else message


def _with_opt(message: bytes, asked: Asked, rcode_high: int, told: bytes, udp_size: int) -> bytes:
    options = asked.options + told
    opt = b"\x00" + TYPE_OPT.to_bytes(2, "big") + udp_size.to_bytes(2, "big")
    opt += bytes([rcode_high, 0, 0x80 if asked.dnssec_ok else 0, 0]) + len(options).to_bytes(2, "big") + options
    additional = int.from_bytes(message[10:12], "big") + 1
    return b"".join((message[:10], additional.to_bytes(2, "big"), message[12:], opt))


def _ede_option(code: int, text: bytes) -> bytes:
    return OPTION_EDE.to_bytes(2, "big") + (2 + len(text)).to_bytes(2, "big") + code.to_bytes(2, "big") + text


def _without_additional(message: bytes, asked: Asked, offsets: tuple[int, ...]) -> bytes:
    # RFC 2181 §9: what was added unasked is left out without a word, and TC is for what was asked.
    answers, authorities, additionals = (int.from_bytes(message[i : i + 2], "big") for i in (6, 8, 10))
    count = answers + authorities
    if not additionals or len(offsets) != count + additionals:
        return message
    end = HEADER_BYTES + len(asked.question)
    if count:
        # Behind the TTL of a record stand the length of its data and the data.
        at = offsets[count - 1] + 4
        end = at + 2 + int.from_bytes(message[at : at + 2], "big")
    return message[:10] + bytes(2) + message[HEADER_BYTES:end]


def _truncated(message: bytes, asked: Asked) -> bytes:
    # RFC 2181 §9: a client retries over TCP and ignores the rest, so nothing but the question is worth sending.
    flags = int.from_bytes(message[2:4], "big") | FLAG_TC
    counts = (b"\x00\x01" if asked.question else b"\x00\x00") + bytes(6)
    return message[:2] + flags.to_bytes(2, "big") + counts + asked.question
