"""Bound sockets, their hand-over, and non-blocking UDP."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pdns.errors import Unavailable
from p2pdns.net import sockets
from p2pdns.net.sockets import (
    BUFFER_BYTES,
    UNIX_PATH_BYTES_MAX,
    DnsSockets,
    address_of,
    listen_unix,
    open_dns,
    open_udp,
    prepare_udp,
    reachable,
)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_port_0_is_the_same_free_port_for_udp_and_tcp(host: str) -> None:
    pair = open_dns((host, 0))
    assert pair.udp.getsockname()[1] == pair.tcp.getsockname()[1] > 0
    assert pair.address == (host, pair.udp.getsockname()[1])
    assert not pair.udp.getblocking()
    assert not pair.tcp.getblocking()
    assert not os.get_inheritable(pair.udp.fileno())
    pair.close()


@pytest.mark.parametrize(
    ("host", "level", "option"), [("127.0.0.1", socket.IPPROTO_IP, 10), ("::1", socket.IPPROTO_IPV6, 23)]
)
def test_udp_sockets_do_not_believe_what_icmp_says_of_a_path(host: str, level: int, option: int) -> None:
    sock = open_udp((host, 0))
    # IP_MTU_DISCOVER and IPV6_MTU_DISCOVER are at IP_PMTUDISC_OMIT, in the numbers of Linux.
    assert sock.getsockopt(level, option) == 5
    sock.close()


def test_one_port_can_be_bound_on_several_addresses() -> None:
    first = open_dns(("127.0.0.1", 0))
    second = open_dns(("127.0.0.2", first.address[1]))
    third = open_dns(("::1", first.address[1]))
    for pair in (first, second, third):
        pair.close()


def test_a_port_in_use_is_named_with_a_hint() -> None:
    first = open_dns(("127.0.0.1", 0))
    with pytest.raises(Unavailable, match=f"127.0.0.1:{first.address[1]}: port is in use") as caught:
        open_dns(first.address)
    assert caught.value.hint
    first.close()


def test_a_port_whose_tcp_half_is_taken_leaves_no_socket_behind() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        with pytest.raises(Unavailable, match="port is in use"):
            open_dns(address_of(held))
        open_udp(address_of(held)).close()


def test_an_address_of_another_machine_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not have that address"):
        open_dns(("192.0.2.1", 0))


def test_a_name_is_no_address() -> None:
    with pytest.raises(Unavailable, match="not an IP address"):
        open_udp(("localhost", 0))


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("::1", socket.AF_INET6),
        ("fe80::1%eth0", socket.AF_INET6),
        ("localhost", None),
        ("127.1", None),
        ("", None),
    ],
)
def test_families_of_hosts(host: str, family: socket.AddressFamily | None) -> None:
    assert sockets.family_of(host) == family


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LISTEN_FDS": "2", "LISTEN_PID": "77"}, [3, 4]),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "78"}, []),
        ({"LISTEN_FDS": "2"}, []),
        ({"LISTEN_FDS": "two", "LISTEN_PID": "77"}, []),
        ({"LISTEN_FDS": "-1", "LISTEN_PID": "77"}, []),
        ({"LISTEN_PID": "77"}, []),
        ({}, []),
    ],
)
def test_descriptors_from_systemd_are_for_the_process_that_is_named(
    environ: dict[str, str], expected: list[int]
) -> None:
    assert sockets.listen_fds(environ, 77) == expected


def duplicated(pair: DnsSockets) -> list[int]:
    """Return the descriptors of a pair a second time, as a child would get them."""
    return [os.dup(pair.udp.fileno()), os.dup(pair.tcp.fileno())]


def test_inherited_sockets_are_paired_by_address() -> None:
    pairs = [open_dns(("127.0.0.1", 0)), open_dns(("::1", 0))]
    fds = [fd for pair in pairs for fd in duplicated(pair)]
    adopted = sockets.adopt_dns(fds[::-1])
    assert {pair.address for pair in adopted} == {pair.address for pair in pairs}
    for pair in [*pairs, *adopted]:
        pair.close()


@pytest.mark.parametrize(("kept", "missing"), [(0, "TCP"), (1, "UDP")])
def test_an_inherited_address_without_its_other_half_is_an_error(kept: int, missing: str) -> None:
    pair = open_dns(("127.0.0.1", 0))
    fds = duplicated(pair)
    os.close(fds[1 - kept])
    with pytest.raises(Unavailable, match=f"without its {missing} socket"):
        sockets.adopt_dns([fds[kept]])
    pair.close()


def test_an_inherited_descriptor_that_is_no_dns_socket_is_an_error() -> None:
    read_fd, write_fd = os.pipe()
    with pytest.raises(Unavailable, match=f"descriptor {read_fd}"):
        sockets.adopt_dns([read_fd])
    os.close(read_fd)
    os.close(write_fd)
    left, right = socket.socketpair()
    fd = os.dup(left.fileno())
    with pytest.raises(Unavailable, match="neither UDP nor listening TCP"):
        sockets.adopt_dns([fd])
    left.close()
    right.close()


@pytest.mark.parametrize("depth", [1, 120])
def test_a_unix_socket_is_its_owners_and_replaces_a_leftover_however_long_its_path(tmp_path: Path, depth: int) -> None:
    path = tmp_path / ("d" * depth) / "some.sock"
    path.parent.mkdir()
    leftover = listen_unix(path, backlog=1)
    leftover.close()
    listener = listen_unix(path, backlog=1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not listener.getblocking()
    assert not os.get_inheritable(listener.fileno())
    with socket.socket(socket.AF_UNIX) as client, reachable(path) as text:
        assert len(os.fsencode(text)) <= UNIX_PATH_BYTES_MAX
        client.connect(text)
    listener.close()


def test_the_longest_path_that_fits_a_socket_address_is_used_as_it_is(tmp_path: Path) -> None:
    longest = tmp_path / ("d" * (UNIX_PATH_BYTES_MAX - len(os.fsencode(tmp_path)) - 1))
    with reachable(longest) as text:
        assert text == str(longest)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(text)
    with reachable(longest.with_name(longest.name + "d")) as text:
        assert text != str(longest) + "d"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such option")
@pytest.mark.parametrize("is_root", [False, True])
def test_a_socket_has_room_for_a_burst_where_the_system_lets_it(is_root: bool) -> None:
    """The usual limit of Linux holds five hundred queries."""
    limit = 212_992
    given: list[int] = []

    class Limited(socket.socket):
        def setsockopt(self, level: int, option: int, value: Any) -> None:  # type: ignore[override]
            if level == socket.SOL_SOCKET:
                if option in (32, 33) and not is_root:
                    raise PermissionError
                given.append(value if option in (32, 33) else min(limit, value))

        def getsockopt(self, level: int, option: int) -> int:  # type: ignore[override]
            return 2 * given[-1]

    with Limited(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        prepare_udp(sock)
    assert given == ([limit, BUFFER_BYTES] * 2 if is_root else [limit, limit])
