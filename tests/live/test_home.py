"""A daemon as the resolver of a home: answers of its own, block lists, and several addresses of both families."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import dns.rcode
import pytest

from p2pdns.addresses import read_address
from p2pdns.errors import Unavailable
from tests.live.front_process import GUARD_S
from tests.live.served import Served, assert_refused, p2pdns

LISTEN = ("127.0.0.1:0", "[::1]:0", "127.0.0.1:0")
CONFIG = """
[dns]
listen = ["127.0.0.1:0", "[::1]:0"]
local_data = [
  "router.lan. 600 IN A 192.168.1.1",
  "1.1.168.192.in-addr.arpa. PTR router.lan.",
  "www.router.lan CNAME router.lan",
]
block = ["{folder}/ads.txt"]
"""
ADS = "0.0.0.0 ads.example # a comment\nads example\n"


class Home:
    """A daemon, its configuration and its list."""

    def __init__(self, folder: Path) -> None:
        self.config, self.ads = folder / "p2pdns.toml", folder / "ads.txt"
        self.config.write_text(CONFIG.replace("{folder}", str(folder)))
        self.ads.write_text(ADS)
        words = [word for text in LISTEN for word in ("--dns", text)]
        self.daemon = Served(folder / "state", "-c", str(self.config), *words)

    def reload(self) -> dict[str, object]:
        """Have everything read again."""
        return self.daemon.control.call("reload")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Start it once."""
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    assert home.daemon.end() == 0


@pytest.fixture
def home(started: Home) -> Iterator[Home]:
    """Lend it to a test, and undo what that has changed: the next one may be any other."""
    config = started.config.read_text()
    yield started
    started.config.write_text(config)
    started.ads.write_text(ADS)
    started.reload()


def asked(address: str, name: str, rtype: str = "A", *, tcp: bool = False) -> dns.message.Message:
    """Return the reply of one address over one transport."""
    host, port = read_address(address)
    query = dns.message.make_query(name, rtype, use_edns=True)
    ask = dns.query.tcp if tcp else dns.query.udp
    return ask(query, host, timeout=GUARD_S, port=port)


def ede_codes(reply: dns.message.Message) -> list[int]:
    """Return the codes of the extended errors."""
    return [int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("number", range(len(LISTEN)))
def test_every_address_of_both_families_answers_over_both_transports(home: Home, number: int, tcp: bool) -> None:
    addresses = home.daemon.status()["dns_addresses"]
    assert [read_address(text)[0] for text in addresses] == ["127.0.0.1", "::1", "127.0.0.1"]
    assert len(set(addresses)) == len(LISTEN)
    reply = asked(addresses[number], "router.lan", tcp=tcp)
    assert str(reply.answer[0][0]) == "192.168.1.1"
    assert asked(addresses[number], "ads.example", tcp=tcp).rcode() == dns.rcode.NXDOMAIN


def test_local_data_is_answered_with_its_aliases_and_reverse_names(home: Home) -> None:
    address = home.daemon.status()["dns_addresses"][0]
    alias = asked(address, "www.Router.lan")
    assert [str(rrset[0]).lower() for rrset in alias.answer] == ["router.lan.", "192.168.1.1"]
    assert alias.question[0].name.to_text() == "www.Router.lan."
    assert str(asked(address, "1.1.168.192.in-addr.arpa", "PTR").answer[0][0]) == "router.lan."
    nothing = asked(address, "router.lan", "AAAA")
    assert (nothing.rcode(), nothing.answer, len(nothing.authority)) == (dns.rcode.NOERROR, [], 1)


def test_a_list_is_read_again_with_reload_and_its_faults_are_in_status(home: Home) -> None:
    address = home.daemon.status()["dns_addresses"][0]
    assert ede_codes(asked(address, "x.ads.example")) == [15]
    # No upstream: what is not blocked is refused.
    assert asked(address, "tracker.example").rcode() == dns.rcode.REFUSED
    status = home.daemon.status()
    assert status["blocked_names"] == 1
    assert status["warnings"] == [f"{home.ads}:2: neither a name alone nor an address and names"]
    home.ads.write_text("tracker.example\n")
    assert home.reload()["changed"] == ["dns.block"]
    assert ede_codes(asked(address, "tracker.example")) == [15]
    assert asked(address, "x.ads.example").rcode() == dns.rcode.REFUSED
    assert home.daemon.status()["warnings"] == []
    assert home.reload()["changed"] == []


def test_a_list_that_is_gone_at_a_reload_stays_in_force_and_is_said(home: Home) -> None:
    address = home.daemon.status()["dns_addresses"][0]
    home.ads.write_text("tracker.example\n")
    home.reload()
    home.ads.unlink()
    with pytest.raises(Unavailable, match="no such file"):
        home.reload()
    assert ede_codes(asked(address, "tracker.example")) == [15]


def test_a_daemon_starts_without_a_list_it_has_a_copy_of_and_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.daemon.end() == 0
    home.ads.unlink()
    again = Served(home.daemon.state, "-c", str(home.config))
    status = again.status()
    assert status["blocked_names"] == 1
    assert status["warnings"] == [f"[dns] block: {home.ads}: no such file; its last good copy is used"]
    assert ede_codes(asked(status["dns_addresses"][0], "x.ads.example")) == [15]
    assert again.end() == 0


def test_a_mistake_in_the_file_is_said_where_the_reload_was_asked_for(home: Home) -> None:
    before = home.config.read_text()
    home.config.write_text(before + 'block_answer = "sometimes"\n')
    with pytest.raises(Unavailable, match=rf"{home.config.name}:\d+: .*block_answer"):
        home.reload()
    # What is in force is what was; and the next file is judged for itself.
    home.config.write_text(before)
    assert home.reload()["changed"] == []


def test_zeros_are_given_as_soon_as_the_configuration_says_so(home: Home) -> None:
    address = home.daemon.status()["dns_addresses"][0]
    home.config.write_text(home.config.read_text() + 'block_answer = "zero"\n')
    assert home.reload()["changed"] == ["dns.block_answer"]
    assert str(asked(address, "ads.example").answer[0][0]) == "0.0.0.0"
    assert str(asked(address, "ads.example", "AAAA").answer[0][0]) == "::"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('local_data = ["router.lan A 192.168.1.300"]', r"\[dns\] local_data, line 1: .*"),
    ],
)
def test_a_daemon_does_not_start_without_what_it_is_told_to_read(tmp_path: Path, line: str, error: str) -> None:
    config = tmp_path / "p2pdns.toml"
    config.write_text(f"[dns]\n{line}\n")
    words = ("--network", "home", "--dht", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--upstream", "none")
    done = p2pdns("serve", "-c", config, *words, "--state", tmp_path / "state")
    assert_refused(done, error, 2)


def test_a_zone_of_the_network_is_asked_of_its_resolver_as_soon_as_the_configuration_says_so(home: Home) -> None:
    """This daemon has no upstream, so that what is passed on is REFUSED."""
    address = home.daemon.status()["dns_addresses"][0]
    names = {"nas.home.arpa": dns.rcode.NXDOMAIN, "use-application-dns.net": dns.rcode.REFUSED}
    assert {name: asked(address, name).rcode() for name in names} == names
    before = home.config.read_text()
    home.config.write_text(before + 'forward_local = ["home.arpa"]\nbrowser_doh = "keep-off"\n')
    assert home.reload()["changed"] == ["dns.forward_local", "dns.browser_doh"]
    names = {"nas.home.arpa": dns.rcode.REFUSED, "use-application-dns.net": dns.rcode.NXDOMAIN}
    assert {name: asked(address, name).rcode() for name in names} == names
    home.config.write_text(before + 'forward_local = ["localhost"]\n')
    with pytest.raises(Unavailable, match="answered by this machine alone"):
        home.reload()
    told = r'.*p2pdns.toml: \[dns\] forward_local: "localhost" is answered by this machine alone'
    assert_refused(p2pdns("check", home.config), told, code=2)
