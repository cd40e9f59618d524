"""The tables of sabotages are in order: what is wrong in one is known at once, not minutes into `make mutants`."""

from __future__ import annotations

import argparse
import ast
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from tests.mutants import anchors, run, table
from tests.mutants.table import Mutant

STORE = """
LIMIT: int = 8


class Store:
    '''Keeps.'''

    size = 3

    def put(self, seq, held):
        if seq < held.seq:  # lower
            raise ValueError("lower")
        elif seq == held.seq and self.size and not held.is_open:
            return None
        self.note(seq)
        self.items[seq] = held
        for item in self.items:
            self.note(item)
        return (seq + 1) * 2

    def drop(self, seq):
        def inner(seq):
            return seq < 9

        return inner(seq), any(seq == item for item in self.items)
"""


def make_module(root: Path, dotted: str, text: str = STORE) -> Path:
    """Write a module of that name below the package in `root`."""
    path = root.joinpath("p2pdns", *dotted.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def sabotaged(root: Path, at: str, old: str, new: str) -> str:
    """Return the text of the module after one sabotage."""
    return anchors.Modules(root).sabotage(at, old, new)[1]


def assert_same(text: str, wanted: str) -> None:
    """Compare two modules by their syntax trees."""
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(wanted))


def test_every_sabotage_fits_its_definition_and_still_compiles() -> None:
    assert table.sabotages(table.read_tables())[1] == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("seq < held.seq:", "seq  <  held . seq :"),
        ("seq < held.seq:", "(\n                seq\n                < held.seq\n        ):"),
        ("seq < held.seq:", "(\n                seq  # ours\n                < held.seq  # theirs\n        ):"),
        ('ValueError("lower")', "ValueError('lower')"),
        ("    def put", "    # moved\n\n\n    def put"),
        ("  # lower", ""),
    ],
)
def test_what_is_no_syntax_does_not_matter(before: str, after: str, tmp_path: Path) -> None:
    assert STORE.count(before) == 1
    make_module(tmp_path, "dht.store", STORE.replace(before, after))
    lower = sabotaged(tmp_path, "store:Store.put", "seq<held . seq", "0 < 1")
    assert_same(lower, STORE.replace("seq < held.seq", "0 < 1"))
    silent = sabotaged(tmp_path, "store:Store.put", "raise ValueError(\n  'lower')", "")
    assert_same(silent, STORE.replace('raise ValueError("lower")', "pass"))


def test_positions_are_bytes_not_letters(tmp_path: Path) -> None:
    make_module(tmp_path, "store", 'x = "äöü" + f(1) + "ß"\n')
    assert sabotaged(tmp_path, "store:x", "f(1)", "'ÿ'") == 'x = "äöü" + \'ÿ\' + "ß"\n'


@pytest.mark.parametrize(
    ("at", "old", "new", "before", "after"),
    [
        # An expression keeps its precedence.
        ("store:Store.put", "held.is_open", "a or b", "not held.is_open", "not (a or b)"),
        ("store:Store.put", "seq + 1", "seq - 1", "(seq + 1)", "(seq - 1)"),
        ("store:Store.put", "(seq + 1) * 2", "lambda: 0", "(seq + 1) * 2", "(lambda: 0)"),
        ("store:Store.put", "self.note(item)", "x = item", "self.note(item)", "x = item"),
        ("store:Store.put", "self.items[seq]", "self.items[0]", "self.items[seq]", "self.items[0]"),
        ("store:Store.put", "seq == held.seq and self.size and not held.is_open", "a\nor b  # why", None, "(a or b)"),
        ("store:Store.drop", "(seq == item for item in self.items)", "x for x in y", None, "(x for x in y)"),
        (
            "store:Store.drop",
            "seq == item for item in self.items",
            "[]",
            "(seq == item for item in self.items)",
            "([])",
        ),
        # Statements, one or some.
        ("store:Store.put", "self.note(seq)", "", "self.note(seq)", "pass"),
        ("store:Store.put", "self.note(seq)", "if seq:\n    a()\nb()", None, "if seq: a()\n        b()"),
        ("store:Store.put", "self.note(seq)\nself.items[seq] = held", "return 1", None, "return 1"),
        # A header; `elif` stays what it is.
        ("store:Store.put", "if seq < held.seq:", "if False:", "if seq < held.seq:", "if False:"),
        (
            "store:Store.put",
            "elif seq == held.seq and self.size and not held.is_open:",
            "if False:",
            "elif seq == held.seq and self.size and not held.is_open:",
            "elif False:",
        ),
        ("store:Store.put", "for item in self.items:", "for item in ():", "for item in self.items:", "for item in ():"),
        (
            "store:Store.put",
            "def put(self, seq, held):",
            "def put(self, held, seq):",
            None,
            "def put(self, held, seq):",
        ),
        ("store:", "class Store:", "class Store(dict):", "class Store:", "class Store(dict):"),
        # What is assigned, in a module, in a class; what is inside of a function.
        ("store:LIMIT", "8", "80", "int = 8", "int = 80"),
        ("store:Store.size", "size = 3", "size = 4", "size = 3", "size = 4"),
        ("store:Store.drop.inner", "seq < 9", "seq < 8", "seq < 9", "seq < 8"),
    ],
)
def test_a_fragment_is_put_in_the_place_of_another(
    at: str, old: str, new: str, before: str | None, after: str, tmp_path: Path
) -> None:
    make_module(tmp_path, "dht.store")
    text = STORE
    if before is None:
        before = "\n        ".join(dedent(old).split("\n"))
    assert text.count(before) == 1
    assert_same(sabotaged(tmp_path, at, old, new), text.replace(before, after))


@pytest.mark.parametrize(
    ("text", "old", "new", "wanted"),
    [
        ("try:\n    f()\nexcept (A, B) as e:\n    g()\n", "except (A, B) as e:", "except A as e:", "A as e:"),
        ("with a as b, c[1:2]:\n    g()\n", "with a as b, c[1:2]:", "with a as b:", "with a as b:"),
        ("while (x := f(a[:])) : g()\n", "while (x:=f(a[:])):", "while False:", "while False: g()"),
        ("async def f(a: int = 1) -> A[b:c]: ...\n", "async def f(a: int=1) -> A[b:c]:", "def f():", "def f(): ...\n"),
        ("@g(1)\ndef f(a): ...\n", "def f(a):", "def f(b):", "@g(1)\ndef f(b): ...\n"),
        ("@g(1)\ndef f(a): ...\n", "@g(1)\ndef f(a): ...", "f = 1", "\nf = 1\n"),
    ],
)
def test_headers_of_every_kind(text: str, old: str, new: str, wanted: str, tmp_path: Path) -> None:
    make_module(tmp_path, "store", f"# one\n{text}")
    done = sabotaged(tmp_path, "store:", old, new)
    assert wanted in done
    assert old not in done


@pytest.mark.parametrize(
    ("at", "old", "new", "words"),
    [
        ("store:Store.put", "seq > held.seq", "x", "occurs 0 times"),
        ("store:Store.put", "held.seq", "x", "occurs 2 times"),
        ("store:Store.drop", "self.note(seq)", "x", "occurs 0 times"),
        ("store:Store.put", "if seq >= held.seq:", "if x:", "occurs 0 times"),
        ("store:Store.get", "seq", "x", "0 modules"),
        ("store", "seq", "x", "module:qualified.name"),
        ("store:Store.put", "seq <", "x", "is no Python"),
        ("store:Store.put", "if seq < :", "x", "is no header"),
        ("store:Store.put", "", "x", "is empty"),
        ("store:Store.put", "seq < held.seq", "seq < <", "no longer compiles"),
        ("store:Store.put", "seq < held.seq", "", "no longer compiles"),
        ("store:Store.put", "return (seq + 1) * 2", "break", "no longer compiles"),
        ("store:Store.put", "if seq < held.seq:", "if seq <:", "no longer compiles"),
        ("store:Store.put", "seq < held.seq", "(seq<held.seq)", "changes nothing"),
        ("store:Store.put", "self.note(seq)", "self.note( seq )  # again", "changes nothing"),
        ("store:Store.put", "if seq < held.seq:", "if (seq < held.seq):", "changes nothing"),
    ],
)
def test_a_sabotage_that_cannot_be_tried_is_found(at: str, old: str, new: str, words: str, tmp_path: Path) -> None:
    make_module(tmp_path, "dht.store")
    fitting, findings = table.sabotages([Mutant("a name", old, new, (), at=at)], tmp_path)
    assert fitting == []
    assert [words in finding and finding.startswith("a name: ") for finding in findings] == [True]


@pytest.mark.parametrize("dotted", ["engine.store", "dht.store.core", "store", "dht.keeper"])
def test_a_module_may_move_and_be_renamed(dotted: str, tmp_path: Path) -> None:
    path = make_module(tmp_path, dotted)
    make_module(tmp_path, "dht.other", "class Store:\n    def put(self):\n        return 7\n")
    found, text = anchors.Modules(tmp_path).sabotage("dht.store:Store.put", "seq < held.seq", "False")
    assert found == path
    assert_same(text, STORE.replace("seq < held.seq", "False"))


def test_a_package_is_named_after_its_folder(tmp_path: Path) -> None:
    path = make_module(tmp_path, "dht.store.__init__")
    assert anchors.Modules(tmp_path).sabotage("dht.store:Store.put", "seq < held.seq", "False")[0] == path


@pytest.mark.parametrize("at", ["store:Store.put", "gone:Store.put"])
def test_two_modules_that_could_be_meant_are_found(at: str, tmp_path: Path) -> None:
    make_module(tmp_path, "dht.store")
    make_module(tmp_path, "engine.store")
    _, findings = table.sabotages([Mutant("a name", "seq < held.seq", "False", (), at=at)], tmp_path)
    assert findings == [f"a name: {at}: 2 modules have that: p2pdns.dht.store, p2pdns.engine.store"]
    assert sabotaged(tmp_path, "dht.store:Store.put", "seq < held.seq", "False")


def test_the_tail_of_a_path_ends_at_a_dot(tmp_path: Path) -> None:
    path = make_module(tmp_path, "dht.store")
    make_module(tmp_path, "dht.bookstore")
    assert anchors.Modules(tmp_path).sabotage("store:Store.put", "seq < held.seq", "False")[0] == path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [("x = 2", "x = 3", "occurs 0 times"), ("x", "y", "occurs 2 times"), ("x = 1", "x = 1", "changes nothing")],
)
def test_a_file_that_is_not_python_is_taken_by_the_letter(old: str, new: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "build.sh").write_text("x = 1\necho x\n".replace("echo x", "echo $x"))
    row = Mutant("a name", old, new, (), file="build.sh")
    assert [words in finding for finding in table.sabotages([row], tmp_path)[1]] == [True]
    good = Mutant("a name", "echo ", "", (), file="build.sh")
    assert [one.text for one in table.sabotages([good], tmp_path)[0]] == ["x = 1\n$x\n"]


def test_what_is_wrong_with_a_row_itself_is_found(tmp_path: Path) -> None:
    make_module(tmp_path, "store")
    (tmp_path / "test_x.py").write_text("def test_a() -> None: ...\n")
    row = Mutant("a name", "seq < held.seq", "False", ("test_x.py::test_a[1-2]",), at="store:Store.put")
    neither = Mutant("another", "a", "b", ("test_x.py::test", "test_y.py::test_a"))
    assert table.sabotages([row, row, neither], tmp_path)[1] == [
        "a name: named twice",
        "another: no such test: test_x.py::test",
        "another: no such test: test_y.py::test_a",
        "another: a row has either `at` or `file`",
    ]


def test_the_tables_of_all_rooms_are_read_in_order(tmp_path: Path) -> None:
    for room in ("front", "dht"):
        row = f'[[mutant]]\nname = "{room} one"\nat = "a:b"\nold = "1"\nnew = "2"\ntests = ["t"]\n'
        (tmp_path / f"{room}.toml").write_text(row)
    assert [(row.room, row.name, row.tests) for row in table.read_tables(tmp_path)] == [
        ("dht", "dht one", ("t",)),
        ("front", "front one", ("t",)),
    ]
    (tmp_path / "new.toml").write_text('[[mutant]]\nname = "n"\nfyle = "a"\nold = "1"\nnew = "2"\ntests = []\n')
    with pytest.raises(SystemExit, match=r"new\.toml: n: .*fyle"):
        table.read_tables(tmp_path)


def test_only_what_was_asked_for_is_tried() -> None:
    words = argparse.Namespace(only="whatever it found", room="bench", changed="", share=1)
    fitting, findings = run.chosen(words)
    assert findings == []
    assert [(one.mutant.name, one.path) for one in fitting] == [
        ("the bench ends well whatever it found", Path("bench/conformance.py"))
    ]
    assert run.chosen(argparse.Namespace(only="whatever it found", room="dns", changed="", share=1)) == ([], [])


def test_each_commit_draws_a_share_of_its_own_and_some_commits_draw_all() -> None:
    every = table.sabotages(table.read_tables())[0]
    first = run.share_of(every, 2, "a commit")
    assert first == run.share_of(every, 2, "a commit")
    assert 0.4 * len(every) < len(first) < 0.6 * len(every)
    drawn = {id(one) for number in range(20) for one in run.share_of(every, 2, f"commit {number}")}
    assert len(drawn) == len(every)


def test_what_has_changed_is_told_by_git(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    for name in ("kept", "staged", "changed", "committed"):
        (tmp_path / name).write_text("1")
    git("add", "--all")
    git("commit", "--message=one")
    for name in ("staged", "changed", "committed", "new"):
        (tmp_path / name).write_text("2")
    git("add", "committed")
    git("commit", "--message=two")
    git("add", "staged")
    assert run.changed_since("HEAD~1", tmp_path) == {Path(name) for name in ("staged", "changed", "committed", "new")}
    assert run.changed_since("HEAD", tmp_path) == {Path(name) for name in ("staged", "changed", "new")}
    with pytest.raises(SystemExit, match="nothing-of-that-name"):
        run.changed_since("nothing-of-that-name", tmp_path)
