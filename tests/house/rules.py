"""The rules of the house as functions over source text: floors, doors, purity, tidiness.

Each rule takes a module's dotted name and its source and returns findings as text, so that the rules themselves
can be tested on samples. The tables are the law; a change of structure changes them in the same commit.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "p2pdns"

# A module may import from lower rows only, or from inside its own entry.
LADDER: tuple[tuple[str, ...], ...] = (
    ("errors", "garbage", "values", "rates", "remembered", "timing"),
    ("addresses", "clock", "log", "limits", "naming", "dns.registry", "dns.labels", "dns.life"),
    ("dns.name",),
    ("dns.message",),
    ("dns.zone",),
    ("dns.zonefile",),
    ("items.keys",),
    ("items.mistyped", "items.seeds", "items.words"),
    ("items.item",),
    ("items.packet", "items.shards"),
    ("items.dividing", "items.succession"),
    ("moving",),
    ("dht.bencode", "dht.recent"),
    ("dht.krpc",),
    ("dht.routing", "dht.guard", "dht.confirmation", "dht.keyed", "dht.precedence", "dht.shares", "dht.stored"),
    ("dht.lookup", "dht.storage"),
    ("dht.node",),
    ("config", "link", "directory", "privileges"),
    ("resolver",),
    ("overlay",),
    ("publishing",),
    ("state",),
    ("net",),
    ("admin", "front"),
    ("engine",),
    ("signer",),
    ("supervisor",),
    ("sim",),
    ("cli",),
    ("demo",),
    ("__main__",),
)

# Rooms that may use less than their row allows.
GROUND_FLOOR_ONLY = ("config", "link", "net.pieces", "net.sockets", "directory", "privileges")
GROUND_FLOOR = (
    "errors",
    "garbage",
    "values",
    "rates",
    "remembered",
    "timing",
    "addresses",
    "clock",
    "log",
    "limits",
    "naming",
    "dns.registry",
    "dns.labels",
    "dns.life",
)
NEVER: dict[str, tuple[str, ...]] = {
    "front": ("admin", "engine", "dns", "items", "dht", "resolver", "overlay", "publishing", "state"),
    "admin": ("front",),
    "engine": ("front",),
    "signer": ("front", "engine"),
}

# Each library of weight comes in through named doors.
DOORS: dict[str, tuple[str, ...]] = {
    "dnslib": ("dns.message",),
    "dns": ("dns.zonefile", "cli.dnsclient", "cli.transfer", "signer"),
    "cryptography": ("items.keys",),
    "kademlia": ("dht.routing",),
    "mnemonic": ("items.words",),
    "structlog": ("log",),
    "msgspec": ("values",),
    "sqlite3": ("state",),
    "zeroconf": ("net.discovery",),
    "click": ("cli", "demo"),
    "rich": ("cli", "demo"),
    "matplotlib": ("sim.figure",),
    "watchfiles": ("cli.watching",),
}

PURE = (
    "dns",
    "items",
    "dht",
    "moving",
    "resolver",
    "link",
    "addresses",
    "rates",
    "remembered",
    "timing",
    "naming",
    "errors",
    "front.doors.fairness",
    "front.transport",
)
IMPURE_MODULES = frozenset(
    [
        "asyncio",
        "datetime",
        "logging",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
        "socket",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "uuid",
        "p2pdns.clock",
        "p2pdns.log",
    ]
)

# Rooms that may use coroutines, futures and tasks as well, and nothing else of what the core must not touch. They are
# told the time (`loop.time` is a clock too), and what they would log; sockets, threads and processes are others' work.
WAITING = ("overlay", "publishing")
OF_ASYNCIO = frozenset(
    [
        "CancelledError",
        "Future",
        "Task",
        "create_task",
        "ensure_future",
        "gather",
        "get_running_loop",
        "sleep",
        "wait",
    ]
)
OF_A_LOOP = frozenset(["call_later", "call_soon", "create_future", "create_task"])

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
PROPERTY_LINES_MAX = 2  # Of a property without a docstring; dunder methods need none at any length.


def modules() -> list[tuple[str, Path]]:
    """Return (dotted name below p2pdns, path) of every module, in order; a package is named after its folder."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found.append((".".join(parts), path))
    return found


@cache
def _known() -> frozenset[str]:
    return frozenset(name for name, _ in modules())


def tools() -> list[tuple[str, Path]]:
    """Return (dotted name, path) of every module in deploy/: they keep house too, but stand on no floor."""
    paths = sorted((ROOT / "deploy").rglob("*.py"))
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts), path) for path in paths]


def is_inside(module: str, room: str) -> bool:
    """Return whether `module` is `room` or lies below it."""
    return module == room or module.startswith(room + ".")


def row_of(module: str) -> int | None:
    """Return the row of the ladder that a module stands on; None for a folder's own __init__."""
    for row, rooms in enumerate(LADDER):
        if any(is_inside(module, room) for room in rooms):
            return row
    return None


def imports_of(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted module) for every import in a module, those inside functions too.

    `from p2pdns.dht import krpc` counts as p2pdns.dht.krpc where such a module exists.
    """
    known = _known()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ("p2pdns." + module).split(".")
                base = ".".join([*package[: len(package) - node.level], *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield node.lineno, inner if inner.removeprefix("p2pdns.") in known else base


def floor_findings(module: str, source: str) -> list[str]:
    """Return every import that climbs the ladder, crosses a forbidden border or uses a library past its door."""
    findings = []
    row = row_of(module)
    for line, name in imports_of(module, source):
        if name == "p2pdns" or name.startswith("p2pdns."):
            other = name.removeprefix("p2pdns").removeprefix(".")
            if other and row is not None:
                findings += [f"{module}:{line}: {text}" for text in _inner_findings(module, row, other)]
            continue
        library = name.split(".")[0]
        doors = DOORS.get(library)
        if doors is not None and not any(is_inside(module, door) for door in doors):
            findings.append(f"{module}:{line}: {library} comes in through {', '.join(doors)} only")
    return findings


def _inner_findings(module: str, row: int, other: str) -> Iterator[str]:
    own = next(room for room in LADDER[row] if is_inside(module, room))
    other_row = row_of(other)
    if not is_inside(other, own) and (other_row is None or other_row >= row):
        yield f"imports {other}, which is not on a lower floor"
    # The module and not its entry in the ladder: two files of a room may be bound where the room is not.
    bound = next((room for room in GROUND_FLOOR_ONLY if is_inside(module, room)), None)
    if bound is not None and not is_inside(other, own) and other not in GROUND_FLOOR:
        yield f"imports {other}, but {bound} stands on the ground floor only"
    for forbidden in NEVER.get(own, ()):
        if is_inside(other, forbidden) and other not in GROUND_FLOOR:
            yield f"imports {other}, but {own} never sees {forbidden}"


def purity_findings(module: str, source: str) -> list[str]:
    """Return every way in which a core module could read a clock, chance, a file, a socket, or set order."""
    waits = any(is_inside(module, room) for room in WAITING)
    if not waits and not any(is_inside(module, room) for room in PURE):
        return []
    findings = [
        f"{module}:{line}: imports {name}; the core takes such things as arguments"
        for line, name in imports_of(module, source)
        if (name in IMPURE_MODULES or name.split(".")[0] in IMPURE_MODULES) and not (waits and name == "asyncio")
    ]
    tree = ast.parse(source)
    if waits:
        findings += [f"{module}:{line}: uses {name}, which is no future, task or coroutine" for line, name in _io(tree)]
    for node in ast.walk(tree):
        iterated = [node.iter] if isinstance(node, ast.For | ast.comprehension) else []
        for iterable in iterated:
            is_set = isinstance(iterable, ast.Set | ast.SetComp) or (
                isinstance(iterable, ast.Call)
                and isinstance(iterable.func, ast.Name)
                and iterable.func.id in ("set", "frozenset")
            )
            if is_set:
                findings.append(f"{module}:{iterable.lineno}: iterates a set; a seed is a history")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            findings.append(f"{module}:{node.lineno}: opens a file")
    return findings


def _io(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, name) for all of asyncio and its loops that a room which only waits has no use for."""
    loops = {"loop", "_loop"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio" and not node.level:
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.Assign) and _is_loop(node.value, loops):
            loops |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        if isinstance(node.value, ast.Name) and node.value.id == "asyncio" and node.attr not in OF_ASYNCIO:
            yield node.lineno, f"asyncio.{node.attr}"
        if _is_loop(node.value, loops) and node.attr not in OF_A_LOOP:
            yield node.lineno, f"{node.attr} of a loop"


def _is_loop(node: ast.expr, loops: set[str]) -> bool:
    """Return whether an expression is an event loop: a known name, or what asyncio gives out as one."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in ("get_running_loop", "get_loop")
    return (isinstance(node, ast.Name) and node.id in loops) or (isinstance(node, ast.Attribute) and node.attr in loops)


def zone_findings(module: str, source: str) -> list[str]:
    """Return where a zone's id and its key are taken for one; persons at a terminal name zones by keys."""
    if module in ("items.keys", "overlay.parts"):
        return []
    findings = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr == "signed_by":
            findings.append(f"{module}:{node.lineno}: takes the key of a zone id; overlay.parts does")
        if isinstance(node, ast.Call) and not any(is_inside(module, room) for room in ("cli", "demo")):
            if ast.unparse(node.func) in ("ZoneId", "ZoneId.of_key"):
                findings.append(f"{module}:{node.lineno}: makes a zone id of a key; overlay.parts does")
    return findings


def namesake_findings(sources: Mapping[str, str]) -> list[str]:
    """Return the class names, private ones too, that stand for more than one thing in these modules."""
    homes: dict[str, list[str]] = {}
    for module, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(f"{module}:{node.lineno}")
    return [f"{name}: {', '.join(places)}" for name, places in sorted(homes.items()) if len(places) > 1]


def tidy_findings(module: str, source: str) -> list[str]:
    """Return what is too long, undocumented or printed in a module."""
    findings = []
    tree = ast.parse(source)
    line_count = source.count("\n")
    if line_count > MODULE_LINES_MAX:
        findings.append(f"{module}: {line_count} lines, {MODULE_LINES_MAX} allowed; split it by concern")
    if not ast.get_docstring(tree):
        findings.append(f"{module}: no docstring at the head")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                findings.append(f"{module}:{node.lineno}: {node.name} has {length} lines, {FUNCTION_LINES_MAX} allowed")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            if module != "cli.ui":
                findings.append(f"{module}:{node.lineno}: prints; only cli.ui does")
    findings += [f"{module}:{line}: public {name} has no docstring" for line, name in _undocumented(tree)]
    return findings


def _undocumented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield node.lineno, node.name
            if isinstance(node, ast.ClassDef):
                yield from _undocumented_methods(node)


def _undocumented_methods(owner: ast.ClassDef) -> Iterator[tuple[int, str]]:
    for node in owner.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node) and not _explains_itself(node):
                yield node.lineno, f"{owner.name}.{node.name}"


def _explains_itself(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a method is a property of one or two lines: its name and its code say all that there is to say."""
    names = {node.id for node in method.decorator_list if isinstance(node, ast.Name)}
    lines = (method.body[-1].end_lineno or 0) - method.body[0].lineno + 1
    return bool(names & {"property", "cached_property"}) and lines <= PROPERTY_LINES_MAX


_ERROR_NAMES = re.compile(r"^(Usage|Config|ZoneFile|KeyFile)Error$|^Unavailable$")
_STRANGER_NAMES = re.compile(r"^(FormatError|BadItem|BadRequest)$")
# Words that keep their capitals at the head of a message.
_PROPER = re.compile(r"^[A-Z0-9][A-Z0-9/.\-]*s?\b|^Ed25519")


def message_findings(module: str, source: str) -> list[str]:
    """Return error messages that break the style: lower case, no full stop, never a bare "failed".

    A stranger's error opens with a reason token that counters can use.
    """
    findings = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            continue
        text = _literal_text(node.args[0])
        if text is None:
            continue
        if _STRANGER_NAMES.match(node.func.id) and not re.fullmatch(r"[a-z0-9\-]+", text):
            findings.append(f"{module}:{node.lineno}: {text!r} is not a reason token")
        if _ERROR_NAMES.match(node.func.id):
            if text[:1].isupper() and not _PROPER.match(text):
                findings.append(f"{module}:{node.lineno}: {text!r} opens with a capital")
            if text.endswith(".") or text.strip() in ("failed", "error"):
                findings.append(f"{module}:{node.lineno}: {text!r} ends with a full stop or says nothing")
    return findings


def _literal_text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
    return None


# Underscored names that the standard library documents.
PUBLIC_ALL_THE_SAME = frozenset(["_asdict", "_exit", "_field_defaults", "_fields", "_make", "_replace"])
BY_NAME = frozenset(["delattr", "getattr", "hasattr", "setattr"])


def _is_private(name: str) -> bool:
    is_underscored = name.startswith("_") and not name.endswith("__") and bool(name.strip("_"))
    return is_underscored and name not in PUBLIC_ALL_THE_SAME


def private_reads(source: str) -> list[int]:
    """Return the line of every private name of another object or module that a source reads, sets or imports."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute | ast.ImportFrom | ast.Call):
            continue
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            if ast.unparse(node.value) not in ("self", "cls", "super()"):
                names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        elif ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
            texts = [word.value for word in node.args[:2] if isinstance(word, ast.Constant)]
            names = [text.rpartition(".")[2] for text in texts if isinstance(text, str)]
        lines += [node.lineno for name in names if _is_private(name)]
    return sorted(lines)
