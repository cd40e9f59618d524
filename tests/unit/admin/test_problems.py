"""What counts as a problem of a daemon, and that each one says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import asdict
from types import SimpleNamespace
from typing import cast

import pytest

from p2pdns.admin import problems
from p2pdns.admin.commands import EngineParts
from p2pdns.admin.problems import KeptZone, Problem
from p2pdns.config import Config
from p2pdns.errors import ConfigError
from p2pdns.resolver.steps import WORDS, Missing
from p2pdns.state import State
from p2pdns.state.clockwatch import ClockWatch
from tests.committed import LAST_ID, NEXT_ID, OLD_ID

UNIX = 1_800_000_000.0


def one(found: Iterable[Problem]) -> Problem:
    """Return the only problem, after a look at whether it is whole."""
    [problem] = list(found)
    assert all((problem.cause, problem.remedy, problem.command))
    assert "\n" not in "".join(asdict(problem).values())
    return problem


def zone(name: str, *, copies: int | None = 0, trouble: str | None = "only 0 other nodes keep it") -> KeptZone:
    """Return a zone that is kept alive."""
    return KeptZone(name, None, 1, copies, 20, trouble)


def test_a_daemon_that_is_well_has_no_problem() -> None:
    watch = ClockWatch(SimpleNamespace(newest_seq=None), lambda: UNIX)
    assert list(problems.of_clock(watch)) == []
    assert list(problems.of_files([], None, "/state")) == []
    assert list(problems.of_contacts(1, "who knows", 99)) == []
    assert list(problems.of_upstream("system", ["192.0.2.1:53"], {"queries": 9, "replies": 1})) == []
    assert list(problems.of_front(["127.0.0.1:53"], 1, 99)) == []
    assert list(problems.of_block_lists([], None, is_outdated=False)) == []
    assert list(problems.of_zones([zone("a", copies=20, trouble=None)], 20)) == []
    assert list(problems.of_held_back([])) == []
    assert list(problems.of_configuration(None)) == []


def test_what_the_configuration_wants_is_no_problem() -> None:
    assert list(problems.of_upstream("none", [], {})) == []
    assert list(problems.of_front([], 0, 99)) == []


def test_what_a_start_takes_is_no_problem_yet() -> None:
    assert list(problems.of_front(["127.0.0.1:53"], 0, 1)) == []
    assert one(problems.of_front(["127.0.0.1:53"], 0, 60)).about == "front"
    assert list(problems.of_zones([zone("a", copies=None)], 0)) == [], "nobody knows before the first put"
    assert "yet" in one(problems.of_contacts(0, "the contacts are silent", 1)).cause


def test_a_clock_that_is_behind_is_told_with_the_way_to_set_it() -> None:
    watch = ClockWatch(SimpleNamespace(newest_seq=int((UNIX + 900_000) * 1_000_000)), lambda: UNIX)
    problem = one(problems.of_clock(watch))
    assert problem.cause in str(watch.warning)
    assert "set the clock" in problem.remedy


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/s/reader.sqlite: no space; what is new is not kept beyond this run", "df -h /s"),
        ("store.sqlite: cannot be written: database or disk is full", "df -h /s"),
        ("/s/store.sqlite: read-only file system; what is new is not kept beyond this run", "findmnt -T /s"),
        ("/s/store.sqlite: permission denied; what is new is not kept beyond this run", "ls -la /s"),
        ("/s/store.sqlite: version 99 of a newer p2pdns, this one writes 3; nothing is kept", "p2pdns --version"),
        ("/s/store.sqlite: damaged; set aside as store.sqlite.corrupt-1", "ls -la /s"),
        ("reader.sqlite: the row of a key does not verify (x); its mark stays, and", "p2pdns inspect KEY"),
        ("a text that nobody has thought of", "ls -la /s"),
    ],
)
def test_the_remedy_fits_what_is_wrong_with_the_files(text: str, command: str) -> None:
    problem = one(problems.of_files([text], None, "/s"))
    assert (problem.cause, problem.command) == (text, command)


def test_a_full_disk_is_one_problem_however_many_files_meet_it() -> None:
    texts = [f"/s/{name}.sqlite: no space; what is new is not kept beyond this run" for name in ("reader", "store")]
    problem = one(problems.of_files(texts, None, "/s"))
    assert problem.cause == "; ".join(texts)
    later = ["store.sqlite: cannot be written: disk is full", "reader.sqlite: cannot be written: disk is full"]
    problem = one(problems.of_files(later[:1], later[1], "/s"))
    assert problem.cause == "; ".join(later)
    assert "without a restart" in problem.remedy


def test_nobody_known_and_nobody_who_answers_are_two_problems() -> None:
    unknown = one(problems.of_contacts(0, "name a node of this network with --bootstrap ADDR:PORT", 99))
    silent = one(problems.of_contacts(0, "the contacts of this node are silent", 99))
    assert (unknown.cause, silent.cause) == ("no other node is known", "no other node answers")
    assert "--bootstrap" in unknown.command


def test_an_upstream_is_silent_after_some_questions_and_not_after_one() -> None:
    servers = ["192.0.2.1:53", "192.0.2.2:53"]
    assert list(problems.of_upstream("system", servers, {"queries": problems.UNANSWERED_MIN - 1})) == []
    problem = one(problems.of_upstream("system", servers, {"queries": problems.UNANSWERED_MIN}))
    assert problem.command == "p2pdns resolve example.com @192.0.2.1:53"


def test_no_upstream_and_none_but_ourselves_are_told_apart() -> None:
    assert "is known" in one(problems.of_upstream("system", [], {})).cause
    assert "leads back" in one(problems.of_upstream("system", [], {"servers-dropped": 1})).cause


def test_what_is_wrong_with_the_resolvers_of_the_machine_comes_with_the_line_to_write() -> None:
    told = '[upstream] servers = "system": resolv.conf names this resolver; write servers = ["192.0.2.1"]'
    problem = one(problems.of_upstream("system", [], {}, told))
    assert (problem.cause, problem.remedy) == tuple(told.split("; "))
    assert one(problems.of_upstream("system", [], {}, "no resolver")).remedy


def test_zones_without_copies_are_one_problem_that_names_some_and_counts_the_rest() -> None:
    few = [zone(f"z{number}") for number in range(10)]
    problem = one(problems.of_zones([*few, zone("fine", copies=20, trouble=None)], 3))
    assert "zone z2" in problem.cause
    assert "zone z3" not in problem.cause
    assert "and 7 more zones" in problem.cause
    assert (problem.command, "within minutes" in problem.remedy) == ("p2pdns inspect z0", True)
    assert "once other nodes are known" in one(problems.of_zones(few, 0)).remedy


def test_block_lists_that_are_missing_changed_or_faulty_are_told() -> None:
    gone = "[dns] block: a: no such file"
    assert "put the file back" in one(problems.of_block_lists([], gone, is_outdated=False)).remedy
    # One that was missing at the start is told by then, and missing now: one problem.
    at_start = f"{gone}; its last good copy is used"
    assert one(problems.of_block_lists([at_start], gone, is_outdated=False)).cause == at_start
    both = list(problems.of_block_lists([at_start, "list:3: no name"], gone, is_outdated=False))
    assert [problem.cause for problem in both] == [at_start, "list:3: no name"]
    assert "changed" in one(problems.of_block_lists([], None, is_outdated=True)).cause
    faulty = one(problems.of_block_lists([f"list:{n}: no name" for n in range(9)], None, is_outdated=False))
    assert "and 6 more" in faulty.cause


def test_a_refused_configuration_is_told_with_its_own_hint() -> None:
    problem = one(problems.of_configuration(ConfigError("unknown setting", place="a.toml:3", hint="did you mean b")))
    assert "a.toml:3: unknown setting" in problem.cause
    assert problem.remedy.startswith("did you mean b")


def test_zones_dated_ahead_are_taken_back() -> None:
    assert "--take-back" in one(problems.of_held_back(["zone a is dated 2030"])).command


def test_a_next_key_that_too_few_nodes_have_is_a_problem_of_the_owner() -> None:
    assert list(problems.of_revealed([], 0)) == []
    good = SimpleNamespace(trouble=None, revealed=SimpleNamespace(old_key="good"))
    bad = SimpleNamespace(trouble="only 3 of 20 have it", revealed=SimpleNamespace(old_key="bad"))
    engine = SimpleNamespace(revealing=SimpleNamespace(kept=[good, bad]))
    problem = one(problems.of_revealed(problems.revealed_of(cast("EngineParts", engine)), 20))
    assert (problem.about, problem.cause) == ("succession", "zone bad: only 3 of 20 have it")
    assert (problem.remedy, problem.command) == (
        "each value is put again by itself within minutes; see",
        "p2pdns zones",
    )


def test_a_zone_whose_newest_item_is_not_adopted_is_a_problem_where_a_person_relies_on_it() -> None:
    assert list(problems.of_refused([])) == []
    problem = one(problems.of_refused([("alice", WORDS[Missing.ODD])]))
    assert (problem.about, problem.command) == ("succession", "p2pdns inspect alice")
    assert "alice: the newest item of this zone lacks its commitment" in problem.cause
    with contextlib.closing(State.open(None)) as state:
        state.reader.names.keep({"alice": OLD_ID})
        engine = SimpleNamespace(
            config=Config(),
            state=state,
            overlay=SimpleNamespace(
                refused=[(OLD_ID, Missing.ODD), (LAST_ID, Missing.ODD), (NEXT_ID, Missing.CONFLICT)]
            ),
        )
        kept = [KeptZone(str(NEXT_ID), None, 1, 20, 20, None)]
        assert problems.refused_of(cast("EngineParts", engine), kept) == [
            ("alice", WORDS[Missing.ODD]),
            (str(NEXT_ID), WORDS[Missing.CONFLICT]),
        ]
