"""The address table: one vector a row, and what holds for every address."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns import addresses
from p2pdns.addresses import (
    NON_PUBLIC,
    TABLE_V4,
    TABLE_V6,
    AddressClass,
    Network,
    class_of,
    client_host,
    client_prefix,
    in_any,
    is_non_public,
    is_rebinding_risk,
    is_rebinding_risk_block,
    prefix_of,
    read_address,
    read_network,
    storage_prefix_of,
    unmapped,
    write_address,
)
from p2pdns.errors import ConfigError, FormatError
from p2pdns.remembered import remembered_count

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "addresses.json").read_text(encoding="utf-8")
)["vectors"]

ANY_HOST = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ANY_V4 = st.ip_addresses(v=4)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["host"]))
def test_vector_has_its_class_prefix_and_risk(vector: dict[str, Any]) -> None:
    """Each vector says which bug would let it come out otherwise."""
    host = vector["host"]
    assert class_of(host).value == vector["class"], vector["bug"]
    assert prefix_of((host, 6881)) == vector["prefix"], vector["bug"]
    assert is_rebinding_risk(ipaddress.ip_address(host).packed) is vector["rebinding"], vector["bug"]


@pytest.mark.parametrize("table", [TABLE_V4, TABLE_V6])
def test_every_row_of_the_table_has_a_vector(table: tuple[tuple[Network, AddressClass], ...]) -> None:
    """A row without a vector could be deleted without a red test."""
    hosts = [vector["host"] for vector in VECTORS]
    deciding = {next((net for net, _ in table if net.has(host)), None) for host in hosts}
    missing = [str(net) for net, _ in table if net not in deciding]
    assert missing == []


@given(ANY_HOST)
def test_every_address_has_a_class_and_a_prefix(host: str) -> None:
    """Nothing that parses escapes the table, and ports matter on loopback only."""
    assert isinstance(class_of(host), AddressClass)
    assert is_non_public(host) == (class_of(host) in NON_PUBLIC)
    is_loopback = class_of(unmapped(host)) is AddressClass.LOOPBACK
    assert (prefix_of((host, 1)) != prefix_of((host, 2))) == is_loopback


STORAGE_PREFIXES = {
    "203.0.113.7": "203.0.113.0/24",
    "11.1.2.3": "11.1.2.0/24",
    "2a00:1:2:3::4": "2a00:1:2::/48",
    "10.1.2.3": "10.1.2.0/24",
    "100.64.5.6": "100.64.5.0/24",
    "169.254.7.8": "169.254.7.0/24",
    "192.168.1.9": "192.168.1.0/24",
    "fd00:1:2:3:4::5": "fd00:1:2:3::/64",
    "fe80::1%eth0": "fe80::/64",
    "fec0:0:0:1::9": "fec0:0:0:1::/64",
    "::ffff:10.1.2.3": "10.1.2.0/24",
    "64:ff9b::b01:203": "11.1.2.0/24",
    "2002:b01:203:4::5": "11.1.2.0/24",
    "2002:a01:203::1": "10.1.2.0/24",
    "127.0.0.1": "127.0.0.1:6881",
    "::1": "[::1]:6881",
    "::ffff:127.0.0.1": "127.0.0.1:6881",
    "2002:7f00:1::1": "127.0.0.0/24",
}


@pytest.mark.parametrize(("host", "prefix"), STORAGE_PREFIXES.items())
def test_where_items_are_kept_no_host_is_a_place_of_its_own(host: str, prefix: str) -> None:
    assert storage_prefix_of((host, 6881)) == prefix


@given(ANY_HOST, st.integers(0, 255))
def test_hosts_that_differ_in_their_last_byte_bring_items_as_one(host: str, byte: int) -> None:
    number = int(ipaddress.ip_address(host))
    if class_of(unmapped(host)) is not AddressClass.LOOPBACK:
        other = str(type(ipaddress.ip_address(host))(number & ~0xFF | byte))
        is_loopback = class_of(unmapped(other)) is AddressClass.LOOPBACK
        assert is_loopback or storage_prefix_of((host, 1)) == storage_prefix_of((other, 2))


@given(ANY_HOST)
def test_public_addresses_are_global_by_the_registry_too(host: str) -> None:
    """Where we say public, the standard library (IANA's registry) does not say private."""
    if class_of(host) is AddressClass.PUBLIC:
        assert not ipaddress.ip_address(host).is_private or host.lower().startswith(("64:ff9b:", "2002:"))


@given(ANY_V4)
def test_embedding_never_hides_an_address_from_the_rebinding_filter(inner: ipaddress.IPv4Address) -> None:
    """Mapped forms are always withheld; NAT64 and 6to4 exactly when the address inside is."""
    number = int(inner)
    risk = is_rebinding_risk(inner.packed)
    assert is_rebinding_risk(bytes.fromhex("0064ff9b") + bytes(8) + inner.packed) is risk
    assert is_rebinding_risk((0x2002 << 112 | number << 80 | 1).to_bytes(16)) is risk
    assert is_rebinding_risk(bytes(10) + b"\xff\xff" + inner.packed)
    assert is_rebinding_risk(bytes(12) + inner.packed)


@pytest.mark.parametrize("size", [0, 3, 5, 15, 17])
def test_packed_addresses_of_another_size_are_refused(size: int) -> None:
    """RDATA and hints come from strangers, in every length."""
    with pytest.raises(FormatError, match="not-an-address"):
        is_rebinding_risk(bytes(size))


@given(ANY_V4)
def test_mapped_hosts_are_the_ipv4_hosts_they_are(inner: ipaddress.IPv4Address) -> None:
    """A dual-stack socket shows IPv4 clients in mapped form, in either notation."""
    for mapped in (f"::ffff:{inner}", str(ipaddress.IPv6Address((0xFFFF << 32) | int(inner)))):
        assert unmapped(mapped) == str(inner)
        assert read_network(str(inner)).has(mapped)
        assert prefix_of((mapped, 5)) == prefix_of((str(inner), 5))


def test_scope_of_a_link_local_host_is_ignored() -> None:
    """recvfrom shows fe80::1%eth0."""
    assert class_of("fe80::1%eth0") is AddressClass.LINK_LOCAL
    assert read_network("fe80::/10").has("fe80::1%eth0")


@pytest.mark.parametrize("host", ["", "localhost", "1.2.3", "010.0.0.1", "1.2.3.4.5", "::g", "1.2.3.4:5"])
def test_text_that_is_no_address_is_refused(host: str) -> None:
    """A host name or an octal byte never gets a class."""
    with pytest.raises(FormatError, match="not-an-address"):
        class_of(host)


@given(ANY_HOST, st.data())
def test_a_network_has_exactly_what_the_standard_library_says(host: str, data: st.DataObject) -> None:
    """The matcher equals ipaddress, both families, every length."""
    other = ipaddress.ip_address(data.draw(ANY_HOST.filter(lambda text: unmapped(text) == text)))
    bits = data.draw(st.integers(0, other.max_prefixlen))
    reference = ipaddress.ip_network(f"{other}/{bits}", strict=False)
    network = read_network(str(reference))
    assert network.has(str(other))
    if unmapped(host) == host:
        assert network.has(host) == (ipaddress.ip_address(host) in reference)
        assert in_any(host, [network]) == network.has(host)
    assert ipaddress.ip_network(str(network)) == reference


def test_mapped_block_is_the_ipv4_block_it_is() -> None:
    """Whoever copies a client's address from a log of a dual-stack server must not be locked out."""
    assert read_network("::ffff:192.0.2.0/120") == read_network("192.0.2.0/24")
    assert read_network("::ffff:192.0.2.1").has("192.0.2.1")
    assert not read_network("::/0").has("192.0.2.1")


def test_access_list_is_any_of_its_networks() -> None:
    """The default list lets loopback in, and nothing else."""
    allowed = [read_network("127.0.0.0/8"), read_network("::1/128")]
    assert in_any("127.0.0.1", allowed)
    assert in_any("::1", allowed)
    assert in_any("::ffff:127.0.0.1", allowed)
    assert not in_any("192.168.0.1", allowed)
    assert not in_any("::7f00:1", allowed)
    assert not in_any("127.0.0.1", [])


def test_network_with_host_bits_is_refused_with_the_likely_meaning() -> None:
    """Both readings of 192.168.1.5/24 allow different clients."""
    with pytest.raises(ConfigError, match="has host bits set") as caught:
        read_network("192.168.1.5/24")
    assert caught.value.hint == 'did you mean "192.168.1.0/24"?'


@pytest.mark.parametrize("text", ["", "lan", "10.0.0.0/33", "10.0.0.0/-1", "fd00::/129", "10.0.0.0/8/8"])
def test_network_that_is_none_is_refused_with_an_example(text: str) -> None:
    """The message shows the value, the hint shows the form."""
    with pytest.raises(ConfigError, match="is not a block of addresses") as caught:
        read_network(text)
    assert "192.168.0.0/16" in str(caught.value.hint)


def test_remembered_hosts_are_bounded() -> None:
    """Strangers choose the hosts we look at."""
    for number in range(addresses.PARSED_HOSTS_MAX + 100):
        class_of(f"2001:4860::{number:x}")
    assert remembered_count(class_of) <= addresses.PARSED_HOSTS_MAX


@pytest.mark.parametrize(
    ("host", "counted", "prefix"),
    [
        ("127.0.0.1", "loopback", "loopback"),
        ("127.255.255.254", "loopback", "loopback"),
        ("::1", "loopback", "loopback"),
        ("::ffff:127.0.0.9", "loopback", "loopback"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.0/24"),
        ("::ffff:203.0.113.5", "203.0.113.5", "203.0.113.0/24"),
        ("192.168.1.1", "192.168.1.1", "192.168.1.1"),
        ("fd00::1:2:3:4", "fd00::/64", "fd00::/64"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/64"),
        ("2a00:1450:1:2:3::4", "2a00:1450:1:2::/64", "2a00:1450:1::/48"),
        # Whoever has one IPv4 address has a /48 of the former, and all of IPv4 is one /64 of the latter.
        ("2002:cb00:7105:7::1", "2002:cb00:7105:7::/64", "2002:cb00:7105::/48"),
        ("2002:808:808:7::1", "8.8.8.8", "2002:808:808::/48"),
        ("64:ff9b::808:808", "8.8.8.8", "8.8.8.0/24"),
        # From outside nobody is this machine, whatever he writes into his address.
        ("64:ff9b::7f00:1", "64:ff9b::/64", "64:ff9b::/64"),
        ("2002:7f00:1::1", "2002:7f00:1::/64", "2002:7f00:1::/64"),
    ],
)
def test_a_client_counts_by_what_it_cannot_have_many_of(host: str, counted: str, prefix: str) -> None:
    assert client_host(host) == counted
    assert client_prefix(host) == prefix


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_two_addresses_of_a_link_are_one_client(address: ipaddress.IPv6Address, other: int) -> None:
    first, second = (str(ipaddress.IPv6Address(int(address) >> 64 << 64 | low)) for low in (2, other | 1 << 63))
    assert client_host(first) == client_host(second)


@given(st.one_of(ANY_V4, st.ip_addresses(v=6)))
def test_the_borders_say_what_the_longest_row_of_the_table_says(address: ipaddress.IPv4Address) -> None:
    """Classes are looked up by bisection; the table itself is the law."""
    host = str(address)
    table = TABLE_V4 if address.version == 4 else TABLE_V6
    is_embedding = any(read_network(block).has(host) for block in ("64:ff9b::/96", "2002::/16"))
    if unmapped(host) == host and not is_embedding:
        assert class_of(host) is next(kind for network, kind in table if network.has(host))


@given(ANY_V4, st.integers(20, 32), st.integers(0, 4095))
def test_a_block_is_a_risk_where_one_of_its_addresses_is(first: ipaddress.IPv4Address, bits: int, more: int) -> None:
    base = int(first) >> (32 - bits) << (32 - bits)
    member = (base | more & (1 << 32 - bits) - 1).to_bytes(4)
    if is_rebinding_risk(member):
        assert is_rebinding_risk_block(base.to_bytes(4), bits)


@pytest.mark.parametrize(
    ("block", "is_risk"),
    [
        ("0.0.0.0/0", True),
        ("8.0.0.0/6", True),
        ("8.0.0.0/7", False),
        ("9.255.0.0/16", False),
        ("192.0.0.0/8", True),
        ("192.0.2.0/24", False),
        ("2000::/3", True),
        ("2a00::/16", False),
        ("2001:db8::/32", False),
        ("fe00::/8", True),
        ("64:ff9b::808:0/112", False),
        ("64:ff9b::800:0/102", True),
        ("2002:808::/32", False),
        ("2002:808:808:1::/64", False),
        ("2002:800::/22", True),
    ],
)
def test_a_block_that_reaches_over_private_space_is_a_risk(block: str, is_risk: bool) -> None:
    network = ipaddress.ip_network(block)
    assert is_rebinding_risk_block(network.network_address.packed, network.prefixlen) is is_risk


def test_a_block_of_more_bits_than_an_address_has_is_refused() -> None:
    with pytest.raises(FormatError, match="not-an-address"):
        is_rebinding_risk_block(bytes([8, 8, 8, 8]), 33)


@pytest.mark.parametrize(
    ("text", "default_port", "address"),
    [
        ("127.0.0.1:5300", None, ("127.0.0.1", 5300)),
        ("[::1]:0", None, ("::1", 0)),
        ("[2001:DB8::1]", 53, ("2001:db8::1", 53)),
        ("2001:db8::1", 53, ("2001:db8::1", 53)),
        ("192.0.2.1", 53, ("192.0.2.1", 53)),
    ],
)
def test_addresses_are_read(text: str, default_port: int | None, address: tuple[str, int]) -> None:
    assert read_address(text, default_port) == address
    assert read_address(write_address(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", ":53", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:+1", "[::1", "::1:53x", "localhost:53", "[1.2.3.4:5"],
)
def test_what_is_no_address_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_address(text)
    assert caught.value.hint


@given(host=st.ip_addresses(), port=st.integers(0, 65535))
def test_read_address_and_write_address_are_inverse(host: Any, port: int) -> None:
    assert read_address(write_address((str(host), port))) == (str(host), port)
