"""RFC 7873 and 9018: cookies."""

from __future__ import annotations

import socket

import pytest

from tests.conformance import wire
from tests.conformance.virtual import VirtualFront
from tests.conformance.wire import BADCOOKIE, COOKIE
from tests.conformance.world import KEY, Client, World
from tests.live.front_process import GUARD_S

WWW = f"www.{KEY}"
CLIENT_COOKIE = bytes(range(8))


def with_cookie(data: bytes, **options: int) -> list[bytes]:
    """Return the additional section of a query with a cookie."""
    return [wire.opt(1232, wire.option(COOKIE, data), **options)]  # type: ignore[arg-type]


def full_cookie(client: Client, own: bytes = CLIENT_COOKIE) -> bytes:
    """Return the cookie that the server gives to who has none of its own yet."""
    found = client.ask(WWW, additional=with_cookie(own)).option(COOKIE)
    assert found is not None
    return found


def test_a_client_cookie_comes_back_with_a_server_cookie_of_16_bytes(client: Client) -> None:
    response = client.ask(WWW, additional=with_cookie(CLIENT_COOKIE))
    cookie = response.option(COOKIE)
    assert cookie is not None
    assert cookie[:8] == CLIENT_COOKIE
    # RFC 9018 §4: 16 bytes, of which the first is the version: 1 is SipHash, 240 to 254 are for private use (§7).
    assert len(cookie) == 24
    assert cookie[8] == 1 or 240 <= cookie[8] <= 254
    assert cookie[9:12] == bytes(3)
    assert response.data(wire.A)


def test_no_cookie_is_told_to_who_sent_none(client: Client) -> None:
    assert client.ask(WWW, additional=[wire.opt()]).option(COOKIE) is None


@pytest.mark.parametrize("qname", [f"nosuch.{KEY}", f"loop.{KEY}", "version.bind", "www.alt"])
def test_a_cookie_comes_with_every_kind_of_response(client: Client, qname: str) -> None:
    for qtype in (wire.A, wire.AXFR):
        cookie = client.ask(qname, qtype, additional=with_cookie(CLIENT_COOKIE)).option(COOKIE)
        assert cookie is not None
        assert cookie[:8] == CLIENT_COOKIE


def test_a_cookie_of_ours_is_taken(client: Client) -> None:
    whole = full_cookie(client)
    response = client.ask(WWW, additional=with_cookie(whole))
    assert response.rcode == wire.NOERROR
    answered = response.option(COOKIE)
    assert answered is not None
    assert answered[:8] == CLIENT_COOKIE


def test_a_cookie_hangs_on_the_client_cookie_and_on_the_address(udp: Client, world: World) -> None:
    # UDP only: one server makes the cookies of both transports, and addresses are easiest to choose here.
    assert full_cookie(udp)[-8:] != full_cookie(udp, b"another!")[-8:]
    cookies = []
    for host in ("127.0.0.1", "127.0.0.2"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
            sock.settimeout(GUARD_S)
            sock.sendto(wire.query(WWW, additional=with_cookie(CLIENT_COOKIE)), world.address)
            cookies.append(wire.Response(sock.recv(4096)).option(COOKIE))
    assert cookies[0] != cookies[1]


def test_a_wrong_server_cookie_is_answered_with_a_right_one(client: Client) -> None:
    wrong = CLIENT_COOKIE + b"\x01\x00\x00\x00" + bytes(12)
    response = client.ask(WWW, additional=with_cookie(wrong))
    # Cookies are not demanded here, so the answer comes all the same (RFC 7873 §5.2.4).
    assert response.data(wire.A)
    assert response.option(COOKIE) not in (None, wrong)


@pytest.mark.parametrize("size", [0, 1, 7, 9, 15, 41, 100])
def test_a_cookie_of_a_wrong_length_is_a_format_error(client: Client, size: int) -> None:
    assert client.ask(WWW, additional=with_cookie(bytes(size))).rcode == wire.FORMERR


@pytest.mark.parametrize("size", [8, 16, 24, 40])
def test_a_cookie_of_a_right_length_is_none(client: Client, size: int) -> None:
    assert client.ask(WWW, additional=with_cookie(bytes(size))).rcode == wire.NOERROR


def test_a_query_without_question_gets_a_cookie(client: Client) -> None:
    response = client(wire.query(questions=[], additional=with_cookie(CLIENT_COOKIE)))
    assert (response.rcode, response.counts) == (wire.NOERROR, (0, 0, 0, 1))
    cookie = response.option(COOKIE)
    assert cookie is not None
    assert len(cookie) == 24
    again = client(wire.query(questions=[], additional=with_cookie(cookie)))
    assert again.rcode == wire.NOERROR


def test_a_query_without_question_learns_that_its_server_cookie_is_wrong(client: Client) -> None:
    response = client(wire.query(questions=[], additional=with_cookie(CLIENT_COOKIE + bytes(16))))
    assert response.rcode == BADCOOKIE
    cookie = response.option(COOKIE)
    assert cookie is not None
    assert client(wire.query(questions=[], additional=with_cookie(cookie))).rcode == wire.NOERROR


def test_a_query_with_neither_question_nor_cookie_is_a_format_error(client: Client) -> None:
    for additional in ([], [wire.opt()]):
        assert client(wire.query(questions=[], additional=additional)).rcode == wire.FORMERR


def test_where_cookies_are_demanded_a_datagram_without_one_is_not_answered_with_data() -> None:
    # In this process, because no shared daemon can demand them. UDP only: a connection proves the address by itself.
    front = VirtualFront(is_stream=False)
    front.funnel.change_responses(udp_size=1232, require_cookies=True)
    told = front.send(wire.query("x.example", additional=with_cookie(CLIENT_COOKIE)))
    assert (told.rcode, told.answer) == (BADCOOKIE, ())
    cookie = told.option(COOKIE)
    assert cookie is not None
    # Who knows nothing of cookies is asked to come over TCP (RFC 7873 §5.2.3).
    for additional in ([], [wire.opt()]):
        cut = front.send(wire.query("x.example", additional=additional))
        assert (cut.rcode, cut.flags & wire.TC, cut.answer) == (wire.NOERROR, wire.TC, ())
    assert front.asked == []
    front.pass_on(wire.query("x.example", additional=with_cookie(cookie)))
    assert len(front.asked) == 1


def test_where_cookies_are_demanded_a_connection_needs_none() -> None:
    # In this process, as above.
    front = VirtualFront(is_stream=True)
    front.funnel.change_responses(udp_size=1232, require_cookies=True)
    front.pass_on(wire.query("x.example"))
    assert len(front.asked) == 1
