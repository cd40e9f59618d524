"""The numbers of the DNS, held against those of dnspython."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import dns.edns
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest

from p2pdns.dns.registry import Class, Option, Rcode, Type


@pytest.mark.parametrize(
    ("ours", "number_of"),
    [
        (Type, dns.rdatatype.from_text),
        (Class, dns.rdataclass.from_text),
        (Rcode, dns.rcode.from_text),
        (Option, lambda name: dns.edns.OptionType[name]),
    ],
)
def test_every_number_has_the_name_that_it_has_elsewhere(ours: type[IntEnum], number_of: Callable[[str], int]) -> None:
    # Two rcodes have the number 16; dnspython reads the name of the other one only.
    # Types for private use are ours alone.
    names = [one.name for one in ours if one is not Rcode.BADVERS and not (ours is Type and 65_280 <= one < 65_535)]
    assert {name: int(ours[name]) for name in names} == {name: int(number_of(name)) for name in names}
