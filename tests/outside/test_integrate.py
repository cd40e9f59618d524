"""docs/integrate.md holds for the programs that it was run with: each validates DNSSEC in front of a real p2pdns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from p2pdns.addresses import Address
from tests.live.served import KEY, WWW_ADDRESS, Served
from tests.outside.validating import ORDINARY, ORDINARY_ADDRESS, SignedRoot, in_front, signed_root

NAS_ADDRESS = "192.168.7.7"
ZONE = f"$TTL 300\nwww A {WWW_ADDRESS}\nnas A {NAS_ADDRESS}\n"
WWW, NAS = f"www.{KEY}.p2pdns.internal", f"nas.{KEY}.p2pdns.internal"
ASK_S_MAX = 20.0  # A guard only.


def _outside(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.outside)


# One of the family is the smoke; the others are run by `make outside`.
PROGRAMS = ["unbound", *map(_outside, ("BIND", "kresd", "dnsmasq", "PowerDNS Recursor", "dnsdist"))]


@dataclass(frozen=True)
class World:
    """A p2pdns that has a zone with a private address, and a root that validators trust."""

    served: Served
    root: SignedRoot


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield a running p2pdns and a signed root."""
    folder = tmp_path_factory.mktemp("integrate")
    config = folder / "p2pdns.toml"
    config.write_text(f'[zones]\nprivate_zones = ["{KEY}"]\n')
    with signed_root(folder / "root") as root:
        served = Served(folder / "state", extra={"P2PDNS_CONFIG": str(config)})
        try:
            served.publish_here(folder, ZONE)
            yield World(served, root)
        finally:
            assert served.end() == 0


def asked(address: Address, name: str) -> tuple[str, list[str], bool]:
    """Return what a client with AD set is told: the rcode, the data, and whether AD is set."""
    query = dns.message.make_query(name, "A", flags=dns.flags.RD | dns.flags.AD)
    host, port = address
    response = dns.query.udp(query, host, port=port, timeout=ASK_S_MAX)
    data = [str(rdata) for rrset in response.answer for rdata in rrset]
    return dns.rcode.to_text(response.rcode()), data, bool(response.flags & dns.flags.AD)


def deny_with_a_signature(address: Address) -> None:
    """Have it cache what the root denies: every name between those that the root has."""
    assert asked(address, "nobody-has-this")[0] == "NXDOMAIN"


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_blocks_of_a_section_lead_names_of_ours_to_us_and_no_others(
    world: World, tmp_path: Path, name: str
) -> None:
    with in_front(name, world.root, world.served.port, tmp_path / "front") as address:
        deny_with_a_signature(address)
        for suffix in ("p2pdns.internal", "p2p.alt"):
            assert asked(address, f"www.{KEY}.{suffix}")[:2] == ("NOERROR", [WWW_ADDRESS])
            assert asked(address, f"nas.{KEY}.{suffix}")[:2] == ("NOERROR", [NAS_ADDRESS])
            assert asked(address, f"absent.{KEY}.{suffix}")[:2] == ("NXDOMAIN", [])
        assert asked(address, ORDINARY)[:2] == ("NOERROR", [ORDINARY_ADDRESS])
        # The bare form is an ordinary name to a resolver that chooses by suffixes, as the page says.
        assert asked(address, f"www.{KEY}")[:2] == ("NXDOMAIN", [])


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_key_that_stands_as_one_more_suffix_works_in_its_bare_form(world: World, tmp_path: Path, name: str) -> None:
    with in_front(name, world.root, world.served.port, tmp_path / "front", suffix=KEY) as address:
        deny_with_a_signature(address)
        assert asked(address, f"www.{KEY}")[:2] == ("NOERROR", [WWW_ADDRESS])


@pytest.mark.parametrize("name", ["unbound", *map(_outside, ("BIND", "kresd", "dnsmasq", "PowerDNS Recursor"))])
def test_the_program_does_validate_ordinary_names(world: World, tmp_path: Path, name: str) -> None:
    with in_front(name, world.root, world.served.port, tmp_path / "front") as address:
        assert asked(address, ORDINARY) == ("NOERROR", [ORDINARY_ADDRESS], True)


# A program, the words whose lines are left out, the name that then fails, and how it does.
NEEDED = [
    ("unbound", ("domain-insecure",), WWW, "NXDOMAIN"),
    ("unbound", ("do-not-query-localhost",), WWW, "SERVFAIL"),
    ("unbound", ("private-domain",), NAS, "NOERROR"),
    _outside("BIND", ("validate-except",), WWW, "SERVFAIL"),
    _outside("dnsmasq", ("rebind-domain-ok",), NAS, "NOERROR"),
    _outside("PowerDNS Recursor", ("addNTA",), WWW, "SERVFAIL"),
]


@pytest.mark.parametrize(("name", "words", "asked_for", "rcode"), NEEDED)
def test_without_a_line_of_its_block_a_name_gets_no_answer(
    world: World, tmp_path: Path, name: str, words: tuple[str, ...], asked_for: str, rcode: str
) -> None:
    with in_front(name, world.root, world.served.port, tmp_path / "front", leave_out=words) as address:
        # Here the root of this test, which is on loopback too, may be out of reach as well.
        asked(address, "nobody-has-this")
        assert asked(address, asked_for)[:2] == (rcode, [])
