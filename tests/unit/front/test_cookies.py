"""DNS cookies: what proves an address, for how long, and what is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.front import cookies as module
from p2pdns.front.cookies import (
    AHEAD_S_MAX,
    FRESH_S,
    KNOWN_MAX,
    LIFETIME_S,
    RENEW_S,
    SECRET_S,
    VERSION,
    Cookies,
    Known,
    is_sized,
)
from tests.front_messages import CALM

CLIENT = b"clientco"
HOST = "192.0.2.1"
UNIX = 1_800_000_000.0


class Secrets:
    """Secrets of which none is like another."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, size: int) -> bytes:
        """Return the next one."""
        self.count += 1
        return bytes([self.count]) * size


def jar(unix_at_zero: float = UNIX) -> Cookies:
    """Return the cookies of a server."""
    return Cookies(Secrets(), unix_at_zero=unix_at_zero)


def given_at(cookies: Cookies, now: float, *, host: str = HOST, client: bytes = CLIENT) -> bytes:
    """Return the cookie that a client without one is given."""
    known = cookies.known(client, host, now)
    assert not known.is_ours
    return known.reply


def test_a_cookie_has_the_shape_of_rfc_9018() -> None:
    cookie = given_at(jar(), 5.0)
    assert len(cookie) == 24
    assert cookie[:8] == CLIENT
    assert cookie[8:12] == bytes([VERSION, 0, 0, 0])
    assert int.from_bytes(cookie[12:16], "big") == int(UNIX) + 5


def test_a_cookie_of_ours_proves_its_address_and_no_other() -> None:
    cookies = jar()
    cookie = given_at(cookies, 0.0)
    assert cookies.known(cookie, HOST, 1.0) == Known(True, cookie, RENEW_S)
    for other in ("192.0.2.2", "2001:db8::1"):
        assert not cookies.known(cookie, other, 1.0).is_ours


def test_an_address_mapped_into_ipv6_is_the_same_address() -> None:
    cookies = jar()
    assert cookies.known(given_at(cookies, 0.0), f"::ffff:{HOST}", 1.0).is_ours


@pytest.mark.parametrize("at", [0, 7, 8, 11, 12, 15, 16, 23], ids=str)
def test_a_cookie_with_one_other_bit_is_answered_as_if_it_were_not_there(at: int) -> None:
    cookies = jar()
    cookie = bytearray(given_at(cookies, 0.0))
    cookie[at] ^= 1
    known = cookies.known(bytes(cookie), HOST, 1.0)
    assert not known.is_ours
    assert known.reply[:8] == cookie[:8]
    assert cookies.known(known.reply, HOST, 2.0).is_ours


@pytest.mark.parametrize("size", [8, 15, 17, 32])
def test_a_server_cookie_of_another_length_is_not_ours(size: int) -> None:
    assert not jar().known(CLIENT + bytes(size), HOST, 0.0).is_ours


@pytest.mark.parametrize(
    ("age", "is_ours", "is_kept"),
    [
        (0.0, True, True),
        (RENEW_S - 1.0, True, True),
        (float(RENEW_S), True, False),
        (LIFETIME_S - 1.0, True, False),
        (float(LIFETIME_S), False, False),
        (SECRET_S * 3, False, False),
    ],
)
def test_a_cookie_is_renewed_after_half_an_hour_and_dead_after_one(age: float, is_ours: bool, is_kept: bool) -> None:
    cookies = jar()
    cookie = given_at(cookies, 0.0)
    known = cookies.known(cookie, HOST, age)
    assert (known.is_ours, known.reply == cookie) == (is_ours, is_kept)
    assert cookies.known(known.reply, HOST, age).is_ours


@pytest.mark.parametrize(("ahead", "is_ours"), [(300.0, True), (302.0, False)])
def test_a_cookie_from_the_future_counts_for_five_minutes(ahead: float, is_ours: bool) -> None:
    secrets = [Secrets(), Secrets()]
    later, now = Cookies(secrets[0], unix_at_zero=UNIX + ahead), Cookies(secrets[1], unix_at_zero=UNIX)
    assert now.known(given_at(later, 0.0), HOST, 0.0).is_ours == is_ours


def test_what_is_known_ends_when_the_cookie_does() -> None:
    cookies = jar()
    cookie = given_at(cookies, 0.0)
    # Checked at many times: what is remembered must never differ from what a fresh look says.
    for now in range(0, LIFETIME_S + 120, 7):
        assert cookies.known(cookie, HOST, float(now)).is_ours == (now < LIFETIME_S), now


def test_a_new_secret_leaves_the_cookies_of_the_last_one_in_force() -> None:
    cookies = jar()
    given_at(cookies, 0.0, client=b"thefirst")
    cookie = given_at(cookies, SECRET_S - 60)
    after = cookies.known(cookie, HOST, SECRET_S + 60)
    assert after.is_ours
    assert after.reply != cookie
    assert cookies.known(after.reply, HOST, SECRET_S + 61).is_ours


def test_another_server_has_other_cookies() -> None:
    first, second = jar(), Cookies(lambda size: bytes(size), unix_at_zero=UNIX)
    assert not second.known(given_at(first, 0.0), HOST, 0.0).is_ours


def test_seconds_wrap_like_serial_numbers() -> None:
    cookies = jar(float((1 << 32) - 10))
    cookie = given_at(cookies, 0.0)
    assert cookies.known(cookie, HOST, 20.0).is_ours


@pytest.mark.parametrize("unix", [UNIX, float((1 << 32) - AHEAD_S_MAX // 2)], ids=["", "about to wrap"])
@pytest.mark.parametrize("ahead_s", [1, AHEAD_S_MAX, AHEAD_S_MAX + 1])
def test_a_cookie_may_be_from_a_clock_five_minutes_ahead(unix: float, ahead_s: int) -> None:
    # As after the clock of this machine was set back.
    cookie = given_at(jar(unix), float(ahead_s))
    assert jar(unix).known(cookie, HOST, 0.0).is_ours == (ahead_s <= 300)


def test_a_cookie_is_hashed_once_while_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    cookies = jar()
    cookie = given_at(cookies, 0.0)
    cookies.known(cookie, HOST, 1.0)
    monkeypatch.setattr(module, "_made", None)
    for now in (1.0, 2.0, RENEW_S - 1.0):
        assert cookies.known(cookie, HOST, now).is_ours
    assert cookies.known(CLIENT, HOST, FRESH_S - 1.0).reply == cookie


def test_what_is_known_is_bounded() -> None:
    cookies = jar()
    for i in range(3 * KNOWN_MAX):
        given_at(cookies, 0.0, client=i.to_bytes(8, "big"))
    assert len(cookies._known) <= KNOWN_MAX


@pytest.mark.parametrize("size", range(48))
def test_sizes_are_those_of_rfc_7873(size: int) -> None:
    assert is_sized(bytes(size)) == (size == 8 or 16 <= size <= 40)


@CALM
@given(st.binary(min_size=16, max_size=40), st.floats(0, 1e9))
def test_no_bytes_are_a_cookie_by_chance(cookie: bytes, now: float) -> None:
    known = jar().known(cookie, HOST, now)
    assert not known.is_ours
    assert known.reply[:8] == cookie[:8]
    assert len(known.reply) == 24
