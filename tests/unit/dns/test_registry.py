"""The numbers of the DNS, held against those of dnspython."""

from __future__ import annotations

import dns.edns
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from p2pdns.dns.registry import Class, Option, Rcode, Type


def test_every_number_has_the_name_that_it_has_elsewhere() -> None:
    for kind in Type:
        assert dns.rdatatype.from_text(kind.name) == kind
    for kind in Class:
        assert dns.rdataclass.from_text(kind.name) == kind
    for kind in Rcode:
        # Of 16 dnspython has another name, that of TSIG.
        assert kind is Rcode.BADVERS or dns.rcode.from_text(kind.name) == kind
    for kind in Option:
        assert dns.edns.OptionType[kind.name] == kind
