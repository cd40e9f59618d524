"""The client of `resolve`: TCP after truncation, replies to other questions ignored, and every silence explained."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.message
import dns.rrset
import pytest

from p2pdns.addresses import Address
from p2pdns.cli import dnsclient
from p2pdns.errors import Unavailable, UsageError

Reply = Callable[[bytes, str], list[bytes]]


@contextmanager
def server(reply: Reply) -> Iterator[Address]:
    """Serve one question over UDP and one over TCP on the same port; `reply` gets the query and the transport."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        address: Address = tcp.getsockname()
        udp.bind(address)

        def serve_udp() -> None:
            data, client = udp.recvfrom(4096)
            for message in reply(data, "udp") if data else []:
                udp.sendto(message, client)

        def serve_tcp() -> None:
            try:
                connection, _ = tcp.accept()
            except OSError:
                return
            with connection:
                size = int.from_bytes(connection.recv(2))
                for message in reply(connection.recv(size), "tcp"):
                    connection.sendall(len(message).to_bytes(2) + message)

        threads = [threading.Thread(target=target, daemon=True) for target in (serve_udp, serve_tcp)]
        for thread in threads:
            thread.start()
        try:
            yield address
        finally:
            # Nobody may have asked; a thread left behind would wait on numbers that are other sockets' by then.
            tcp.shutdown(socket.SHUT_RDWR)
            udp.sendto(b"", address)
            for thread in threads:
                thread.join()


def answer(query: bytes, *, is_truncated: bool = False) -> bytes:
    """Return an answer with one address, or a truncated one without."""
    message = dns.message.make_response(dns.message.from_wire(query))
    if is_truncated:
        message.flags |= dns.flags.TC
    else:
        message.answer.append(dns.rrset.from_text(message.question[0].name, 60, "IN", "A", "192.0.2.1"))
    return message.to_wire()


def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    with server(lambda query, transport: [answer(query, is_truncated=transport == "udp")]) as address:
        reply = dnsclient.ask("www.example", "A", address)
    assert (reply.transport, [record.data for record in reply.answer]) == ("tcp", ["192.0.2.1"])
    assert not reply.is_truncated


def test_where_udp_is_asked_for_truncation_is_the_answer() -> None:
    with server(lambda query, transport: [answer(query, is_truncated=True)]) as address:
        reply = dnsclient.ask("www.example", "A", address, transport="udp")
    assert reply.is_truncated
    assert reply.transport == "udp"


def test_a_reply_with_another_id_is_not_taken() -> None:
    def reply(query: bytes, transport: str) -> list[bytes]:
        other = bytes([query[0] ^ 1]) + query[1:]
        return [answer(other, is_truncated=True), b"\x00", answer(query)]

    with server(reply) as address:
        taken = dnsclient.ask("www.example", "A", address)
    assert (taken.transport, [str(record) for record in taken.answer]) == ("udp", ["www.example. 60 IN A 192.0.2.1"])


def test_the_question_comes_back_in_its_letter_case() -> None:
    with server(lambda query, transport: [answer(query)]) as address:
        assert dnsclient.ask("wWw.eXample", "a", address).name == "wWw.eXample."


def test_a_closed_port_is_said_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address: Address = sock.getsockname()
    with pytest.raises(Unavailable, match="nobody listens there") as caught:
        dnsclient.ask("www.example", "A", address)
    assert caught.value.place == f"127.0.0.1:{address[1]}"


def test_silence_ends_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsclient, "ANSWER_TIMEOUT_S", 0.05)
    with server(lambda query, transport: []) as address, pytest.raises(Unavailable, match="no answer within"):
        dnsclient.ask("www.example", "A", address)


def test_a_broken_reply_over_tcp_ends_in_words() -> None:
    with server(lambda query, transport: [b"\x00\x01"]) as address, pytest.raises(Unavailable, match="not a DNS reply"):
        dnsclient.ask("www.example", "A", address, transport="tcp")


@pytest.mark.parametrize(("text", "read"), [("a", "A"), ("Https", "HTTPS"), ("type65280", "TYPE65280")])
def test_types_are_read_in_any_case(text: str, read: str) -> None:
    assert dnsclient.read_type(text) == read


@pytest.mark.parametrize("text", ["", "nonsense", "type99999"])
def test_what_is_no_type_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError):
        dnsclient.read_type(text)


@pytest.mark.parametrize("name", ["a..b", "x" * 64, ".".join(["abcdefgh"] * 40)])
def test_what_is_no_name_is_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError):
        dnsclient.ask(name, "A", ("127.0.0.1", 1))
