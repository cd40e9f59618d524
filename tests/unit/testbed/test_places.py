"""The places of the testbed, read from the facts of its containers: names, sides, addresses, and cuts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.testbed.impair import Impairment
from deploy.testbed.places import SIDES, Network, Places, added, container_of, removed
from deploy.testbed.sidecars import netem_words, program
from deploy.testbed.testbed import crossing, networks_of
from p2pdns.errors import UsageError

WEST, EAST = SIDES.values()


def facts(place: str, role: str, side: str, **addresses: str) -> dict[str, Any]:
    """Return the facts of `docker inspect` that are read of a container; without an address it does not run."""
    service, _, number = place.partition("/")
    labels = {
        "com.docker.compose.project": "p2pdns",
        "com.docker.compose.service": service,
        "com.docker.compose.container-number": number or "1",
        "org.p2pdns.role": role,
        "org.p2pdns.side": side,
    }
    return {
        "Id": place * 4,
        "Config": {"Labels": labels},
        "State": {"Status": "running" if addresses else "exited", "Health": {"Status": "healthy"}},
        "NetworkSettings": {"Networks": {f"p2pdns{network}": {"IPAddress": ip} for network, ip in addresses.items()}},
    }


def small_places() -> Places:
    """Return a small testbed: two nodes in the west, of which one is dead, one in the east, and the router."""
    found = [
        facts("west/1", "node", "west", _west="10.91.1.129"),
        facts("west/2", "node", "west"),
        facts("east/1", "node", "east", **{"-east": "10.91.2.129"}),
        facts("router", "router", "", _access="172.19.0.2", _west="10.91.1.2", _east="10.91.2.2"),
        facts("upstream", "upstream", "east", _east="10.91.2.53"),
    ]
    return Places(container for each in found if (container := container_of(each)) is not None)


def test_a_container_is_what_its_labels_say_whatever_compose_called_it() -> None:
    west, dead, east, router, _ = small_places()
    own = {"place": "west/1", "role": "node", "side": "west", "state": "running", "health": "healthy"}
    assert west.facts() == {**own, "addresses": {"west": "10.91.1.129"}}
    assert dict(east.addresses) == {"east": "10.91.2.129"}
    assert (dead.is_running, dict(dead.addresses)) == (False, {})
    assert set(router.addresses) == {"access", "west", "east"}


def test_what_compose_ran_once_and_what_is_not_ours_is_no_place() -> None:
    once, foreign = facts("dig", "dig", "east"), facts("west", "node", "west")
    once["Config"]["Labels"]["com.docker.compose.oneoff"] = "True"
    del foreign["Config"]["Labels"]["org.p2pdns.role"]
    assert (container_of(once), container_of(foreign)) == (None, None)


@pytest.mark.parametrize(
    ("word", "places"),
    [("west", ["west/1", "west/2"]), ("west/2", ["west/2"]), ("10.91.2.129", ["east/1"]), ("10.91.1.2", ["router/1"])],
)
def test_a_word_means_all_of_a_service_one_of_it_or_an_address(word: str, places: list[str]) -> None:
    assert [container.place for container in small_places().containers_at(word)] == places


@pytest.mark.parametrize(
    ("word", "network"),
    [
        ("west", "10.91.1.0/24"),
        ("east/1", "10.91.2.129/32"),
        ("10.91.1.77", "10.91.1.77/32"),
        ("10.91.2.128/25", "10.91.2.128/25"),
        ("upstream", "10.91.2.53/32"),
    ],
)
def test_a_word_means_a_side_before_it_means_a_service(word: str, network: str) -> None:
    assert small_places().networks_at(word) == [Network(network)]


@pytest.mark.parametrize(
    ("word", "what", "hint"),
    [
        ("wset/1", "no such place", 'did you mean "west/1"?'),
        ("west/9", "no such place", 'did you mean "west/'),
        ("nowhere at all", "no such place", "the services are east, router, upstream, west"),
        ("192.0.2.1", "not within the testbed", "10.91.1.0/24 or 10.91.2.0/24"),
        ("0.0.0.0/0", "not within the testbed", "10.91.1.0/24 or 10.91.2.0/24"),
        ("west/2", "has no address while it does not run", "start west/2"),
        ("router", "the router is what joins the sides", "which side"),
    ],
)
def test_a_word_without_a_meaning_is_an_error_with_the_way_out(word: str, what: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        small_places().networks_at(word)
    assert str(raised.value) == f'"{word}": {what}'
    assert hint in (raised.value.hint or "")


def test_only_nodes_that_run_are_the_overlay() -> None:
    assert [container.place for container in small_places().overlay()] == ["west/1", "east/1"]


networks = st.builds(
    lambda host, bits: Network((0x0A5B0100 + host, bits), strict=False), st.integers(0, 255), st.integers(24, 32)
)


@given(st.lists(networks, max_size=6), st.lists(networks, max_size=6))
def test_what_is_cut_and_healed_is_exactly_what_was_named(cut: list[Network], healed: list[Network]) -> None:
    def hosts(many: list[Network]) -> set[int]:
        return {int(address) for network in many for address in network}

    assert hosts(added(cut, healed)) == hosts(cut) | hosts(healed)
    left = removed(cut, healed)
    assert hosts(left) == hosts(cut) - hosts(healed)
    # The router's set refuses networks that overlap.
    assert len(hosts(left)) == sum(network.num_addresses for network in left)


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ("10.91.1.7", ["10.91.1.7/32"]),
        ({"prefix": {"addr": "10.91.1.0", "len": 24}}, ["10.91.1.0/24"]),
        ({"range": ["10.91.1.129", "10.91.1.130"]}, ["10.91.1.129/32", "10.91.1.130/32"]),
    ],
)
def test_the_set_of_the_router_is_read_in_each_of_its_forms(element: Any, expected: list[str]) -> None:
    assert [str(network) for network in networks_of(element)] == expected


@pytest.mark.parametrize(
    ("destinations", "paths"),
    [
        ([], [(EAST, WEST), (WEST, EAST)]),
        (["10.91.1.0/24"], [(EAST, WEST)]),
        (["10.91.2.53/32"], [(WEST, "10.91.2.53/32")]),
    ],
)
def test_what_crosses_comes_from_the_other_side(destinations: list[str], paths: list[tuple[object, object]]) -> None:
    assert crossing([Network(each) for each in destinations]) == [(str(source), str(end)) for source, end in paths]


def test_both_ways_of_impairing_are_told_the_same_facts() -> None:
    impairment = Impairment(delay_ms=100, jitter_ms=20, loss_percent=10, duplicate_percent=1, rate_kbit=256)
    netem = ["delay", "100ms", "20ms", "loss", "10%", "duplicate", "1%", "rate", "256kbit"]
    assert netem_words(impairment) == program("netem", impairment, [], 7)[-len(netem) :] == netem
    flags = "--delay-ms=100 --jitter-ms=20 --loss-percent=10 --duplicate-percent=1 --rate-kbit=256 --seed=7"
    words = ["impair", *flags.split(), "--path", "any", "10.91.2.0/24"]
    assert program("tun", impairment, [("any", "10.91.2.0/24")], 7) == words
