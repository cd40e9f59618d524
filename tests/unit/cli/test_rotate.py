"""`rotate`: which next key is believed to be the right one, what moves, and what is revealed when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from p2pdns.cli import committed, made, rotate
from p2pdns.cli.main import main
from p2pdns.cli.petnames import Book
from p2pdns.dht.node.values import Others
from p2pdns.errors import DaemonGone
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.items.packet import compose_packet, zone_of
from p2pdns.items.succession import commitment_of, commitment_to, succession_values, with_commitment
from p2pdns.publishing.changes import Content
from p2pdns.publishing.edits import EditJournal
from p2pdns.publishing.memory import Memory
from p2pdns.publishing.publication import Publication, Rules
from p2pdns.publishing.replicas import Seen, Tell, Tried, Version
from p2pdns.publishing.stored import Stored
from tests.overlay_doubles import rrsets

OLD, NEXT, THIEF, THIRD = (SecretKey.generate(bytes([number]) * 32) for number in (1, 2, 3, 4))
KEY = OLD.zone_key
SEQ = 1_790_000_000_000_000


def edition(following: SecretKey | None, seq: int, *lines: str) -> MutableItem:
    """Return an item of the old key with these lines, committed to a next key."""
    value = compose_packet(rrsets(KEY.apex, *lines), KEY.apex)
    if following is not None:
        value = with_commitment(value, KEY, commitment_to(KEY, following))
    return MutableItem.signed(OLD, seq, value)


MINE = edition(NEXT, SEQ, "www 300 A 192.0.2.1", "mail 300 MX 10 www")
STOLEN = edition(THIEF, SEQ + 1, "www 300 A 192.0.2.66")


@dataclass
class Overlay:
    """What the daemon of the command sees and does."""

    old: list[MutableItem] = field(default_factory=lambda: [MINE])
    standing: MutableItem | None = None  # Under the next key.
    is_complete: bool = True
    stored: int = 20
    values_stored: int = 20
    is_kept: bool = True
    gone_at: str = ""  # The step in which the daemon ends.
    put: list[MutableItem] = field(default_factory=list)
    revealed: list[tuple[ZoneKey, tuple[bytes, ...], MutableItem | None]] = field(default_factory=list)

    def __call__(self, _config: object, _given: object) -> Overlay:
        """Stand in for the class of the daemon."""
        return self

    def __enter__(self) -> Overlay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def book(self) -> Book:
        """Return no petnames."""
        return Book({}, ())

    def addresses(self, words: Sequence[str]) -> dict[str, str]:
        """Return nothing: no file has such a placeholder."""
        return {}

    def _go(self, step: str) -> None:
        if step == self.gone_at:
            raise DaemonGone("the daemon ended the connection", place="/state/control.sock")

    def look_up(self, key: ZoneKey) -> Seen:
        """Return the editions of the old key."""
        assert key == KEY
        return Seen(tuple(Version(one, 1) for one in self.old), self.is_complete)

    def whole(self, item: MutableItem) -> MutableItem:
        """Return the edition: it pins nothing."""
        return item

    def publish(
        self, secret: SecretKey, content: Content, memory: Memory, rules: Rules, tell: Tell, journal: EditJournal
    ) -> Stored:
        """Publish by the rules, in a network of a few nodes."""
        import asyncio

        self._go("publish")

        publication = Publication(
            secret.zone_key,
            lambda seq, value: MutableItem.signed(secret, seq, value),
            content,
            _Replicas(self),
            memory=memory,
            rules=rules,
        )
        return replace(asyncio.run(publication.run()), through="a test", is_kept_here=self.is_kept)

    def reveal(
        self, old_key: ZoneKey, values: Sequence[ImmutableItem], item: MutableItem | None
    ) -> tuple[list[Others], bool]:
        """Note what is revealed."""
        self._go("reveal")
        self.revealed.append((old_key, tuple(value.value for value in values), item))
        return [Others(20, 20), Others(20, self.values_stored)], self.is_kept


class _Replicas:
    """The copies of the next key's zone."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    def unix_now(self) -> float:
        return SEQ / 1e6 + 60

    def jitter(self) -> float:
        return 0.5

    async def wait(self, seconds: float) -> None:
        pass

    async def look_up(self) -> Seen:
        standing = self._overlay.standing
        return Seen(() if standing is None else (Version(standing, 20),), True)

    async def forget(self) -> None:
        pass

    async def put(self, item: MutableItem, cas: tuple[int, ...]) -> Tried:
        self._overlay.put.append(item)
        stored = self._overlay.stored
        return Tried(Others(20, stored), {}, (), Seen((Version(item, stored),), True))


@dataclass
class Desk:
    """A folder with the next key, and the command."""

    folder: Path
    overlay: Overlay
    capsys: pytest.CaptureFixture[str]

    def rotate(self, *flags: str, old: str = str(KEY)) -> tuple[int, str]:
        """Rotate; return the exit status and what was said."""
        code = main(["rotate", old, "--next", str(self.folder / "next.key"), *flags])
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def file(self, name: str, content: bytes) -> str:
        """Write a file that nobody else may open."""
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(content)
        return str(path)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    overlay = Overlay()
    monkeypatch.setattr(rotate, "Daemon", overlay)
    desk = Desk(tmp_path, overlay, capsys)
    desk.file("next.key", NEXT.key_file(None))
    return desk


def test_the_zone_moves_with_its_names_and_both_values_are_revealed_then(desk: Desk) -> None:
    code, said = desk.rotate()
    assert code == 0, said
    [item] = desk.overlay.put
    assert item.key == NEXT.zone_key
    moved = zone_of(MINE).at(NEXT.zone_key.apex)
    assert zone_of(item).rrsets == moved.rrsets
    values = tuple(value.value for value in succession_values(KEY, NEXT))
    assert desk.overlay.revealed == [(KEY, values, MINE)]
    assert "p2pdns keygen --next" in said


def test_nothing_is_revealed_before_the_zone_stands_under_the_next_key(desk: Desk) -> None:
    desk.overlay.stored = 3
    code, said = desk.rotate()
    assert (code, desk.overlay.revealed) == (1, [])
    assert "only 3 of 20 other nodes hold the zone" in said


def test_a_value_that_too_few_hold_is_a_failure_and_the_same_command_goes_on(desk: Desk) -> None:
    desk.overlay.values_stored = 3
    code, said = desk.rotate()
    assert code == 1
    assert "too few other nodes hold the values" in said
    assert "goes on putting them" in said
    desk.overlay.values_stored, desk.overlay.standing = 20, desk.overlay.put[0]
    assert desk.rotate()[0] == 0
    assert desk.overlay.put[1].value == desk.overlay.put[0].value
    assert len(desk.overlay.revealed) == 2


def test_a_daemon_that_ends_in_the_publication_leaves_a_line_of_what_is_not_done(desk: Desk) -> None:
    desk.overlay.gone_at = "publish"
    code, said = desk.rotate()
    assert (code, desk.overlay.revealed) == (1, [])
    assert f"error: {KEY}: /state/control.sock: the daemon ended the connection; perhaps the zone is published" in said
    assert "run the same command again: it goes on" in said
    desk.overlay.gone_at = ""
    assert desk.rotate()[0] == 0


def test_a_daemon_that_ends_before_the_next_key_is_revealed_leaves_what_was_done_and_how_to_go_on(desk: Desk) -> None:
    desk.overlay.gone_at = "reveal"
    code, said = desk.rotate()
    assert (code, desk.overlay.revealed) == (1, [])
    assert "under the next key: stored at 20 of 20 nodes" in said
    assert (
        "is published under the next key, and that is not revealed yet: /state/control.sock: the daemon ended" in said
    )
    assert "rotate again: it goes on from here" in said
    assert "has moved to" not in said
    code, said = desk.rotate("--json")
    facts = json.loads(said[: said.rindex("}") + 1])
    assert (code, facts["stored"], facts["values"], facts["exit"]) == (1, 20, [], 1)
    desk.overlay.gone_at, desk.overlay.standing = "", desk.overlay.put[0]
    assert desk.rotate()[0] == 0


def test_without_a_daemon_a_warning_says_that_nobody_puts_the_values_again(desk: Desk) -> None:
    desk.overlay.is_kept = False
    code, said = desk.rotate()
    assert code == 0
    assert "nobody puts the values again" in said


def test_the_edition_that_moves_is_the_owners_and_not_a_newer_one_of_the_thief(desk: Desk) -> None:
    desk.overlay.old = [STOLEN, MINE, edition(NEXT, SEQ - 5, "www 300 A 192.0.2.9")]
    assert desk.rotate()[0] == 0
    addresses = [rrset.rdatas for (_, rtype), rrset in zone_of(desk.overlay.put[0]).rrsets.items() if rtype == 1]
    assert addresses == [(bytes([192, 0, 2, 1]),)]


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ([], "the old zone cannot be found"),
        ([edition(None, SEQ)], "has not committed itself to a next key"),
        ([STOLEN], "not the next key that"),
    ],
)
def test_another_next_key_is_refused_and_force_needs_the_zone(desk: Desk, old: list[MutableItem], words: str) -> None:
    desk.overlay.old = old
    code, said = desk.rotate()
    assert (code, desk.overlay.put, desk.overlay.revealed) == (1, [], [])
    assert words in said
    assert "--force" in said
    code, said = desk.rotate("--force")
    assert code == 1
    assert "name a ZONEFILE" in said
    zone = desk.file("a.zone", f"www A 192.0.2.5\nalias CNAME www.{KEY}.\n".encode())
    assert desk.rotate(zone, "--force")[0] == 0
    assert desk.overlay.revealed[0][2] is None
    # Names below the old key are names below the next one.
    assert str(KEY).encode() not in desk.overlay.put[0].value


def test_an_edition_that_the_old_key_file_did_not_make_moves_only_where_that_is_agreed(desk: Desk) -> None:
    """A thief who keeps the commitment has the newest edition, and his records are not what the owner wants to move."""
    thiefs = edition(NEXT, SEQ + 1, "www 300 A 192.0.2.66")
    key_file = desk.file("alice.key", OLD.key_file(None))
    made.memory_of(key_file).stored(MINE)
    assert desk.rotate(old=key_file)[0] == 0
    desk.overlay.put, desk.overlay.revealed = [], []
    desk.overlay.old = [MINE, thiefs]
    code, said = desk.rotate("--dry-run", old=key_file)
    assert code == 0
    assert "was not made by this key file: without --yes this is refused" in said
    assert "+ www A" in said
    code, said = desk.rotate(old=key_file)
    assert (code, desk.overlay.put, desk.overlay.revealed) == (1, [], [])
    assert f"seq {thiefs.seq} of" in said
    assert "name a ZONEFILE" in said
    assert desk.rotate(desk.file("a.zone", b"www A 192.0.2.5\n"), old=key_file)[0] == 0
    assert desk.rotate("--yes", old=key_file)[0] == 0


def test_without_the_old_key_file_the_edition_that_moves_is_named(desk: Desk) -> None:
    assert f"what moves is seq {MINE.seq} of" in desk.rotate()[1]


def test_the_file_beside_the_old_key_is_enough_where_a_thief_has_taken_every_node(desk: Desk) -> None:
    desk.overlay.old = [STOLEN]
    key_file = desk.file("alice.key", OLD.key_file(b"phrase"))
    committed.write(key_file, KEY, commitment_to(KEY, NEXT))
    zone = desk.file("a.zone", b"www A 192.0.2.5\n")
    assert desk.rotate(zone, old=key_file)[0] == 0
    assert len(desk.overlay.revealed) == 1


def test_a_commitment_that_no_edition_has_is_not_enough_because_no_reader_would_follow(desk: Desk) -> None:
    desk.overlay.old = [edition(None, SEQ)]
    key_file = desk.file("alice.key", OLD.key_file(None))
    committed.write(key_file, KEY, commitment_to(KEY, NEXT))
    zone = desk.file("a.zone", b"www A 192.0.2.5\n")
    code, said = desk.rotate(zone, old=key_file)
    assert (code, desk.overlay.put, desk.overlay.revealed) == (1, [], [])
    assert "has not committed itself" in said
    code, said = desk.rotate(zone, "--force", old=key_file)
    assert code == 0
    assert "only readers that have seen one before will follow" in said
    assert "nobody has to be told" not in said


def test_a_look_up_that_was_cut_short_moves_no_zone_that_may_be_old(desk: Desk) -> None:
    desk.overlay.is_complete = False
    code, said = desk.rotate()
    assert (code, desk.overlay.put) == (1, [])
    assert "may have a newer edition" in said
    assert desk.rotate(desk.file("a.zone", b"www A 192.0.2.5\n"))[0] == 0


def test_a_dry_run_puts_and_reveals_nothing(desk: Desk) -> None:
    code, said = desk.rotate("--dry-run", "--json")
    assert code == 0
    assert json.loads(said)["dry_run"] is True
    assert (desk.overlay.put, desk.overlay.revealed) == ([], [])


def test_what_stands_under_the_next_key_stays_and_most_of_it_goes_only_where_that_is_agreed(desk: Desk) -> None:
    lines = [f"h{number} 300 A 192.0.2.{number}" for number in range(1, 5)]
    value = compose_packet(rrsets(NEXT.zone_key.apex, *lines), NEXT.zone_key.apex)
    desk.overlay.standing = MutableItem.signed(NEXT, SEQ, value)
    assert desk.rotate()[0] == 0
    assert desk.overlay.put[0].value == value
    zone = desk.file("a.zone", b"www A 192.0.2.5\n")
    code, said = desk.rotate(zone, "--force")
    assert (code, len(desk.overlay.put)) == (1, 1)
    assert "4 of 4 RRsets" in said
    assert desk.rotate(zone, "--force", "--yes")[0] == 0


def test_a_zone_that_rotates_twice_is_committed_again_in_between(desk: Desk) -> None:
    next_file = str(desk.folder / "next.key")
    committed.write(next_file, NEXT.zone_key, commitment_to(NEXT.zone_key, THIRD))
    code, said = desk.rotate()
    assert code == 0
    assert "can be stolen too" not in said
    assert commitment_of(desk.overlay.put[0]) == commitment_to(NEXT.zone_key, THIRD)


def test_a_word_that_is_no_key_is_refused(desk: Desk) -> None:
    assert desk.rotate(old="nobody")[0] == 2
