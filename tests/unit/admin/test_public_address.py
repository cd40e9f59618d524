"""The public address between daemon and command: what is told, and what is taken for one."""

from __future__ import annotations

from typing import Any, cast

import pytest

from p2pdns.admin.control import ControlClient
from p2pdns.admin.public_address import Reported, ask_daemon, reports_of
from p2pdns.dht.node.values import NodeSettings, PublicReport
from p2pdns.net.endpoint import Endpoint

V4, V6 = "93.184.216.34", "2a00:1450:4001:81b::200e"


class Seen:
    """An endpoint whose contacts report an address."""

    def __init__(self, report: PublicReport, bind_host: str) -> None:
        self.public_report = report
        self.settings = NodeSettings(bind_host=bind_host)

    @property
    def node(self) -> Seen:
        """Itself."""
        return self


class Daemon:
    """A control client whose daemon has one reply."""

    def __init__(self, reply: dict[str, Any]) -> None:
        self._reply = reply

    def call(self, verb: str) -> dict[str, Any]:
        """Return the reply."""
        assert verb == "public-address"
        return self._reply


def asked(*seen: Seen, **reply: Any) -> dict[str, Reported]:
    """Return what a command reads of the reply of a daemon with these endpoints."""
    found = {"ok": True, **reports_of(cast(list[Endpoint], seen)), **reply}
    return ask_daemon(cast(ControlClient, Daemon(found)))


def test_each_family_has_the_address_that_its_contacts_report() -> None:
    found = asked(Seen(PublicReport(V4, 3, 4), "0.0.0.0"), Seen(PublicReport(V6, 5, 5), "::"))
    assert found == {"ipv4": Reported(V4), "ipv6": Reported(V6)}


@pytest.mark.parametrize(
    ("report", "known"),
    [
        (PublicReport(V4, 2, 2), f"2 of 3 prefixes report {V4} so far"),
        (PublicReport(V4, 3, 7), f"only 3 of 7 prefixes report {V4}, and more than half must"),
        (PublicReport(), "no contact in another network has reported one so far"),
    ],
)
def test_an_address_that_too_few_report_is_said_to_be_one(report: PublicReport, known: str) -> None:
    assert asked(Seen(report, "0.0.0.0")) == {
        "ipv4": Reported(None, known),
        "ipv6": Reported(None, "the daemon has no IPv6 node"),
    }


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "192.168.1.2", "127.0.0.1", "100.64.0.9", "192.0.2.1", V6, "bad", "", None, 7]
)
def test_no_other_address_is_taken_for_a_public_one(host: object) -> None:
    # A daemon that says so is broken; an item with such an address would lead everybody astray.
    found = asked(ipv4={"address": host, "host": host, "count": 9, "prefixes": 9})
    assert found["ipv4"] == Reported(None, "no contact in another network has reported one so far")
