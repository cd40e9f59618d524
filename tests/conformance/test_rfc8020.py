"""RFC 8020: below a name that does not exist there is nothing, and above one that does there is no such absence."""

from __future__ import annotations

import pytest

from tests.conformance import wire
from tests.conformance.world import GONE_KEY, KEY, Client


@pytest.mark.parametrize("qname", ["empty", "_tcp"])
def test_a_name_above_an_existing_one_exists(client: Client, qname: str) -> None:
    assert client.ask(f"{qname}.{KEY}").rcode == wire.NOERROR


@pytest.mark.parametrize("qname", ["nosuch", "a.nosuch", "a.b.c.nosuch", "x.www", "y.empty"])
def test_a_name_that_is_missing_is_nxdomain_and_so_is_all_below_it(client: Client, qname: str) -> None:
    assert client.ask(f"{qname}.{KEY}").rcode == wire.NXDOMAIN


@pytest.mark.parametrize("qname", ["alt", "internal", "p2p.alt", "p2pdns.internal"])
def test_what_lies_above_our_names_exists(client: Client, qname: str) -> None:
    # NXDOMAIN here would let a client drop everything below it.
    response = client.ask(qname)
    assert (response.rcode, response.answer) == (wire.NOERROR, ())


def test_a_zone_that_cannot_be_found_is_a_failure_and_no_absence(client: Client) -> None:
    response = client.ask(f"www.{GONE_KEY}")
    assert response.rcode == wire.SERVFAIL


@pytest.mark.parametrize("label", ["n" * 52, "nobody"])
def test_a_name_that_no_key_can_have_is_nxdomain(client: Client, label: str) -> None:
    assert client.ask(f"www.{label}.p2p.alt").rcode == wire.NXDOMAIN
