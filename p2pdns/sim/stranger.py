"""A stranger: a socket without a node, which writes single messages of its own.

Guarantees: it says that it is read-only (BEP 43), so no node takes it for a contact. Does not know what it proves.
"""

from __future__ import annotations

import asyncio
import random

from p2pdns.addresses import Address
from p2pdns.dht import krpc
from p2pdns.dht.krpc.reading import parse
from p2pdns.dht.krpc.writing import compose
from p2pdns.dht.routing.ids import ID_BYTES
from p2pdns.errors import FormatError
from p2pdns.sim.network import VirtualNetwork

WAIT_S = 2.0  # Longer than a round trip takes between nearly all hosts.
DATAGRAM_BYTES_MAX = 65_535
TRANSACTION_BYTES = 4


class Stranger:
    """Asks one question at a time, by hand."""

    def __init__(self, network: VirtualNetwork, address: Address, network_name: str, draws: random.Random) -> None:
        self._socket = network.open(address)
        self._network_name = network_name
        self._draws = draws
        self._node_id = draws.randbytes(ID_BYTES)

    async def ask(self, request: krpc.Request, node: Address) -> krpc.Reply | None:
        """Send a request to a node, and return its reply; None where none comes in time."""
        transaction = self._draws.randbytes(TRANSACTION_BYTES)
        query = krpc.RequestMessage(
            transaction=transaction,
            node_id=self._node_id,
            request=request,
            network=krpc.network_of(self._network_name),
            read_only=True,
        )
        self._socket.sendto(compose(query), node)
        await asyncio.sleep(WAIT_S)
        replies = [one for one in self._arrived() if isinstance(one, krpc.Reply) and one.transaction == transaction]
        return replies[0] if replies else None

    def _arrived(self) -> list[krpc.Message]:
        messages: list[krpc.Message] = []
        while True:
            try:
                messages.append(parse(self._socket.recvfrom(DATAGRAM_BYTES_MAX)[0]))
            except BlockingIOError:
                return messages
            except FormatError:
                continue

    def close(self) -> None:
        """Leave the network."""
        self._socket.close()
