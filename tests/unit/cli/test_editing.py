"""`publish` and `diff` through a daemon with scripted replies: public addresses, and exit statuses of `diff`."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pdns.admin.control import Progress
from p2pdns.admin.control_server import ControlServer
from p2pdns.cli import ui, watching
from p2pdns.cli.main import main
from p2pdns.clock import unix_now
from p2pdns.errors import Unavailable
from p2pdns.items.item import SEQ_PER_SECOND, MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.packet import zone_of
from p2pdns.publishing import watching as rules

WAIT_S_MAX = 20.0  # Only a test that hangs waits so long.
SECRET = SecretKey.generate(b"\x07" * 32)
KEY = str(SECRET.zone_key)
V4 = "93.184.216.34"


class Daemon:
    """A daemon that holds what is published, and knows what it is told."""

    def __init__(self) -> None:
        self.public: dict[str, Any] = {}
        self.item: MutableItem | None = None
        self.is_complete = True
        self.connections = 0
        self.tells_zones = True

    async def public_address(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return what contacts report."""
        return self.public

    async def names(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return a petname."""
        return {"names": {"alice": {"key": KEY, "from": "state"}}}

    async def zones(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return no zone that has moved."""
        if not self.tells_zones:
            raise Unavailable("going away")
        return {"zones": [], "moved": []}

    async def seq(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Return what is published."""
        return self._seen()

    async def publish(self, request: dict[str, Any], report: Progress) -> dict[str, Any]:
        """Take an item."""
        self.item = MutableItem.read_file(bytes.fromhex(request["item"]))
        return {"sent": 3, "stored": 3, "refused": {}, "held": [], "seen": self._seen()}

    def _seen(self) -> dict[str, Any]:
        versions = [] if self.item is None else [{"item": self.item.to_bytes().hex(), "holders": 3}]
        return {"versions": versions, "complete": self.is_complete, "mark": None}

    @contextmanager
    def serving(self, directory: Path) -> Iterator[None]:
        """Answer at the control socket, from a thread."""
        ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
        verbs = {
            "public-address": self.public_address,
            "names": self.names,
            "seq": self.seq,
            "publish": self.publish,
            "zones": self.zones,
        }

        async def serve() -> None:
            server = ControlServer(directory, verbs)
            await server.open()
            ready.set()
            await stop.wait()
            await server.close()

        thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
        thread.start()
        try:
            assert ready.wait(WAIT_S_MAX)
            yield
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(WAIT_S_MAX)
            loop.close()


class Desk:
    """A folder with a key, a zone file and a state directory; what a command printed last."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.key, self.zone, self.state = folder / "a.key", folder / "a.zone", folder / "state"
        self.key.touch(0o600)
        self.key.write_bytes(SECRET.write(None))
        self.state.mkdir(mode=0o700)
        self.daemon = Daemon()
        self._capsys = capsys
        self.out, self.err = "", list[str]()

    def run(self, verb: str, *words: str) -> int:
        """Run a verb on the zone file, and return its exit status."""
        code = main([verb, *words, "--state", str(self.state), str(self.zone)])
        printed = self._capsys.readouterr()
        self.out, self.err = printed.out, [line.removeprefix("p2pdns: ") for line in printed.err.splitlines()]
        return code

    def publish(self, *words: str) -> int:
        """Publish the zone file."""
        return self.run("publish", "-k", str(self.key), *words)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Yield a desk whose daemon answers."""
    monkeypatch.setenv("P2PDNS_CONFIG", "/dev/null")
    found = Desk(tmp_path, capsys)
    with found.daemon.serving(found.state):
        yield found


def report(address: str | None, host: str | None, count: int, prefixes: int) -> dict[str, Any]:
    """Return a daemon's word on one family."""
    return {"address": address, "host": host, "count": count, "prefixes": prefixes}


def addresses_in(item: MutableItem | None) -> list[str]:
    """Return the addresses of an item, as four numbers each."""
    assert item is not None
    return [".".join(map(str, rdata)) for rrset in zone_of(item).rrsets.values() for rdata in rrset.rdatas]


# Public addresses


def test_a_public_address_is_published_as_the_daemon_knows_it(desk: Desk) -> None:
    desk.daemon.public = {"ipv4": report(V4, V4, 3, 4)}
    desk.zone.write_text("home A {public_ipv4}\n")
    assert desk.publish("--json") == 0
    assert json.loads(desk.out)["public"] == {"public_ipv4": V4}
    assert addresses_in(desk.daemon.item) == [V4]
    assert desk.publish() == 0
    assert f"{desk.zone}: {{public_ipv4}} is {V4}" in desk.err


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (report(None, V4, 2, 2), f"2 of 3 prefixes report {V4} so far"),
        (report(None, V4, 3, 6), f"only 3 of 6 prefixes report {V4}, and more than half must"),
        (report(None, None, 0, 0), "no contact in another network has reported one so far"),
        (report("192.168.1.2", "192.168.1.2", 9, 9), "no contact in another network has reported one so far"),
    ],
)
def test_an_address_that_is_not_known_yet_is_one_error_that_says_what_is(
    desk: Desk, reply: dict[str, Any], hint: str
) -> None:
    desk.daemon.public = {"ipv4": reply}
    desk.zone.write_text("a A 192.0.2.1\nhome A {public_ipv4}\nvpn A {public_ipv4}\n")
    assert desk.publish() == 1
    assert desk.err == [
        f"error: {desk.zone}:2: {{public_ipv4}} is not filled: the daemon does not know the address yet",
        f"hint: {hint}",
    ]
    assert desk.daemon.item is None


def test_no_daemon_is_asked_where_no_placeholder_needs_one(desk: Desk) -> None:
    desk.daemon.public = {"ipv4": report(V4, V4, 1, 1)}
    desk.zone.write_text("home A 192.0.2.1 ; {public_ipv4}\n")
    assert desk.publish() == 0
    assert addresses_in(desk.daemon.item) == ["192.0.2.1"]


# diff


def test_equal_different_and_unknown_have_exit_statuses_of_their_own(desk: Desk) -> None:
    desk.zone.write_text("www A 192.0.2.1\nftp A 192.0.2.2\n")
    assert desk.publish() == 0
    assert desk.run("diff", "--key", KEY) == 0
    assert desk.out == ""
    desk.zone.write_text("www A 192.0.2.1\nwww A 192.0.2.9\nnew A 192.0.2.3\n")
    assert desk.run("diff", "--key", "alice") == 1
    assert desk.out.splitlines() == [
        "- ftp A",
        "  - ftp 300 A 192.0.2.2",
        "~ www A",
        "  + www 300 A 192.0.2.9",
        "+ new A",
        "  + new 300 A 192.0.2.3",
    ]
    desk.daemon.is_complete = False
    assert desk.run("diff", "--key", KEY) == 2
    assert "the look-up was not complete" in desk.err[0]
    desk.zone.write_text("www A\n")
    assert desk.run("diff", "--key", KEY) == 2


def test_a_difference_in_json_is_an_answer_and_no_failure(desk: Desk) -> None:
    desk.zone.write_text("www A 192.0.2.1\n")
    assert desk.run("diff", "-k", str(desk.key), "--json") == 1
    record = "www 300 A 192.0.2.1"
    assert json.loads(desk.out) == {
        "zone": KEY,
        "petname": "alice",
        "file": str(desk.zone),
        "published": None,
        "equal": False,
        "commitment": None,
        "differences": [{"owner": "www", "type": "A", "kind": "added", "before": [], "after": [record]}],
    }
    assert not list(desk.key.parent.glob("*.published"))


def test_a_value_that_is_no_zone_is_not_called_an_empty_one(desk: Desk) -> None:
    desk.daemon.item = MutableItem.signed(SECRET, int(unix_now() * SEQ_PER_SECOND), b"5:hello")
    desk.zone.write_text("www A 192.0.2.1\n")
    assert desk.run("diff", "--key", KEY) == 2
    assert "what is published is not a zone" in desk.err[0]


def test_of_two_versions_the_newest_that_is_not_from_the_future_counts(desk: Desk) -> None:
    desk.zone.write_text("www A 192.0.2.1\n")
    assert desk.publish() == 0
    first = desk.daemon.item
    assert first is not None
    ahead = int((unix_now() + 30 * 86_400) * SEQ_PER_SECOND)
    desk.daemon.item = MutableItem.signed(SECRET, ahead, first.value)
    assert desk.run("diff", "--key", KEY) == 1
    assert desk.out.startswith("+ www A")


# --watch


class Scene:
    """What happens while the zone file of a desk is watched, a step at each wake-up; a signal ends it."""

    def __init__(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.desk = desk
        self.steps: list[Callable[[], object]] = []
        # No step waits: the pauses are those of tests/unit/publishing/test_watching.py.
        for name in ("SETTLE_S", "PUBLISH_S_MIN", "RETRY_S"):
            monkeypatch.setattr(rules, name, 0.0)
        monkeypatch.setattr(watching, "wakes_of", lambda path: self._wakes())

    def _wakes(self) -> Iterator[bool]:
        yield True
        for step in self.steps:
            step()
            yield True
        signal.raise_signal(signal.SIGTERM)
        yield False

    def save(self, text: str) -> None:
        """Have the file saved at the next step."""
        self.steps.append(lambda: self.desk.zone.write_text(text))

    def events(self, *words: str) -> list[dict[str, Any]]:
        """Watch until the end, which is no failure, and return the lines of JSON."""
        assert self.desk.publish("--watch", "--json", *words) == 0, self.desk.err
        return [json.loads(line) for line in self.desk.out.splitlines()]


@pytest.fixture
def scene(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Return a scene at a desk, at a terminal where nobody sits."""
    monkeypatch.setattr(ui, "is_interactive", lambda: True)

    def nobody(question: str) -> bool:
        raise AssertionError(f"nobody is there to be asked: {question}")

    monkeypatch.setattr(ui, "ask_yes", nobody)
    desk.zone.write_text("www A 192.0.2.1\nftp A 192.0.2.2\nmail A 192.0.2.3\n")
    return Scene(desk, monkeypatch)


def test_what_is_saved_is_published_and_a_broken_file_keeps_the_old_zone(scene: Scene) -> None:
    scene.save("www A 192.0.2.1\nftp A\n")
    scene.save("www A 192.0.2.9\nftp A 192.0.2.2\nmail A 192.0.2.3\n")
    first, kept, second = scene.events()
    assert [first["event"], kept["event"], second["event"]] == ["published", "kept", "published"]
    assert kept["error"].startswith(f"{scene.desk.zone}:2: ")
    assert kept["seq"] == first["seq"] < second["seq"]
    assert second["changes"] == {"added": [], "removed": [], "changed": ["www A"]}
    assert "192.0.2.9" in addresses_in(scene.desk.daemon.item)


def test_in_a_watch_most_of_a_zone_goes_only_with_yes(scene: Scene) -> None:
    scene.save("www A 192.0.2.1\n")
    _, kept = scene.events()
    assert kept["event"] == "kept"
    assert "2 of 3 RRsets of the published zone would go" in kept["error"]
    assert len(addresses_in(scene.desk.daemon.item)) == 3
    scene.desk.zone.write_text("www A 192.0.2.1\nftp A 192.0.2.2\nmail A 192.0.2.3\n")
    assert [event["event"] for event in scene.events("--yes")] == ["published", "published"]
    assert addresses_in(scene.desk.daemon.item) == ["192.0.2.1"]


def test_in_a_watch_force_holds_for_the_first_publication(scene: Scene) -> None:
    def elsewhere() -> None:
        item = scene.desk.daemon.item
        assert item is not None
        # As another copy of the key would publish it.
        scene.desk.daemon.item = MutableItem.signed(SECRET, item.seq + 1, item.value[:-1] + b"\x63")

    elsewhere_first = MutableItem.signed(SECRET, int((unix_now() - 60) * SEQ_PER_SECOND), b"5:hello")
    scene.desk.daemon.item = elsewhere_first
    scene.steps.append(elsewhere)
    scene.save("www A 192.0.2.9\nftp A 192.0.2.2\nmail A 192.0.2.3\n")
    first, refused = scene.events("--force")
    assert (first["event"], refused["event"]) == ("published", "failed")
    assert "was not made by this key file" in refused["error"]


def test_a_comment_and_a_touch_are_no_publications(scene: Scene) -> None:
    text = scene.desk.zone.read_text()
    scene.save(text)
    scene.save(f"; a comment\n{text}")
    assert len(scene.events()) == 1
    assert f"{scene.desk.zone}: nothing changes for readers" in " ".join(scene.desk.err)


def test_while_the_daemon_is_away_nothing_is_put_by_another_node_and_then_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A short-lived node would begin here, and nobody would keep alive what it puts.
    config = tmp_path / "p2pdns.toml"
    config.write_text('[dht]\nnetwork = "nobody"\nbootstrap = ["127.0.0.1:9"]\n')
    monkeypatch.setenv("P2PDNS_CONFIG", str(config))
    desk = Desk(tmp_path, capsys)
    desk.zone.write_text("www A 192.0.2.1\n")
    scene = Scene(desk, monkeypatch)
    with ExitStack() as life:
        life.enter_context(desk.daemon.serving(desk.state))
        scene.steps.append(life.pop_all().close)
        scene.save("www A 192.0.2.9\n")
        scene.steps.append(lambda: life.enter_context(desk.daemon.serving(desk.state)))
        first, failed, second = scene.events()
    assert [first["event"], failed["event"], second["event"]] == ["published", "failed", "published"]
    assert "no daemon runs here" in failed["error"]
    assert addresses_in(desk.daemon.item) == ["192.0.2.9"]


def test_flags_that_do_not_go_together_are_refused(desk: Desk) -> None:
    desk.zone.write_text("www A 192.0.2.1\n")
    for words in (["--hook", "true"], ["--watch", "--dry-run"], ["--watch", "--hook", "no-such-program"]):
        assert desk.publish(*words) == 2
        assert len([line for line in desk.err if line.startswith("error:")]) == 1
    assert desk.daemon.item is None


def test_a_daemon_that_cannot_tell_its_zones_makes_no_failure_of_what_is_stored(desk: Desk) -> None:
    desk.daemon.tells_zones = False
    desk.zone.write_text("www A 192.0.2.1\n")
    assert desk.publish("--json") == 0, desk.err
    assert desk.daemon.item is not None
