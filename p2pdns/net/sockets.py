"""Sockets: bound sockets for DNS, their hand-over between processes, non-blocking UDP, and Unix sockets by path.

Guarantees: every socket that leaves here is non-blocking and closed on exec unless it is handed over on purpose;
a port that cannot be bound ends in `Unavailable` with the address and a hint; a socket that is bound to all addresses
says to which of them each datagram came. Does not know what the datagrams mean.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pdns.addresses import Address
from p2pdns.errors import Unavailable, words_of
from p2pdns.net.batch import IPV4_PKTINFO

BUFFER_BYTES = 1 << 20  # Holds a burst of some thousand datagrams while the process is busy or being restarted.
LISTEN_BACKLOG = 256  # Connections that wait while a front restarts; more than are served at a time.
SAME_PORT_ATTEMPTS_MAX = 20  # Draws of a port that must be free for UDP and TCP at once.
LISTEN_FDS_START = 3  # sd_listen_fds(3)
UNIX_PATH_BYTES_MAX = 107  # What fits into sockaddr_un beside its final zero.

_IPV6_RECVPKTINFO = getattr(socket, "IPV6_RECVPKTINFO", 49)
# Linux' own numbers, which Python has no names for: more room than the system's limit; and forget what ICMP says of a
# path's size, and set no DF.
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT = 10, 23, 5


@dataclass(frozen=True, slots=True)
class DnsSockets:
    """The two sockets of one DNS address: UDP, and listening TCP."""

    udp: socket.socket
    tcp: socket.socket

    @property
    def address(self) -> Address:
        """Return the address both are bound to."""
        return address_of(self.udp)

    def close(self) -> None:
        """Close both."""
        self.udp.close()
        self.tcp.close()


def family_of(host: str) -> socket.AddressFamily | None:
    """Return the family of a host in numbers, or None when it is a name or nonsense."""
    for family in (socket.AF_INET, socket.AF_INET6):
        # A scope ("fe80::1%eth0") is no part of what inet_pton reads.
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host.partition("%")[0] if family == socket.AF_INET6 else host)
            return family
    return None


def address_of(sock: socket.socket) -> Address:
    """Return the address that a socket is bound to."""
    host, port = sock.getsockname()[:2]
    return str(host), int(port)


def open_udp(address: Address) -> socket.socket:
    """Return a non-blocking UDP socket bound to an address; `Unavailable` when that is not possible."""
    sock = _new_socket(address, socket.SOCK_DGRAM)
    return _bound(prepare_udp(sock), address)


def prepare_udp(sock: socket.socket) -> socket.socket:
    """Set buffers and options of a UDP socket of any origin; return it."""
    sock.setblocking(False)
    for option, forced in ((socket.SO_RCVBUF, _RCVBUFFORCE), (socket.SO_SNDBUF, _SNDBUFFORCE)):
        # The system may allow less; what it allows is what we get. Its usual limit holds five hundred queries, and lets
        # nobody but root pass it.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            if sys.platform == "linux" and sock.getsockopt(socket.SOL_SOCKET, option) < BUFFER_BYTES:
                sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
    with contextlib.suppress(OSError):
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IPV4_PKTINFO, 1)
    if sys.platform == "linux":
        # RFC 9715 §3.1: a forged "fragmentation needed" must not make us send fragments, into which others' bytes could
        # be put; what we send is short enough for every path as it is.
        with contextlib.suppress(OSError):
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_OMIT)
    return sock


def open_dns(address: Address) -> DnsSockets:
    """Return UDP and TCP sockets bound to one address; port 0 picks a port that is free for both."""
    for _ in range(SAME_PORT_ATTEMPTS_MAX):
        udp = open_udp(address)
        wanted = (address[0], address_of(udp)[1])
        try:
            return DnsSockets(udp, _open_listener(wanted))
        except Unavailable:
            udp.close()
            if address[1] != 0:
                raise
    raise Unavailable("no port is free for UDP and TCP", place=_text_of(address), hint="name a port")


def _open_listener(address: Address) -> socket.socket:
    sock = _new_socket(address, socket.SOCK_STREAM)
    # Connections of an earlier daemon in TIME_WAIT must not keep a restarted one from its port.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener = _bound(sock, address)
    listener.listen(LISTEN_BACKLOG)
    listener.setblocking(False)
    return listener


def _new_socket(address: Address, kind: socket.SocketKind) -> socket.socket:
    family = family_of(address[0])
    if family is None:
        raise Unavailable("not an IP address", place=_text_of(address))
    try:
        sock = socket.socket(family, kind)
    except OSError as trouble:
        raise _unavailable(address, trouble) from None
    if family == socket.AF_INET6:
        # "::" means IPv6 and nothing else, so that 0.0.0.0 on the same port is a listener of its own.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _bound(sock: socket.socket, address: Address) -> socket.socket:
    try:
        sock.bind(address)
    except OSError as trouble:
        sock.close()
        raise _unavailable(address, trouble) from None
    return sock


_BIND_TROUBLE = {
    errno.EADDRINUSE: ("port is in use", "stop the program that holds it, or choose another port"),
    errno.EACCES: ("no permission to bind", "ports below 1024 need root, CAP_NET_BIND_SERVICE or a systemd socket"),
    errno.EADDRNOTAVAIL: ("this machine does not have that address", "choose one that `ip address` shows"),
    errno.EAFNOSUPPORT: ("this machine does not speak that address family", "choose an IPv4 address"),
}


def _unavailable(address: Address, trouble: OSError) -> Unavailable:
    what, hint = _BIND_TROUBLE.get(trouble.errno or 0, (words_of(trouble), None))
    return Unavailable(what, place=_text_of(address), hint=hint)


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
    # The variables are inherited by children they are not meant for; LISTEN_PID says whom they are meant for.
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
            raise Unavailable(f"handed over without its {missing} socket", place=_text_of(address), hint=hint)
    return [DnsSockets(udp[address], tcp[address]) for address in udp]


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Yield a text for the path that fits into a socket address, through the opened directory if it is deep."""
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listen_unix(path: Path, *, backlog: int, mode: int = 0o600) -> socket.socket:
    """Return a listening Unix socket at the path; one that an earlier process has left there is replaced."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Nobody can connect before `listen`, so there is no moment with a wider mode.
        with reachable(path) as text:
            sock.bind(text)
        path.chmod(mode)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _text_of(address: Address) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
