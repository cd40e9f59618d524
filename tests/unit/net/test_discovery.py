"""How a node joins: by what it saved and what it was told, without DNS, and with a hint when it has neither."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from zeroconf import ServiceStateChange

from p2pdns import log
from p2pdns.addresses import Address, AddressClass, class_of, write_address
from p2pdns.config import DhtTable
from p2pdns.dht.routing.contact import SavedContact
from p2pdns.errors import ConfigError
from p2pdns.net.discovery import Discovery
from p2pdns.net.discovery.lan import PEERS_MAX, REQUESTS_MAX, Lan, own_address, tag_of
from p2pdns.net.discovery.mainline import BUILT_IN
from p2pdns.state.store import Store
from tests.waiting import at_rest

CONTACT = SavedContact(b"a" * 20, ("127.0.0.1", 7001), 3.5, 60.0)


class FakeEndpoint:
    """An endpoint that notes by whom it joins, and joins when it is told to."""

    def __init__(self, contact_count: int | None, after: Address | None = None) -> None:
        self.asked: list[tuple[Address, ...]] = []
        self.address: Address = ("127.0.0.1", 7_000)
        self._contact_count = contact_count
        self._after = after
        self._joins: list[asyncio.Future[int]] = []

    def bootstrap(self, addresses: Sequence[Address] = ()) -> asyncio.Future[int]:
        """Join."""
        self.asked.append(tuple(addresses))
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._joins.append(future)
        if self._contact_count is not None and (self._after is None or self._after in addresses):
            for join in self._joins:
                if not join.done():
                    join.set_result(self._contact_count)
        return future


def discovery_of(
    network: str, bootstrap: Sequence[str], state: Store, *, bind_host: str = "127.0.0.1", lan: str | bool = "auto"
) -> Discovery:
    """Return the ways of a node that is bound to a host."""
    listen = write_address((bind_host, 7_000))
    return Discovery(DhtTable(network=network, listen=listen, bootstrap=tuple(bootstrap), lan_discovery=lan), state)


def join(discovery: Discovery, contact_count: int | None, timeout_s: float = 30.0) -> FakeEndpoint:
    """Join by an endpoint with so many contacts; None for one that never hears from anybody."""
    endpoint = FakeEndpoint(contact_count)

    async def story() -> None:
        await discovery.join(endpoint, timeout_s=timeout_s)

    asyncio.run(story())
    return endpoint


def test_listed_contacts_are_joined_by_as_addresses() -> None:
    state = Store(None)
    discovery = discovery_of("demo", ["127.0.0.1:7000", "[::1]:7000"], state)
    assert join(discovery, 1).asked == [(("127.0.0.1", 7000), ("::1", 7000))]
    assert discovery.hint is None
    state.close()


def test_a_name_in_the_list_is_refused_because_a_boot_needs_no_dns() -> None:
    state = Store(None)
    with pytest.raises(ConfigError, match="is not an address"):
        discovery_of("demo", ["router.example.org:6881"], state)
    state.close()


def test_saved_contacts_come_back_for_their_network_only() -> None:
    state = Store(None)
    asyncio.run(discovery_of("demo", [], state).save([CONTACT]))
    assert discovery_of("demo", [], state).saved == (CONTACT,)
    assert discovery_of("demo", [], state).hint is None
    other = discovery_of("other", [], state)
    assert other.saved == ()
    assert "--bootstrap" in str(other.hint)
    state.close()


def test_an_empty_table_does_not_wipe_out_what_was_saved() -> None:
    state = Store(None)
    asyncio.run(discovery_of("demo", [], state).save([CONTACT]))
    asyncio.run(discovery_of("demo", [], state).save([]))
    assert state.load_contacts("demo") == [CONTACT]
    state.close()


def test_without_anybody_to_ask_nothing_is_asked_and_a_hint_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    state = Store(None)
    # A contact count of None would hang for the whole timeout if it were waited for.
    assert join(discovery_of("demo", [], state), None).asked == [()]
    said = capsys.readouterr()
    assert "0 contacts; name a node of this network with --bootstrap ADDR:PORT" in said.out + said.err
    state.close()


def test_silent_contacts_delay_a_start_by_the_time_limit_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    state = Store(None)
    join(discovery_of("demo", ["127.0.0.1:7000"], state), None, timeout_s=0.01)
    said = capsys.readouterr()
    assert "0 contacts so far" in said.out + said.err
    assert "1 listed, 0 saved" in said.out + said.err
    state.close()


# The public network


def test_built_in_addresses_are_public_literals_and_no_names() -> None:
    assert len({host for host, _ in BUILT_IN}) >= 3
    assert {class_of(host) for host, _ in BUILT_IN} == {AddressClass.PUBLIC}
    assert all(0 < port < 65536 for _, port in BUILT_IN)
    assert {":" in host for host, _ in BUILT_IN} == {False, True}


@pytest.mark.parametrize(
    ("network", "host", "is_built_in"),
    [
        ("mainline", "0.0.0.0", True),
        ("mainline", "::", True),
        ("mainline", "127.0.0.1", False),
        ("mainline", "::1", False),
        ("unnamed", "0.0.0.0", False),
        ("demo", "0.0.0.0", False),
    ],
)
def test_built_in_addresses_are_for_the_public_network_alone(network: str, host: str, is_built_in: bool) -> None:
    state = Store(None)
    discovery = discovery_of(network, [], state, bind_host=host)
    assert bool(discovery.built_in) is is_built_in
    assert (discovery.hint is None) is is_built_in
    state.close()


def test_built_in_addresses_are_asked_when_nobody_else_answers() -> None:
    state = Store(None)
    discovery = discovery_of("mainline", ["127.0.0.1:7000"], state, bind_host="0.0.0.0", lan=False)
    endpoint = FakeEndpoint(5, after=BUILT_IN[0])
    asyncio.run(discovery.join(endpoint, timeout_s=0.01))
    assert endpoint.asked == [(("127.0.0.1", 7000),), BUILT_IN]
    state.close()


def test_built_in_addresses_are_not_asked_when_somebody_answers() -> None:
    state = Store(None)
    discovery = discovery_of("mainline", ["127.0.0.1:7000"], state, bind_host="0.0.0.0", lan=False)
    endpoint = FakeEndpoint(5)
    asyncio.run(discovery.join(endpoint, timeout_s=30.0))
    assert endpoint.asked == [(("127.0.0.1", 7000),)]
    state.close()


def test_a_first_start_asks_the_built_in_addresses_at_once() -> None:
    state = Store(None)
    discovery = discovery_of("mainline", [], state, bind_host="0.0.0.0", lan=False)
    endpoint = FakeEndpoint(5, after=BUILT_IN[0])
    asyncio.run(discovery.join(endpoint, timeout_s=30.0))
    assert endpoint.asked == [(), BUILT_IN]
    state.close()


# The local network


@pytest.mark.parametrize(
    ("lan", "host", "has_lan"),
    [
        ("auto", "0.0.0.0", True),
        ("auto", "192.168.1.7", True),
        ("auto", "127.0.0.1", False),
        ("auto", "::1", False),
        (True, "127.0.0.1", True),
        (False, "0.0.0.0", False),
    ],
)
def test_neighbours_are_looked_for_unless_bound_to_loopback_or_told_not_to(
    lan: str | bool, host: str, has_lan: bool
) -> None:
    state = Store(None)
    assert discovery_of("demo", [], state, bind_host=host, lan=lan).has_lan is has_lan
    state.close()


def heard(host: str, hosts: list[str], port: int = 7001, tag: bytes | None = None) -> list[Address]:
    """Return what a node at `host` makes of an announcement."""
    found: list[Address] = []
    lan = Lan("demo", (host, 7000), found.append)
    for _ in range(2):
        lan.heard(hosts, port, tag_of("demo") if tag is None else tag)
    return found


@pytest.mark.parametrize(
    ("host", "told", "believed"),
    [
        ("0.0.0.0", "192.168.1.9", True),
        ("192.168.1.7", "10.0.0.9", True),
        ("0.0.0.0", "169.254.3.4", True),
        ("0.0.0.0", "8.8.8.8", False),
        ("0.0.0.0", "127.0.0.1", False),
        ("0.0.0.0", "192.0.2.1", False),
        ("0.0.0.0", "0.0.0.0", False),
        ("0.0.0.0", "fd00::1", False),
        ("0.0.0.0", "nonsense", False),
        ("::", "fd00::1", True),
        ("::", "192.168.1.9", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.168.1.9", False),
    ],
)
def test_an_announcement_is_believed_in_its_own_space_only(host: str, told: str, believed: bool) -> None:
    assert heard(host, [told]) == ([(told, 7001)] if believed else [])


def test_announcements_of_other_networks_and_impossible_ports_are_nobodys() -> None:
    assert heard("0.0.0.0", ["192.168.1.9"], tag=tag_of("other")) == []
    assert heard("0.0.0.0", ["192.168.1.9"], tag=b"") == []
    assert heard("0.0.0.0", ["192.168.1.9"], port=0) == []


def test_a_wire_full_of_announcements_is_asked_up_to_a_bound() -> None:
    assert len(heard("0.0.0.0", [f"10.0.0.{n}" for n in range(200)])) == PEERS_MAX


@pytest.mark.parametrize(("silent", "asked", "found"), [(0, 1, 1), (2, 3, 1), (9, REQUESTS_MAX, 0)])
def test_a_neighbour_that_is_slow_to_say_its_address_is_asked_a_few_times(
    monkeypatch: pytest.MonkeyPatch, silent: int, asked: int, found: int
) -> None:
    """Its name is told of once; on a busy machine the first answer may come too late."""
    requests: list[float] = []

    class SlowInfo:
        port = 7001

        def __init__(self, service_type: str, name: str) -> None:
            assert name == "a neighbour"
            self.properties = {b"nw": tag_of("demo")}

        async def async_request(self, zeroconf: object, timeout_ms: float) -> bool:
            requests.append(timeout_ms)
            return len(requests) > silent

        def parsed_addresses(self) -> list[str]:
            return ["192.168.1.9"]

    async def story() -> list[Address]:
        heard_of: list[Address] = []
        lan = Lan("demo", ("192.168.1.7", 7000), heard_of.append)
        lan._changed(None, "", "a neighbour", ServiceStateChange.Added)  # type: ignore[arg-type]
        await at_rest()
        return heard_of

    monkeypatch.setattr("p2pdns.net.discovery.lan.AsyncServiceInfo", SlowInfo)
    assert len(asyncio.run(story())) == found
    assert len(requests) == asked


def test_where_multicast_is_refused_it_is_tried_again_ever_less_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another program may hold port 5353 for itself alone, as a published port of a container does."""
    waits: list[float] = []
    opened: list[str] = []

    class Zeroconf:
        def __init__(self, *, interfaces: list[str], ip_version: object) -> None:
            if len(waits) < 9:
                raise OSError(98, "Address already in use")
            opened.extend(interfaces)
            self.zeroconf = self

        async def async_register_service(self, info: object) -> None:
            pass

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("p2pdns.net.discovery.lan.AsyncZeroconf", Zeroconf)
    monkeypatch.setattr("p2pdns.net.discovery.lan.AsyncServiceBrowser", lambda *facts, **more: None)
    monkeypatch.setattr("p2pdns.net.discovery.lan.asyncio.sleep", wait)
    log.configure("info")
    asyncio.run(Lan("demo", ("192.168.1.7", 7000), lambda address: None).open())
    assert opened == ["192.168.1.7"]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert capsys.readouterr().err.count("no discovery on the local network yet") == 1


def test_the_tag_of_a_network_does_not_tell_its_name() -> None:
    assert tag_of("demo") != tag_of("other")
    assert b"demo" not in tag_of("demo")
    assert {tag_of("mainline"), tag_of("unnamed")} == {b"mainline", b"unnamed"}


def test_public_addresses_are_not_announced() -> None:
    assert own_address("93.184.216.34") is None
    assert own_address("10.1.2.3") == "10.1.2.3"
    assert own_address("127.0.0.1") == "127.0.0.1"


def test_a_boot_before_the_network_and_a_move_are_told_from_a_wire_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pdns.net.discovery import lan as module

    class Wire:
        """A library for multicast that sends nothing."""

        def __init__(self, *_: object, **__: object) -> None:
            self.zeroconf = None

        async def async_register_service(self, _: object) -> None:
            """Announce."""

        async def async_close(self) -> None:
            """End."""

        async def async_cancel(self) -> None:
            """End."""

    monkeypatch.setattr(module, "AsyncZeroconf", Wire)
    monkeypatch.setattr(module, "AsyncServiceBrowser", Wire)
    host: list[str | None] = [None]
    monkeypatch.setattr(module, "own_address", lambda _: host[0])

    async def story() -> None:
        lan = Lan("demo", ("0.0.0.0", 7_000), lambda _: None)
        await lan.open()
        assert not lan.is_elsewhere, "there is nothing to announce yet"
        host[0] = "127.0.0.1"
        assert lan.is_elsewhere
        await lan.reopen()
        assert not lan.is_elsewhere
        host[0] = "127.0.0.2"
        assert lan.is_elsewhere
        await lan.close()

    asyncio.run(story())
