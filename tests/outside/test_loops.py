"""A loop through a resolver of others is found, whichever it is."""

from __future__ import annotations

from pathlib import Path

import dns.rcode
import pytest

from p2pdns.addresses import read_address
from tests.live.front_process import wait_until
from tests.live.served import Served
from tests.live.test_no_leak import asked, counter, ede_texts
from tests.outside.forwarders import forwarding, free_port

OTHERS = [pytest.param(name, marks=pytest.mark.outside) for name in ("BIND", "kresd", "dnsmasq")]


@pytest.mark.parametrize("name", ["unbound", *OTHERS])
def test_a_loop_that_is_closed_while_we_run_is_found_and_told(tmp_path: Path, name: str) -> None:
    port = free_port()
    served = Served(tmp_path / "state", "--dns", "127.0.0.1:0", "--upstream", f"127.0.0.1:{port}")
    address = read_address(served.status()["dns_addresses"][0])
    with forwarding(name, address, tmp_path / name, port=port):
        # It ends although it goes in a circle, and the silence is why the circle is looked for.
        assert asked(address, "early.example").rcode() == dns.rcode.SERVFAIL
        wait_until(lambda: counter(served.control, "servers-dropped") == 1, "the loop is found")
        response = asked(address, "late.example")
        assert (response.rcode(), "this resolver itself" in ede_texts(response)) == (dns.rcode.REFUSED, True)
    assert served.end() == 0
