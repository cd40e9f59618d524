"""The texts of `zones`, `unpublish` and `resolve --holders`: copies, times, troubles, and who may be asked."""

from __future__ import annotations

import io
from typing import Any

import pytest

from p2pdns.admin.petnames import Petname
from p2pdns.cli import kept, ui
from p2pdns.cli.holders import zone_in
from p2pdns.cli.main import main
from p2pdns.cli.petnames import Book
from p2pdns.errors import UsageError

KEY = "o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy"
ZONE: dict[str, Any] = {
    "key": KEY,
    "petname": "alice",
    "kind": "own",
    "records": 3,
    "items": 1,
    "items_poor": 0,
    "seq": 7,
    "acknowledged": 20,
    "copies": 4,
    "measured_s": 720.0,
    "last_put_s": 3_700.0,
    "next_put_s": 24_000.0,
    "next_look_s": 100.0,
    "time_left_s": 80_000.0,
    "trouble": None,
}
BOOK = Book({"alice": Petname(KEY, "state")}, ("p2p.alt",))


def test_a_line_has_the_petname_the_copies_with_their_age_and_the_times() -> None:
    assert kept.row_of(ZONE) == [
        "alice",
        "own",
        "3",
        "1",
        "7",
        "4 of 20 seen 12 min ago",
        "1 h 1 min ago",
        "in 6 h 40 min",
        "22 h 13 min",
    ]


def test_a_zone_that_was_never_put_in_this_run_says_so() -> None:
    unknown = dict.fromkeys(("copies", "measured_s", "last_put_s", "next_put_s", "next_look_s", "time_left_s"))
    row = kept.row_of(ZONE | unknown | {"acknowledged": 0, "records": None, "items": None, "petname": None})
    assert row == [KEY, "own", "-", "not all here", "7", "none known", "not yet", "soon", "-"]


def test_without_zones_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    kept.show([], [])
    said = capsys.readouterr()
    assert said.out == "this daemon keeps no zone alive\n"
    assert "p2pdns publish -k KEYFILE ZONEFILE" in said.err


def test_the_trouble_of_a_zone_is_a_warning_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    kept.show([ZONE | {"trouble": "only 1 other node keeps it, 20 are wanted"}], [])
    assert "p2pdns: warning: alice: only 1 other node keeps it" in capsys.readouterr().err


def test_a_watch_shows_it_again_until_it_is_interrupted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Daemon:
        def call(self, verb: str) -> dict[str, Any]:
            return {"zones": [ZONE], "tables": [], "moved": []}

    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("p2pdns.cli.settings.daemon", lambda state: Daemon())
    monkeypatch.setattr("p2pdns.cli.kept.pause", sleep)
    assert main(["zones", "--watch"]) == 130
    assert capsys.readouterr().out.count("alice") == 3
    assert pauses == [kept.WATCH_S] * 3


@pytest.mark.parametrize("name", [KEY, f"www.{KEY}", "www.alice", "alice.p2p.alt", f"a.b.{KEY}.p2p.alt", f"www.{KEY}."])
def test_the_zone_of_a_name_is_the_key_at_its_end(name: str) -> None:
    assert zone_in(name, BOOK) == KEY


@pytest.mark.parametrize("name", ["www.example", "alise", KEY[:-1]])
def test_a_name_below_no_key_has_no_holders(name: str) -> None:
    with pytest.raises(UsageError, match="not below a zone key or petname"):
        zone_in(name, BOOK)


@pytest.mark.parametrize(
    ("typed", "is_yes"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_anything_but_yes_is_no(typed: str, is_yes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert ui.confirmed("really?") is is_yes


def test_zones_of_the_configuration_are_a_table_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    table = {"file": "/z/a.zone", "key_file": "/k/a.key", "key": "k", "watch": True, "seq": 7, "trouble": None}
    waiting = {**table, "file": "/z/b.zone", "watch": False, "seq": None}
    wrong = {**waiting, "file": "/z/c.zone", "trouble": "no such file"}
    kept.show([], [table, waiting, wrong])
    shown = capsys.readouterr()
    assert [line.split() for line in shown.out.splitlines()] == [
        ["published", "from", "watched", "seq", "state"],
        ["/z/a.zone", "yes", "7", "ok"],
        ["/z/b.zone", "no", "-", "waiting"],
        ["/z/c.zone", "no", "-", "WRONG:", "see", "below"],
    ]
    assert shown.err == "p2pdns: warning: /z/c.zone: no such file\n"
