"""The engine's own rules: which port, which settings take effect, where a configuration comes from."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from p2pdns.config import Config
from p2pdns.engine import main as engine_main
from p2pdns.engine.settings import resolver_settings
from p2pdns.errors import Unavailable
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.net import families
from p2pdns.net.families import dht_socket
from p2pdns.net.sockets import address_of
from p2pdns.resolver.blocking import BlockedNames
from p2pdns.state import State
from tests.waiting import at_rest

GUARD_S = 20.0
ALICE = ZoneId.of_key(SecretKey.generate(b"\x01" * 32).zone_key)
BOB = ZoneId.of_key(SecretKey.generate(b"\x02" * 32).zone_key)


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Leave no log behind that writes to a captured stream of a test that is over."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def busy_port() -> Iterator[int]:
    """Hold a port on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])


def port_of(listen: str, last_port: int | None) -> int:
    """Return the port that the DHT would get."""
    with dht_socket(listen, last_port) as sock:
        return address_of(sock)[1]


def test_any_port_means_the_one_of_the_last_run_where_it_is_free(busy_port: int) -> None:
    first = port_of("127.0.0.1:0", None)
    assert port_of("127.0.0.1:0", first) == first
    assert port_of("127.0.0.1:0", busy_port) not in (0, busy_port)


def test_the_default_port_gives_way_to_the_next_free_one(busy_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    listen = f"127.0.0.1:{busy_port}"
    with pytest.raises(Unavailable, match=str(busy_port)):
        port_of(listen, None)
    monkeypatch.setattr(families, "DHT_LISTEN_DEFAULT", listen)
    assert busy_port < port_of(listen, None) < busy_port + families.PORTS_TRIED_MAX
    last = port_of("127.0.0.1:0", None)
    assert port_of(listen, last) == last


def test_when_no_port_is_free_the_first_one_is_named(busy_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    listen = f"127.0.0.1:{busy_port}"
    monkeypatch.setattr(families, "DHT_LISTEN_DEFAULT", listen)
    monkeypatch.setattr(families, "PORTS_TRIED_MAX", 1)
    with pytest.raises(Unavailable, match=listen):
        port_of(listen, busy_port)


def test_a_petname_of_the_configuration_wins_over_one_of_the_state() -> None:
    state = State.open(None)
    state.reader.names.keep({"alice": BOB, "bob": BOB})
    config = replace(Config(), names={"alice": str(ALICE)}, zones=replace(Config().zones, private_zones=("bob",)))
    settings = resolver_settings(config, state.reader.names.read(), BlockedNames())
    assert settings.petnames == {b"alice": ALICE, b"bob": BOB}
    assert settings.trusted == frozenset({BOB})
    state.close()


def test_a_hangup_while_block_lists_are_read_is_answered_when_the_engine_is_open() -> None:
    told: list[str] = []

    class Slow:
        """An engine that hears the signal in the midst of its start, and is told to end when nothing is left to do."""

        def __init__(self) -> None:
            told.append("made")

        async def open(self) -> None:
            os.kill(os.getpid(), signal.SIGHUP)
            await at_rest()
            told.append("open")
            self.end = asyncio.create_task(self.end_anyway())

        async def end_anyway(self) -> None:
            await at_rest()
            os.kill(os.getpid(), signal.SIGTERM)

        def on_hangup(self) -> None:
            told.append("reloaded")

        async def close(self) -> None:
            told.append("closed")

    asyncio.run(asyncio.wait_for(engine_main._serve(cast(Any, Slow), None), GUARD_S))
    assert told == ["made", "open", "reloaded", "closed"]


def test_what_was_loaded_is_never_looked_through_for_what_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full collection took 17 ms, and every question of that moment as much longer."""
    told: list[str] = []

    async def serve(*_: object) -> None:
        told.append("serving")

    monkeypatch.setattr(engine_main, "_serve", serve)
    monkeypatch.setattr(gc, "collect", lambda: told.append("collected"))
    monkeypatch.setattr(gc, "freeze", lambda: told.append("frozen"))
    monkeypatch.setattr(gc, "set_threshold", lambda young: told.append("seldom" if young >= 10_000 else "often"))
    assert engine_main.run(Config(), tmp_path) == 0
    assert told == ["collected", "frozen", "seldom", "serving"]


def test_an_expected_error_is_two_lines_and_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "state"
    file.write_text("")
    assert engine_main.main(["--state", str(file)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"p2pdns: error: {file}: file exists, and is no directory",
        "p2pdns: hint: say --state DIR with a directory of your own",
    ]
