"""Kills, broken files and signals at any moment: names stay true, what was published stays, nothing is left behind."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.edns
import dns.exception
import dns.message
import dns.rcode
import pytest

from tests.live.front_process import wait_until
from tests.live.served import KEY, NETWORK, OTHER_ADDRESS, WWW_ADDRESS, ZONE, Served
from tests.live.test_supervisor import children_of, is_alive

QUESTION_COUNT = 1_000
ASKER_COUNT = 4  # So that some question is on its way at every moment.
ANSWER_TIMEOUT_S = 2.5  # A client's; the daemon's own deadline is shorter.
BACK_GUARD_S = 30.0  # Ten times what is promised; the pause of the supervisor is held by tests/live/test_supervisor.py.
KILLS = (("front",), ("engine",), ("front", "engine"))


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Return a node that holds the zone, and from which everybody else has it."""
    folder = tmp_path_factory.mktemp("holder")
    node = Served(folder / "state", "--no-dns")
    node.publish_here(folder)
    yield node
    assert node.end() == 0


def bootstrap(holder: Served) -> list[str]:
    """Return the flags that lead to a node."""
    return ["--bootstrap", str(holder.status()["dht_address"])]


class Askers:
    """Clients that ask until all questions are asked, and what they were told."""

    def __init__(self, daemon: Served) -> None:
        self.answers: list[tuple[str, dns.message.Message]] = []
        self.lost_count = 0
        self._daemon = daemon
        self._numbers = iter(range(QUESTION_COUNT))
        self._threads = [threading.Thread(target=self._ask) for _ in range(ASKER_COUNT)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        for number in self._numbers:
            # A name that the cache of a front has, and names that the engine must be asked for.
            name = f"www.{KEY}" if number % 3 == 0 else f"n{number}.{KEY}"
            try:
                self.answers.append((name, self._daemon.ask(name, ANSWER_TIMEOUT_S)))
            except (dns.exception.Timeout, OSError):
                self.lost_count += 1

    @property
    def asked_count(self) -> int:
        """How many questions have ended."""
        return len(self.answers) + self.lost_count

    def join(self) -> None:
        """Wait until all questions have ended."""
        for thread in self._threads:
            thread.join(BACK_GUARD_S)
            assert not thread.is_alive()


def is_answering(daemon: Served, name: str) -> bool:
    """Return whether a name that no cache has is answered now."""
    try:
        return daemon.ask(name, 0.5).rcode() == dns.rcode.NOERROR
    except (dns.exception.Timeout, OSError):
        return False


def test_kill_9_during_a_thousand_questions_makes_no_answer_wrong_and_loses_no_publication(
    tmp_path: Path, holder: Served
) -> None:
    daemon = Served(tmp_path / "state", *bootstrap(holder))
    # Published here: the engine that is going to be killed is the one that promised to keep it.
    assert daemon.publish(tmp_path).returncode == 0
    seq = daemon.control.call("seq", key=KEY)["seq"]
    askers = Askers(daemon)
    for round_number, names in enumerate(KILLS, 1):
        enough = round_number * QUESTION_COUNT // (len(KILLS) + 1)
        wait_until(lambda enough=enough: askers.asked_count >= enough, "more answers", BACK_GUARD_S)  # type: ignore[misc]
        pids = [children_of(daemon.process.pid)[name] for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda pids=pids: not any(map(is_alive, pids)), "the end of those killed")  # type: ignore[misc]
        fresh = (f"after{round_number}-{attempt}.{KEY}" for attempt in itertools.count())
        wait_until(lambda fresh=fresh: is_answering(daemon, next(fresh)), "service", BACK_GUARD_S)  # type: ignore[misc]
    askers.join()
    assert askers.asked_count == QUESTION_COUNT
    for name, reply in askers.answers:
        assert reply.rcode() in (dns.rcode.NOERROR, dns.rcode.SERVFAIL), reply
        if reply.rcode() == dns.rcode.NOERROR:
            expected = WWW_ADDRESS if name.startswith("www.") else OTHER_ADDRESS
            assert [str(rrset[0]) for rrset in reply.answer] == [expected], reply
    # A kill costs what was on its way, and no more.
    assert sum(reply.rcode() == dns.rcode.NOERROR for _, reply in askers.answers) > QUESTION_COUNT * 0.9
    assert daemon.control.call("seq", key=KEY)["seq"] == seq
    assert daemon.status()["reader"] == {"keys": 1, "kept_alive": 1}
    assert daemon.end() == 0


def test_kill_9_after_a_first_answer_opens_no_way_below_it(tmp_path: Path) -> None:
    # Two nodes that do not know each other: one has the zone as it was, the other as it is.
    nodes = []
    for name, address in (("old", "192.0.2.66"), ("new", WWW_ADDRESS)):
        folder = tmp_path / name
        folder.mkdir()
        nodes.append(Served(folder / "state", "--no-dns"))
        nodes[-1].publish(folder, f"$TTL 300\nwww A {address}\n")
    old, new = nodes
    reader = Served(tmp_path / "state", *bootstrap(new))
    pids = children_of(reader.process.pid)
    assert reader.address_of(f"www.{KEY}") == WWW_ADDRESS
    # Held first: it would start another engine.
    reader.process.send_signal(signal.SIGSTOP)
    os.kill(pids["engine"], signal.SIGKILL)
    reader.process.kill()
    reader.process.wait()
    wait_until(lambda: not any(map(is_alive, pids.values())), "the end of the children")
    assert new.end() == 0
    # From now on whoever is asked replays.
    reader = Served(tmp_path / "state", *bootstrap(old))
    reply = reader.ask(f"www.{KEY}")
    assert (reply.rcode(), reply.answer) == (dns.rcode.SERVFAIL, []), reply
    (error,) = [option for option in reply.options if isinstance(option, dns.edns.EDEOption)]
    assert error.text is not None
    assert "only older items can be had" in error.text
    assert reader.status()["roll_back_protection"] == "whole"
    assert reader.status()["reader"]["keys"] == 1
    assert reader.end() == 0
    assert old.end() == 0


# Broken files


def _with_both(spoil: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil_both(state: Path) -> None:
        for name in ("reader.sqlite", "store.sqlite"):
            spoil(state / name)

    return spoil_both


def _sql(*statements: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return run


def _forged_rows(state: Path) -> None:
    _sql("UPDATE marks SET seq = seq + 1000000000")(state / "reader.sqlite")
    _sql("UPDATE items SET value = x'33', signature = zeroblob(64)")(state / "store.sqlite")


def _forged_neighbours(state: Path) -> None:
    _sql("INSERT INTO names VALUES ('a.b', 'no key'), ('', '')")(state / "reader.sqlite")
    _sql(
        f"INSERT OR REPLACE INTO contacts VALUES ('{NETWORK}', 0, zeroblob(20), 'not an address', 5, 1.0, 1.0)",
        "UPDATE nodes SET node_id = x'00'",
    )(state / "store.sqlite")


def _garbage_and_cut_short(state: Path) -> None:
    (state / "reader.sqlite").write_bytes(random.Random(1).randbytes(9_000))
    (state / "store.sqlite").write_bytes((state / "store.sqlite").read_bytes()[:5_000])


def _forged(state: Path) -> None:
    _forged_rows(state)
    _forged_neighbours(state)


# tests/unit/state/test_state.py spoils each file in each way; these are what a daemon makes of it.
SPOILT = {
    "garbage and cut short": (_garbage_and_cut_short, "set aside as"),
    "other tables": (_with_both(_sql("CREATE TABLE other (x)")), "set aside as"),
    "forged rows": (_forged, "does not verify"),
}


@pytest.fixture(scope="module")
def ended_state(tmp_path_factory: pytest.TempPathFactory, holder: Served) -> dict[str, bytes]:
    """Return the files of a daemon that has read and published, and has ended."""
    folder = tmp_path_factory.mktemp("ended")
    daemon = Served(folder / "state", *bootstrap(holder))
    assert daemon.publish(folder).returncode == 0
    assert daemon.end() == 0
    return {path.name: path.read_bytes() for path in daemon.state.glob("*.sqlite")}


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_after_broken_files_are_set_aside_the_daemon_serves_and_publishes(
    tmp_path: Path, holder: Served, ended_state: dict[str, bytes], spoil: Callable[[Path], None], words: str
) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    for name, content in ended_state.items():
        (state / name).write_bytes(content)
    spoil(state)
    daemon = Served(state, *bootstrap(holder))
    assert words in daemon.said()
    assert daemon.address_of(f"www.{KEY}") == WWW_ADDRESS
    assert daemon.ask(f"a.www.{KEY}").rcode() == dns.rcode.NXDOMAIN, "below a name that the wildcard does not cover"
    assert daemon.publish(tmp_path, ZONE).returncode == 0
    # A row that does not verify costs its item; its mark is another row.
    assert ("starts anew" in daemon.status()["roll_back_protection"]) == (words == "set aside as")
    assert daemon.end() == 0
    if words == "set aside as":
        assert {path.name for path in state.glob("*.corrupt-1")} == {
            "reader.sqlite.corrupt-1",
            "store.sqlite.corrupt-1",
        }


# Signals


def _at_once(daemon: Served) -> bool:
    return True


def _loading(daemon: Served) -> bool:
    # The interpreter is up and takes in modules; no handler is set yet.
    try:
        return "lib-dynload" in Path(f"/proc/{daemon.process.pid}/maps").read_text() or _starting_children(daemon)
    except (FileNotFoundError, ProcessLookupError):
        return True


def _starting_children(daemon: Served) -> bool:
    return bool(children_of(daemon.process.pid)) or daemon.process.poll() is not None


def _locked(daemon: Served) -> bool:
    return (daemon.state / "lock").exists()


def _linked(daemon: Served) -> bool:
    return (daemon.state / "link.sock").exists()


def _ready(daemon: Served) -> bool:
    return daemon.control.is_running()


PHASES = [_at_once, _loading, _starting_children, _locked, _linked, _ready]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_at_any_moment_of_the_start_leaves_nothing_behind(
    tmp_path: Path, phase: Callable[[Served], bool], number: signal.Signals
) -> None:
    daemon = Served(tmp_path / "state", is_ready=False)
    wait_until(lambda: phase(daemon), "the moment")
    # `end` looks for processes, sockets and tracebacks. Before there are handlers, the signal itself is the end.
    early = {-number, 130 if number == signal.SIGINT else 0, 0}
    assert daemon.end(number) in ({0} if phase in (_locked, _linked, _ready) else early)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_killed_engine_is_away_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    daemon = Served(tmp_path / "state")
    engine = children_of(daemon.process.pid)["engine"]
    os.kill(engine, signal.SIGKILL)
    wait_until(lambda: not is_alive(engine), "its end")
    assert (daemon.state / "control.sock").exists(), "a killed engine cleans nothing up"
    assert daemon.end(number) == 0


def test_a_killed_supervisor_takes_all_with_it_and_the_next_one_starts_at_once(tmp_path: Path) -> None:
    daemon = Served(tmp_path / "state")
    pids = list(children_of(daemon.process.pid).values())
    daemon.process.kill()
    daemon.process.wait()
    wait_until(lambda: not any(map(is_alive, pids)), "the end of the children")
    assert not list(daemon.state.glob("*.sock"))
    again = Served(tmp_path / "state")
    assert again.ask("p2p.alt").rcode() == dns.rcode.NOERROR
    assert again.end() == 0
