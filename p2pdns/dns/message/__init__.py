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
    RR,
    Message,
    Question,
    RRset,
    records_of,
    type_of,
    type_text,
)
from p2pdns.dns.message.wire import RECORDS_MAX, STEPS_MAX, compose, compose_for_cache, parse

__all__ = [
    "NAME_TYPES",
    "RECORDS_MAX",
    "RR",
    "STEPS_MAX",
    "Message",
    "Question",
    "RRset",
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
