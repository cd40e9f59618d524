"""DNS messages as values: Question, RR, RRset, Message; wire form in and out, behind a wall round dnslib.

Guarantees: what `parse` returns is whole and uncompressed, so that it can be moved, compared and cached.
Does not know: what a zone is, what a client may ask, text forms of RDATA (dns/zonefile).
"""

from __future__ import annotations

from p2pdns.dns.message.rdata import (
    NAME_TYPES,
    names_in,
    rewrite_names,
    rewrite_wires,
    svcb_params,
    with_svcb_params,
)
from p2pdns.dns.message.values import (
    AA,
    AD,
    CD,
    CLASS_ANY,
    CLASS_CH,
    CLASS_IN,
    QR,
    RA,
    RD,
    RR,
    TC,
    Message,
    Question,
    Rcode,
    RRset,
    Type,
    records_of,
    type_of,
    type_text,
)
from p2pdns.dns.message.wire import MESSAGE_BYTES_MAX, RECORDS_MAX, STEPS_MAX, compose, compose_for_cache, parse

__all__ = [
    "AA",
    "AD",
    "CD",
    "CLASS_ANY",
    "CLASS_CH",
    "CLASS_IN",
    "MESSAGE_BYTES_MAX",
    "NAME_TYPES",
    "QR",
    "RA",
    "RD",
    "RECORDS_MAX",
    "RR",
    "STEPS_MAX",
    "TC",
    "Message",
    "Question",
    "RRset",
    "Rcode",
    "Type",
    "compose",
    "compose_for_cache",
    "names_in",
    "parse",
    "records_of",
    "rewrite_names",
    "rewrite_wires",
    "svcb_params",
    "type_of",
    "type_text",
    "with_svcb_params",
]
