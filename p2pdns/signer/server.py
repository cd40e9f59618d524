"""The doors of the signer: UDP and TCP at one address.

Guarantees: a bounded number of connections, each with a deadline for every message and every response; a message has
at most 64 kB. Does not know what the messages say.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, cast

from p2pdns.net.sockets import DnsSockets
from p2pdns.signer.answers import Responder

CONNECTIONS_MAX = 64  # Programs of one owner, and a few secondaries.
IDLE_S_MAX = 30.0  # How long a connection may wait for its next message: a transfer asks for SOA, then for AXFR.
WRITE_S_MAX = 30.0  # How long a client may take to read a response.


class _UdpDoor(asyncio.DatagramProtocol):
    def __init__(self, answers: Responder) -> None:
        self._answers = answers
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for response in self._answers.respond(data, is_udp=True, host=str(addr[0])):
            assert self._transport is not None, "datagrams come through a transport"
            self._transport.sendto(response, addr)

    def error_received(self, exc: Exception) -> None:
        """A client has gone before its response came."""


class Doors:
    """The open doors of one address."""

    def __init__(self, answers: Responder, *, tell: Any, idle_s_max: float = IDLE_S_MAX) -> None:
        self._answers = answers
        self._tell = tell
        self._idle_s_max = idle_s_max
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def open(self, sockets: DnsSockets) -> None:
        """Answer at a pair of sockets."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _UdpDoor(self._answers), sock=sockets.udp)
        self._tcp = await asyncio.start_server(self._serve, sock=sockets.tcp)

    def close(self) -> None:
        """Answer no more."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for writer in list(self._connections):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            self._tell.warning("a connection is refused", connections=CONNECTIONS_MAX)
            writer.close()
            return
        self._connections.add(writer)
        try:
            await self._exchange(reader, writer)
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            # A client that does not read keeps what was written for it, and the end would never come.
            writer.transport.abort()
            self._connections.discard(writer)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = str(writer.get_extra_info("peername", ("unknown",))[0])
        connected = writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            async with asyncio.timeout(self._idle_s_max):
                wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            for response in self._answers.respond(wire, is_udp=False, host=host):
                writer.write(len(response).to_bytes(2) + response)
                async with asyncio.timeout(WRITE_S_MAX):
                    await writer.drain()
