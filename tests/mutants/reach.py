"""Which test files execute which functions of the package, so that a mutation meets only tests that can notice it.

Every function of a copy notes when it is first executed, in whatever process, while each test file runs; that run is
also the one in which the unchanged copy must be green. What was found is kept beside the virtual environment's
packages, by a hash of the sources: only test files that have changed run again.

A test that is wrongly thought not to reach a function can only make a survivor more, never a kill.
"""

from __future__ import annotations

import ast
import compileall
import functools
import hashlib
import json
import py_compile
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue

from tests.mutants.draw import ROOMS, Mutation, names_given
from tests.mutants.run import GREEN_S_MAX, WORKERS, Copy, Run, borrowed, run_tests
from tests.mutants.table import ROOT

# All of it asks one daemon, so it is run as one.
CONFORMANCE = "tests/conformance"
KEPT = Path(sys.prefix) / "mutants-random.json"
# Of hypothesis: no example fails for being slow on a busy machine, and every run draws the same ones.
STEADY = "--hypothesis-profile=ci"
# In the builtins, so that each module defines and imports what it did. To look up what is there is no call, because
# some tests count calls; only the first execution of a function is noted by one. It writes by the system's functions as
# they were at the start, because some tests replace those to stand for a full disk.
PROBE = """
import builtins as _builtins, os as _os
class _Reached(dict):
    def __missing__(self, place, open=_os.open, write=_os.write, close=_os.close):
        self[place] = True
        try:
            fd = open({path!r}, _os.O_WRONLY | _os.O_APPEND | _os.O_CREAT, 0o666)
        except OSError:
            return
        write(fd, place.encode() + b"\\n")
        close(fd)
_builtins.p2pdns_reached = _Reached()
"""


@dataclass(frozen=True)
class Reach:
    """What one test file costs, and the functions that it executes, each as `path:line`."""

    digest: str
    seconds: float
    functions: list[str]


def judges(root: Path = ROOT) -> list[str]:
    """Return what judges a mutation: tests/conformance as one, and each file of tests/unit that imports from a room."""
    rooms = tuple(f"p2pdns.{room.replace('/', '.')}." for room in ROOMS)

    @functools.cache
    def imports_a_room(path: Path) -> bool:
        named = [f"{name}." for name in _imports(ast.parse(path.read_text("utf-8")))]
        helpers = [root / f"{name.rstrip('.').replace('.', '/')}.py" for name in named if name.startswith("tests.")]
        helping = any(imports_a_room(helper) for helper in helpers if helper.is_file() and helper != path)
        return helping or any(name.startswith(rooms) for name in named)

    units = sorted((root / "tests/unit").rglob("test_*.py"))
    return [CONFORMANCE, *(str(path.relative_to(root)) for path in units if imports_a_room(path))]


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def measured(copies: Queue[Copy]) -> tuple[dict[str, Reach], dict[str, str]]:
    """Return the reach of each test file, and what those said that are not green in an unchanged copy: no judges."""
    kept = {file: Reach(**reach) for file, reach in json.loads(KEPT.read_text()).items()} if KEPT.is_file() else {}
    digests = _digests()
    found = {file: kept[file] for file in digests if file in kept and kept[file].digest == digests[file]}
    # The longest first, so that no worker is left with it alone.
    missing = sorted(
        digests.keys() - found.keys(), key=lambda file: (-kept[file].seconds if file in kept else -1e9, file)
    )
    red: dict[str, str] = {}
    folders = list(copies.queue)
    for copy in folders if missing else ():
        _put_probes(copy.folder)

    def one(file: str) -> tuple[Run, float, list[str]]:
        with borrowed(copies) as copy:
            return _noted(copy, file)

    with ThreadPoolExecutor(WORKERS) as pool:
        doing = {pool.submit(one, file): file for file in missing}
        for done in as_completed(doing):
            file, (run, seconds, functions) = doing[done], done.result()
            if run.failures or run.errors or not run.passed:
                red[file] = run.output
                continue
            found[file] = Reach(digests[file], seconds, functions)
            kept[file] = found[file]
            KEPT.write_text(json.dumps({name: asdict(reach) for name, reach in kept.items()}))
    for copy in folders if missing else ():
        _take_probes(copy.folder)
    return {file: found[file] for file in digests if file in found}, red


def _noted(copy: Copy, file: str) -> tuple[Run, float, list[str]]:
    # Once more where it was not green: what waits for other processes may be too slow while the machine is busy.
    for _ in range(2):
        log = copy.folder / "reached.txt"
        log.unlink(missing_ok=True)
        began = time.monotonic()
        run = run_tests(copy, [STEADY, file], GREEN_S_MAX)
        if not run.failures and not run.errors:
            break
    return run, time.monotonic() - began, sorted(set(log.read_text().split())) if log.is_file() else []


def _digests(root: Path = ROOT) -> dict[str, str]:
    """Return for each test file a hash of itself and of all that is no test."""
    folders = [root / name for name in ("p2pdns", "tests", "zones", "deploy")]
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    kept = [path for path in paths if "__pycache__" not in path.parts and "mutants" not in path.parts]
    common = _digest(path for path in kept if not path.name.startswith("test_"))
    both = [(file, root / file) for file in judges(root)]
    return {file: common + _digest([path] if path.is_file() else sorted(path.glob("*.py"))) for file, path in both}


def _digest(paths: Iterable[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        whole.update(hashlib.sha256(str(path).encode() + b"\0" + path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def _put_probes(folder: Path) -> None:
    for path in sorted((folder / "p2pdns").rglob("*.py")):
        path.write_text(_with_probes(path.read_text("utf-8"), path.relative_to(folder)), "utf-8")
    head = folder / "p2pdns/__init__.py"
    head.write_text(head.read_text("utf-8") + PROBE.format(path=str(folder / "reached.txt")), "utf-8")
    _compiled(folder)


def _take_probes(folder: Path) -> None:
    for path in sorted((folder / "p2pdns").rglob("*.py")):
        path.write_bytes((ROOT / path.relative_to(folder)).read_bytes())
    _compiled(folder)


def _compiled(folder: Path) -> None:
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder / "p2pdns", quiet=2, invalidation_mode=checked)


def _with_probes(text: str, path: Path) -> str:
    lines = text.split("\n")
    for node in sorted(_functions(ast.parse(text)), key=lambda node: -node.lineno):
        body = node.body[ast.get_docstring(node) is not None :]
        if not body:
            continue
        first = body[0]
        start = min([first.lineno, *(one.lineno for one in getattr(first, "decorator_list", ()))])
        # A body on the line of its `def` does nothing.
        if start > node.lineno:
            lines.insert(start - 1, f"{' ' * first.col_offset}p2pdns_reached['{path}:{node.lineno}']")
    return "\n".join(lines)


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


class Places:
    """Where a mutation shows: in its function, or in all that mention the name whose value it decides."""

    def __init__(self, root: Path = ROOT) -> None:
        self._of_module: dict[Path, set[str]] = {}
        self._mentions: list[tuple[set[str], str]] = []  # What a function mentions.
        self._values: list[tuple[set[str], set[str]]] = []  # What an assignment outside of all mentions, and gives.
        for path in sorted((root / "p2pdns").rglob("*.py")):
            self._read(ast.parse(path.read_text("utf-8")), path.relative_to(root))

    def _read(self, tree: ast.Module, path: Path) -> None:
        functions = [(_names(node), f"{path}:{node.lineno}") for node in _functions(tree)]
        self._mentions += functions
        self._of_module[path] = {place for _, place in functions}
        for node in tree.body:
            for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
                if isinstance(inner, ast.Assign | ast.AnnAssign):
                    self._values.append((_names(inner), names_given(inner) | names_given(node)))

    def of(self, mutation: Mutation) -> set[str]:
        """Return the functions, as `path:line`, one of which must be executed for a test to notice."""
        if mutation.function:
            return {f"{mutation.path}:{mutation.function}"}
        names, before = set(mutation.names), set[str]()
        while names != before:
            before = set(names)
            names |= {name for mentioned, given in self._values if mentioned & before for name in given}
        found = {place for mentioned, place in self._mentions if mentioned & names}
        return found or self._of_module[mutation.path]


def _names(node: ast.AST) -> set[str]:
    named = [getattr(inner, key, None) for inner in ast.walk(node) for key in ("id", "attr", "arg")]
    return {name for name in named if isinstance(name, str)}
