"""Every one-token mutation that can be made in the rooms, and a draw of some of them.

A site is a token that decides something: the edge of a comparison, `and`, `or`, `not`, `+`, `-`, `min`, `max`, a whole
number, a truth value, a call whose value nobody takes, a value that is returned. A seed draws sites, then one of the
mutations of each; the same seed draws the same ones from the same tree.

No site is in an annotation, a decorator, an `assert` or the `strict` of a `zip`: these are checks of our own mistakes,
and no behaviour differs without them.
"""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutants import anchors
from tests.mutants.table import ROOT

ROOMS = ("items", "dht", "dns", "overlay", "resolver", "front")

_COMPARED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.Eq: ast.NotEq,
    ast.Is: ast.IsNot,
    ast.In: ast.NotIn,
}
_OPERATORS = {**_COMPARED, ast.And: ast.Or, ast.Add: ast.Sub}
_OPERATORS |= {new: old for old, new in _OPERATORS.items()}
_NAMES = {"min": "max", "max": "min"}


@dataclass(frozen=True)
class Mutation:
    """One change of one token: `text` is the whole module with it."""

    path: Path
    line: int
    before: str
    after: str
    text: str
    # The line of the innermost function that it is in; outside of all 0, and the names whose value it decides.
    function: int
    names: frozenset[str]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


@dataclass(frozen=True)
class _Site:
    path: Path
    node: ast.expr | ast.stmt
    changed: tuple[ast.AST | None, ...]
    scopes: tuple[ast.AST, ...]


def drawn(seed: int, count: int, root: Path = ROOT) -> list[Mutation]:
    """Return some of the mutations of the rooms below a root, as the seed has it."""
    rng = random.Random(seed)
    found = list(_sites(root))
    return [_made(site, rng.choice(site.changed), root) for site in rng.sample(found, min(count, len(found)))]


def _made(site: _Site, changed: ast.AST | None, root: Path) -> Mutation:
    after = "pass" if changed is None else ast.unparse(changed)
    text = anchors.splice((root / site.path).read_text("utf-8"), anchors.Place((site.node,)), after)
    functions = [scope for scope in site.scopes if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef)]
    line = functions[-1].lineno if functions else 0
    given = (names_given(scope) for scope in site.scopes if not functions)
    names = frozenset(name for names in given for name in names)
    before = ast.unparse(site.node)
    return Mutation(site.path, site.node.lineno, _short(before), _short(after), text, line, names)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}..."


def names_given(node: ast.AST) -> set[str]:
    """Return the names that a statement gives a value to: what it assigns, or the class or function it defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    inner = [inner for target in targets if target is not None for inner in ast.walk(target)]
    return {name.id for name in inner if isinstance(name, ast.Name)}


def _sites(root: Path) -> Iterator[_Site]:
    for room in ROOMS:
        for path in sorted((root / "p2pdns" / room).rglob("*.py")):
            for node, scopes in _walk(ast.parse(path.read_text("utf-8")), ()):
                for changes in _changes(node):
                    assert isinstance(node, ast.expr | ast.stmt)
                    yield _Site(path.relative_to(root), node, changes, scopes)


def _walk(node: ast.AST, scopes: tuple[ast.AST, ...]) -> Iterator[tuple[ast.AST, tuple[ast.AST, ...]]]:
    # Before Python 3.12 nothing inside an f-string knows its position.
    if isinstance(node, ast.Assert | ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg == "strict"):
        return
    yield node, scopes
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign):
        scopes = (*scopes, node)
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, ast.AST):
                yield from _walk(inner, scopes)


def _changes(node: ast.AST) -> Iterator[tuple[ast.AST | None, ...]]:
    """Yield what each site in a node can become; None is nothing at all."""
    match node:
        case ast.Compare(ops=ops):
            for index, operator in enumerate(ops):
                yield (_changed(node, ops=[*ops[:index], _other(operator), *ops[index + 1 :]]),)
        case ast.BoolOp(op=operator):
            yield (_changed(node, op=_other(operator)),)
        case ast.BinOp(op=ast.Add() | ast.Sub() as operator) | ast.AugAssign(op=ast.Add() | ast.Sub() as operator):
            yield (_changed(node, op=_other(operator)),)
        case ast.UnaryOp(op=ast.Not()):
            yield (node.operand,)
        case ast.Constant(value=bool(value)):
            yield (ast.Constant(not value),)
        case ast.Constant(value=int(number)):
            yield (ast.Constant(number + 1), ast.Constant(number - 1))
        case ast.Call(func=ast.Name(id="min" | "max" as name)):
            yield (_changed(node, func=ast.Name(_NAMES[name])),)
        case ast.Expr(value=ast.Call() | ast.Await(value=ast.Call())):
            yield (None,)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield (ast.Return(None),)


def _other(operator: ast.AST) -> ast.AST:
    new: ast.AST = _OPERATORS[type(operator)]()
    return new


def _changed(node: ast.AST, **values: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in values.items():
        setattr(new, name, value)
    return new
