"""Sockets: bound sockets for DNS, their hand-over between processes, non-blocking UDP, and Unix sockets by path.

Guarantees: every socket from here is non-blocking, and closed on exec unless it is handed over on purpose; a port that
cannot be bound ends in `Unavailable` with the address and a hint; a socket bound to all addresses reports the one that
each datagram was sent to. Does not know what the datagrams mean.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pdns.addresses import Address, write_address
from p2pdns.errors import Unavailable, words_of
from p2pdns.net.batch import IPV4_PKTINFO

BUFFER_BYTES = 1 << 20  # Holds a burst of some thousand datagrams while the process is busy or being restarted.
LISTEN_BACKLOG = 256  # Connections that wait while a front restarts: more than are served at a time.
SAME_PORT_ATTEMPTS_MAX = 20  # Ports tried until one is free for UDP and TCP.
LISTEN_FDS_START = 3  # sd_listen_fds(3)
UNIX_PATH_BYTES_MAX = 107  # The size of the path in sockaddr_un without its final zero.

# Numbers of Linux for which Python has no names: buffers above the system's limit, and IP_PMTUDISC_OMIT, which ignores
# what ICMP says of a path's size and sets no DF.
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT = 10, 23, 5


@dataclass(frozen=True, slots=True)
class DnsSockets:
    """The two sockets of one DNS address: UDP, and listening TCP."""

    udp: socket.socket
    tcp: socket.socket

    @property
    def address(self) -> Address:
        return address_of(self.udp)

    def close(self) -> None:
        """Close both."""
        self.udp.close()
        self.tcp.close()


def family_of(host: str) -> socket.AddressFamily | None:
    """Return the family of a host in numbers, or None when it is a name or nonsense."""
    try:
        is_v6 = ipaddress.ip_address(host).version == 6
    except ValueError:
        return None
    return socket.AF_INET6 if is_v6 else socket.AF_INET


def address_of(sock: socket.socket) -> Address:
    """Return the address that a socket is bound to."""
    host, port = sock.getsockname()[:2]
    return str(host), int(port)


def open_udp(address: Address) -> socket.socket:
    """Return a non-blocking UDP socket bound to an address; `Unavailable` when that is not possible."""
    return _open(address, socket.SOCK_DGRAM)


def prepare_udp(sock: socket.socket) -> socket.socket:
    """Set buffers and options of a UDP socket of any origin; return it."""
    sock.setblocking(False)
    for option, forced in ((socket.SO_RCVBUF, _RCVBUFFORCE), (socket.SO_SNDBUF, _SNDBUFFORCE)):
        # The system's usual limit holds five hundred queries, and only root may exceed it; then we get what it allows.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            if sock.getsockopt(socket.SOL_SOCKET, option) < BUFFER_BYTES:
                sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
    level, pktinfo, mtu_discover = socket.IPPROTO_IP, IPV4_PKTINFO, _IP_MTU_DISCOVER
    if sock.family == socket.AF_INET6:
        level, pktinfo, mtu_discover = socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, _IPV6_MTU_DISCOVER
    # RFC 9715 §3.1: a forged "fragmentation needed" must not make us send fragments, because others could replace one
    # of them. Our datagrams are short enough for every path.
    for option, value in ((pktinfo, 1), (mtu_discover, _PMTUDISC_OMIT)):
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)
    return sock


def open_dns(address: Address) -> DnsSockets:
    """Return UDP and TCP sockets bound to one address; port 0 picks a port that is free for both."""
    for _ in range(SAME_PORT_ATTEMPTS_MAX):
        udp = open_udp(address)
        try:
            tcp = _open((address[0], address_of(udp)[1]), socket.SOCK_STREAM)
        except Unavailable:
            udp.close()
            if address[1] != 0:
                raise
        else:
            tcp.listen(LISTEN_BACKLOG)
            return DnsSockets(udp, tcp)
    raise Unavailable("no port is free for UDP and TCP", place=write_address(address), hint="name a port")


_BIND_TROUBLE = {
    errno.EADDRINUSE: ("port is in use", "stop the program that holds it, or choose another port"),
    errno.EACCES: ("no permission to bind", "ports below 1024 need root, CAP_NET_BIND_SERVICE or a systemd socket"),
    errno.EADDRNOTAVAIL: ("this machine does not have that address", "choose one that `ip address` shows"),
    errno.EAFNOSUPPORT: ("this machine does not speak that address family", "choose an IPv4 address"),
}


def _open(address: Address, kind: socket.SocketKind) -> socket.socket:
    """Return a non-blocking bound socket."""
    family = family_of(address[0])
    if family is None:
        raise Unavailable("not an IP address", place=write_address(address))
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, kind)
        sock.setblocking(False)
        if family == socket.AF_INET6:
            # "::" means IPv6 and nothing else, so that 0.0.0.0 on the same port is a listener of its own.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_DGRAM:
            prepare_udp(sock)
        else:
            # Connections of an earlier daemon in TIME_WAIT must not keep a restarted one from its port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as trouble:
        if sock is not None:
            sock.close()
        what, hint = _BIND_TROUBLE.get(trouble.errno or 0, (words_of(trouble), None))
        raise Unavailable(what, place=write_address(address), hint=hint) from None
    return sock


def adopt(fd: int) -> socket.socket:
    """Return the socket behind an inherited descriptor, non-blocking and not inherited any further."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as trouble:
        raise Unavailable(f"no socket ({words_of(trouble)})", place=f"descriptor {fd}") from None
    sock.set_inheritable(False)
    if sock.type == socket.SOCK_DGRAM:
        return prepare_udp(sock)
    sock.setblocking(False)
    return sock


def listen_fds(environ: Mapping[str, str], pid: int) -> list[int]:
    """Return the descriptors that systemd handed to the process `pid` (sd_listen_fds(3)); often none."""
    count = environ.get("LISTEN_FDS", "")
    # Other processes inherit these variables too; LISTEN_PID names the one they are meant for.
    if environ.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdigit()):
        return []
    return list(range(LISTEN_FDS_START, LISTEN_FDS_START + int(count)))


def adopt_dns(fds: Sequence[int]) -> list[DnsSockets]:
    """Return inherited sockets as pairs; `Unavailable` when an address has UDP without TCP, or the reverse."""
    adopted: list[socket.socket] = []
    try:
        adopted.extend(map(adopt, fds))
        return _paired(adopted)
    except Unavailable:
        for sock in adopted:
            sock.close()
        raise


def _paired(adopted: Sequence[socket.socket]) -> list[DnsSockets]:
    udp: dict[Address, socket.socket] = {}
    tcp: dict[Address, socket.socket] = {}
    for sock in adopted:
        is_inet = sock.family in (socket.AF_INET, socket.AF_INET6)
        if is_inet and sock.type == socket.SOCK_DGRAM:
            udp[address_of(sock)] = sock
        elif is_inet and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            tcp[address_of(sock)] = sock
        else:
            hint = "ListenDatagram= and ListenStream= of one address each"
            raise Unavailable("neither UDP nor listening TCP", place=f"descriptor {sock.fileno()}", hint=hint)
    for address in [*udp, *tcp]:
        if address not in udp or address not in tcp:
            missing = "TCP" if address in udp else "UDP"
            hint = "name the address in both ListenDatagram= and ListenStream= of the socket unit"
            raise Unavailable(f"handed over without its {missing} socket", place=write_address(address), hint=hint)
    return [DnsSockets(udp[address], tcp[address]) for address in udp]


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Yield a text for the path that fits into a socket address: a long path goes through its opened directory."""
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listen_unix(path: Path, *, backlog: int, mode: int = 0o600) -> socket.socket:
    """Return a listening Unix socket at the path, in place of one that an earlier process has left there."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # No client can connect before `listen`, so the wider mode until `chmod` does no harm.
        with reachable(path) as text:
            sock.bind(text)
        path.chmod(mode)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
