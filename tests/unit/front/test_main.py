"""The front process put together: what of a configuration reaches its parts."""

from __future__ import annotations

import dataclasses
import gc
import tempfile
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest

from p2pdns.config import CacheTable, Config, DnsTable
from p2pdns.front import main as front_main
from p2pdns.front.main import Front
from p2pdns.front.transport import UDP
from p2pdns.link import Answer, ClientClass, QuestionFrame
from p2pdns.values import replace
from tests.front_messages import TXT, answer, opt, query

MEBIBYTE = 1 << 20
LISTED, ALLOWED, STRANGER = "192.0.2.1", "192.0.2.129", "198.51.100.1"


def with_cache(**settings: int) -> Config:
    """Return a configuration with other settings of [cache]."""
    return dataclasses.replace(Config(), cache=dataclasses.replace(CacheTable(), **settings))


def with_dns(**settings: tuple[str, ...] | int) -> Config:
    """Return a configuration with other settings of [dns]."""
    return dataclasses.replace(Config(), dns=dataclasses.replace(DnsTable(), **settings))  # type: ignore[arg-type]


class World:
    """A front without sockets, whose engine answers every question at once."""

    def __init__(self, directory: Path, config: Config) -> None:
        self.front = Front(config, directory)
        self.asked: list[QuestionFrame] = []
        self.now = 1.0
        self.front.funnel.send_query = self.asked.append
        # Nothing here waits, so there is no event loop that a timer could be set in.
        self.front.funnel.on_timer_changed = lambda: None
        self.front.funnel.engine_connected(1, 0.0)

    def ask(self, host: str, data: bytes, given: Answer) -> dns.message.Message:
        """Return what a client gets."""
        replies: list[bytes] = []
        # Refusals are rationed; a second apart each is told.
        self.now += 1.0
        funnel = self.front.funnel
        response = funnel.receive(data, (host, 4000), replies.append, self.now, UDP)
        if response is None:
            funnel.frame_received(replace(given, id=self.asked[-1].id), self.now)
            (response,) = replies
        return dns.message.from_wire(response)


@pytest.mark.parametrize(
    ("host", "client_class", "has_ad"),
    [
        ("127.0.0.1", ClientClass.LOOPBACK, True),
        (LISTED, ClientClass.LISTED, True),
        (ALLOWED, ClientClass.OTHER, False),
    ],
)
def test_a_trusted_client_gets_ad_and_counts_as_listed_at_the_engine(
    tmp_path: Path, host: str, client_class: ClientClass, has_ad: bool
) -> None:
    config = with_dns(allow=("127.0.0.0/8", "192.0.2.128/25"), trusted_clients=("192.0.2.0/28",))
    world = World(tmp_path, config)
    given = answer(made_at=1.0, ad_eligible=True)
    # Once from the engine, then from the cache, then from the memo.
    for _ in range(3):
        reply = world.ask(host, query(flags=0x0120), given)
        assert bool(reply.flags & dns.flags.AD) is has_ad
        assert reply.answer
    assert [asked.ask.client_class for asked in world.asked] == [client_class]


def test_what_one_client_is_trusted_with_no_other_gets_from_the_cache(tmp_path: Path) -> None:
    world = World(tmp_path, with_dns(allow=("192.0.2.128/25",), trusted_clients=("192.0.2.0/28",)))
    given = answer(made_at=1.0, ad_eligible=True)
    for _ in range(3):
        assert world.ask(LISTED, query(flags=0x0120), given).flags & dns.flags.AD
        assert not world.ask(ALLOWED, query(flags=0x0120), given).flags & dns.flags.AD
        assert world.ask(STRANGER, query(flags=0x0120), given).rcode() == dns.rcode.REFUSED


def test_trust_comes_and_goes_with_a_new_configuration(tmp_path: Path) -> None:
    world = World(tmp_path, Config())
    given = answer(made_at=1.0, ad_eligible=True)
    assert world.ask(LISTED, query(flags=0x0120), given).rcode() == dns.rcode.REFUSED
    world.front.apply(with_dns(trusted_clients=(LISTED,)))
    assert world.ask(LISTED, query(flags=0x0120), given).flags & dns.flags.AD
    world.front.apply(Config())
    assert world.ask(LISTED, query(flags=0x0120), given).rcode() == dns.rcode.REFUSED


def test_a_new_udp_size_holds_for_the_next_response_to_the_same_datagram(tmp_path: Path) -> None:
    world = World(tmp_path, Config())
    given = answer(rtype=TXT, rdatas=[b"\x03%03d" % i for i in range(60)], made_at=1.0)
    data = query(rtype=TXT, records=[opt(4096)])
    for size_bytes, is_cut in ((1232, False), (512, True), (4096, False)):
        world.front.apply(with_dns(udp_size_bytes_max=size_bytes))
        reply = world.ask("127.0.0.1", data, given)
        assert bool(reply.flags & dns.flags.TC) is is_cut
        assert reply.payload == size_bytes
    assert len(world.asked) == 1


def test_cookies_are_required_from_the_moment_the_configuration_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, Config())
    data = query(records=[opt(options=b"\x00\x0a\x00\x08clientco")])
    for is_required, rcode in ((False, "NOERROR"), (True, "BADCOOKIE"), (False, "NOERROR")):
        world.front.apply(with_dns(require_cookies=is_required))
        for _ in range(3):
            reply = world.ask("127.0.0.1", data, answer(made_at=1.0))
            assert dns.rcode.to_text(reply.rcode()) == rcode
    assert len(world.asked) == 1


def test_new_times_of_the_cache_hold_for_what_is_asked_next(tmp_path: Path) -> None:
    world = World(tmp_path, Config())
    given = answer(made_at=1.0)
    assert world.ask("127.0.0.1", query(), given).answer[0].ttl > 100
    world.front.apply(with_cache(ttl_s_max=60))
    assert world.ask("127.0.0.1", query(), given).answer[0].ttl <= 60
    # What was accepted under the old times is asked again; with the same times nothing is.
    assert len(world.asked) == 2
    world.front.apply(with_cache(ttl_s_max=60))
    world.ask("127.0.0.1", query(), given)
    assert len(world.asked) == 2


def test_a_smaller_cache_makes_room_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, Config())
    cache = world.front.funnel.cache
    for number in range(1400):
        name = f"n{number}.example"
        world.ask("127.0.0.1", query(name), answer(name, made_at=world.now))
    assert cache.size_bytes > MEBIBYTE
    world.front.apply(with_cache(answers_bytes_max=MEBIBYTE))
    assert 0.9 * MEBIBYTE < cache.size_bytes <= MEBIBYTE
    world.ask("127.0.0.1", query(name), answer(name, made_at=world.now))
    assert len(world.asked) == 1400, "the latest are kept"


def test_what_was_loaded_is_never_looked_through_for_what_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    async def serve(*_: object) -> None:
        told.append("serving")

    monkeypatch.setattr(front_main, "serve", serve)
    monkeypatch.setattr(gc, "collect", lambda: told.append("collected"))
    monkeypatch.setattr(gc, "freeze", lambda: told.append("frozen"))
    monkeypatch.setattr(gc, "set_threshold", lambda young: told.append("seldom" if young >= 10_000 else "often"))
    with tempfile.TemporaryFile() as file:
        file.write(Config().to_json().encode())
        file.flush()
        words = ["--config-fd", str(file.fileno()), "--alive-fd", "0", "--state", str(tmp_path)]
        assert front_main.main(words) == 0
    assert told == ["collected", "frozen", "seldom", "serving"]


@pytest.mark.parametrize("missing", ["--config-fd", "--alive-fd", "--state"])
def test_a_front_that_is_not_given_all_ends_with_wrong_usage(missing: str) -> None:
    given = {"--config-fd": "3", "--alive-fd": "4", "--state": "/"}
    assert front_main.read_arguments([word for pair in given.items() for word in pair]).alive_fd == 4
    del given[missing]
    with pytest.raises(SystemExit) as refused:
        front_main.read_arguments([word for pair in given.items() for word in pair])
    assert refused.value.code == 2
