"""Find a fragment of Python inside a definition, on syntax trees, and put another in its place.

An anchor is `module:qualified.name`. The module is the tail of its dotted path, as short as is unambiguous
(`storage`, `overlay.reader`); the name is that of a class, a function, a method, a function inside one, or of
what a module or a class assigns. Without a name it means the whole module. Where no module of that path defines the
name, the one module that does so and has the fragment is meant: a file may move or be renamed.

A fragment is an expression, statements that follow each other, or the header of a compound statement up to its colon.
It matches where the syntax tree is the same: white space, line breaks, comments, quotes and parentheses do not matter.
"""

from __future__ import annotations

import ast
import functools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Where the modules are that a sabotage may be in.
FOLDERS = ("p2pdns", "deploy", "bench", "tests/testbed")

_BLOCKS = ("body", "orelse", "finalbody")
_NOT_IN_A_HEADER = (*_BLOCKS, "handlers", "cases", "decorator_list", "type_ignores")
# What needs no parentheses wherever it stands.
_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp)
_ATOMS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.JoinedStr, *_DISPLAYS)


class AnchorError(Exception):
    """A fragment that is not found exactly once, or what cannot be put in its place."""


@dataclass(frozen=True)
class Fragment:
    """A piece of Python: the nodes it consists of, and whether only their header counts."""

    nodes: tuple[ast.AST, ...]
    is_header: bool = False

    @functools.cached_property
    def key(self) -> tuple[str, ...]:
        """Return what two fragments that mean the same have in common."""
        return tuple(_key(_header(node) if self.is_header else node) for node in self.nodes)


@dataclass(frozen=True)
class Place:
    """Where a fragment was found: the nodes of the module that it matched."""

    nodes: tuple[ast.AST, ...]
    # The statement that consists of nothing but the expression that was found.
    statement: ast.Expr | None = None


class Module:
    """One module: its path, its text, and what it defines."""

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path
        parts = list(path.relative_to(root).with_suffix("").parts)
        self.dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @functools.cached_property
    def text(self) -> str:
        """Return the source text."""
        return self.path.read_text("utf-8")

    @functools.cached_property
    def definitions(self) -> dict[str, list[ast.AST]]:
        """Return the nodes that define each qualified name; the empty name is the module itself."""
        tree = ast.parse(self.text)
        found: dict[str, list[ast.AST]] = {"": [tree]}
        for name, node in _definitions(tree.body, "", is_function=False):
            found.setdefault(name, []).append(node)
        return found

    def places(self, name: str, fragment: Fragment) -> list[Place]:
        """Return each place inside the definition of `name` that the fragment matches."""
        return [place for node in self.definitions.get(name, ()) for place in _places(node, fragment)]


class Modules:
    """All modules below a root that a sabotage may be in."""

    def __init__(self, root: Path) -> None:
        paths = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
        self._modules = [Module(root, path) for path in paths]

    def find(self, at: str, fragment: Fragment) -> tuple[Module, Place]:
        """Return the one place of the fragment inside the definition that `at` names, and its module."""
        tail, colon, name = at.partition(":")
        if not colon:
            raise AnchorError(f"{at}: an anchor is module:qualified.name")
        of_tail = [module for module in self._modules if f".{module.dotted}".endswith(f".{tail}")]
        defining = [module for module in of_tail if name in module.definitions]
        if not defining and name:
            # It has moved. The name alone finds it, as long as one module only has both the name and the fragment.
            defining = [module for module in self._modules if module.places(name, fragment)]
        if len(defining) != 1:
            names = ", ".join(module.dotted for module in defining) or "none"
            raise AnchorError(f"{at}: {len(defining)} modules have that: {names}")
        places = defining[0].places(name, fragment)
        if len(places) != 1:
            raise AnchorError(f"{at}: the old fragment occurs {len(places)} times")
        return defining[0], places[0]

    def sabotage(self, at: str, old: str, new: str) -> tuple[Path, str]:
        """Return the path of the module that `at` names, and its text with `new` in the place of `old`."""
        fragment = parse(old)
        module, place = self.find(at, fragment)
        text = splice(module.text, place, new, is_header=fragment.is_header)
        try:
            compile(text, str(module.path), "exec", dont_inherit=True)
        except SyntaxError as error:
            raise AnchorError(f"{module.dotted} no longer compiles: {error}") from None
        if _means_the_same(fragment, new):
            raise AnchorError("changes nothing")
        return module.path, text


def parse(text: str) -> Fragment:
    """Return the fragment that a text is."""
    text = textwrap.dedent(text).strip()
    if text.endswith(":"):
        return Fragment((_parsed_header(text),), is_header=True)
    try:
        nodes: list[ast.stmt] = ast.parse(text).body
    except SyntaxError as error:
        try:  # An expression may be broken into lines where only parentheses around it would allow that.
            return Fragment((ast.parse(f"({text}\n)", mode="eval").body,))
        except SyntaxError:
            raise AnchorError(f"{text!r} is no Python: {error}") from None
    if not nodes:
        raise AnchorError("the old fragment is empty")
    if len(nodes) == 1 and isinstance(nodes[0], ast.Expr):
        return Fragment((nodes[0].value,))
    return Fragment(tuple(nodes))


def splice(text: str, place: Place, new: str, *, is_header: bool = False) -> str:
    """Return `text` with `new` at a place in it, indented and in parentheses as that place needs it."""
    source = _Source(text)
    new = textwrap.dedent(new).strip()
    if is_header:
        node = place.nodes[0]
        start, end = source.keyword(node), source.colon(node) + 1
        is_elif = source.raw.startswith(b"elif", start)
        return source.replaced(start, end, source.indented("el" * (is_elif and new.startswith("if")) + new, node))
    if isinstance(place.nodes[0], ast.expr):
        written = _expression(new, place.nodes[0])
        if written is not None:
            return source.replaced(source.start(place.nodes[0]), source.end(place.nodes[0]), written)
        if place.statement is None:
            raise AnchorError(f"no longer compiles: {new!r} cannot stand in the place of an expression")
        place = Place((place.statement,))
    return _with_statements(source, place.nodes, new or "pass")


def _with_statements(source: _Source, nodes: Sequence[ast.AST], new: str) -> str:
    start, end = source.start(nodes[0]), source.end(nodes[-1])
    if source.raw.startswith(b"elif", start):
        new = "el" + new if new.startswith("if ") else "else:\n" + textwrap.indent(new, "    ")
    return source.replaced(start, end, source.indented(new, nodes[0]))


class _Source:
    """A source text as bytes: the offsets of a syntax tree count those."""

    def __init__(self, text: str) -> None:
        self.raw = text.encode()
        self._lines = [0]
        for line in self.raw.split(b"\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)

    def start(self, node: ast.AST) -> int:
        """Return where a node begins: a decorated definition at its first decorator."""
        assert isinstance(node, ast.expr | ast.stmt | ast.excepthandler)
        line = node.lineno
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            line = min([line, *(decorator.lineno for decorator in node.decorator_list)])
        return self._lines[line - 1] + node.col_offset

    def keyword(self, node: ast.AST) -> int:
        """Return where the first word of a statement is, behind its decorators."""
        assert isinstance(node, ast.stmt | ast.excepthandler)
        return self._lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.AST) -> int:
        """Return where a node is over."""
        assert isinstance(node, ast.expr | ast.stmt | ast.excepthandler | ast.arg | ast.keyword)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset

    def colon(self, node: ast.AST) -> int:
        """Return where the colon is that ends the header of a node."""
        # Behind the last thing in a header that is a node, no other colon follows.
        last = max([self.keyword(node), *(self.end(inner) for inner in _positioned(_header(node)))])
        return self.raw.index(b":", last)

    def indented(self, new: str, node: ast.AST) -> str:
        """Return some lines as deep as the node in whose place they come."""
        assert isinstance(node, ast.stmt | ast.excepthandler)
        return textwrap.indent(new, " " * node.col_offset).lstrip(" ")

    def replaced(self, start: int, end: int, new: str) -> str:
        """Return the text with `new` from `start` to `end`."""
        return (self.raw[:start] + new.encode() + self.raw[end:]).decode()


def _definitions(body: Sequence[ast.AST], prefix: str, *, is_function: bool) -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name, node
            inner_is_function = not isinstance(node, ast.ClassDef)
            yield from _definitions(node.body, f"{prefix}{node.name}.", is_function=inner_is_function)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)]
            yield from ((prefix + name, node) for name in names if not is_function)
        else:
            for block in (*_BLOCKS, "handlers", "cases"):
                yield from _definitions(getattr(node, block, ()), prefix, is_function=is_function)


def _places(definition: ast.AST, fragment: Fragment) -> Iterator[Place]:
    first = fragment.nodes[0]
    kind = type(first)
    if isinstance(first, ast.expr):
        for node, parent in _walk(definition):
            if type(node) is kind and (_key(node),) == fragment.key:
                yield Place((node,), parent if isinstance(parent, ast.Expr) else None)
    elif fragment.is_header:
        for node, _ in _walk(definition):
            if type(node) is kind and (_key(_header(node)),) == fragment.key:
                yield Place((node,))
    else:
        count = len(fragment.nodes)
        for block in _blocks(definition):
            for index in range(len(block) - count + 1):
                run = tuple(block[index : index + count])
                if type(run[0]) is kind and tuple(map(_key, run)) == fragment.key:
                    yield Place(run)


def _walk(node: ast.AST, parent: ast.AST | None = None) -> Iterator[tuple[ast.AST, ast.AST | None]]:
    yield node, parent
    if not isinstance(node, ast.JoinedStr):  # Before Python 3.12 nothing inside an f-string knows its position.
        for inner in ast.iter_child_nodes(node):
            yield from _walk(inner, node)


def _blocks(definition: ast.AST) -> Iterator[list[ast.AST]]:
    if isinstance(definition, ast.stmt):
        yield [definition]
    for node, _ in _walk(definition):
        for block in _BLOCKS:
            statements = getattr(node, block, None)
            if isinstance(statements, list):
                yield statements


def _positioned(node: ast.AST) -> Iterator[ast.AST]:
    for inner in ast.iter_child_nodes(node):
        if hasattr(inner, "end_lineno"):
            yield inner
        else:
            yield from _positioned(inner)


def _header(node: ast.AST) -> ast.AST:
    kept = [field for field in node._fields if field not in _NOT_IN_A_HEADER and hasattr(node, field)]
    return type(node)(**{field: getattr(node, field) for field in kept})


def _key(node: ast.AST) -> str:
    return ast.dump(node).replace("ctx=Store()", "ctx=Load()").replace("ctx=Del()", "ctx=Load()")


def _parsed_header(text: str) -> ast.AST:
    whole = f"{text} pass"
    if text.startswith("elif"):
        whole = whole[2:]
    if text.startswith("except"):
        whole = f"try: pass\n{whole}"
    try:
        node: ast.AST = ast.parse(whole).body[0]
    except SyntaxError as error:
        raise AnchorError(f"{text!r} is no header: {error}") from None
    return node.handlers[0] if isinstance(node, ast.Try) else node


def _expression(new: str, old: ast.expr) -> str | None:
    """Return an expression as it can stand in the place of `old`; None where it is none."""
    try:
        fragment = parse(new)
    except AnchorError:
        return None
    node = fragment.nodes[0]
    if not isinstance(node, ast.expr):
        return None
    # The only argument of a call is written in the parentheses of that call, if it is a generator.
    is_atom = isinstance(node, _ATOMS) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes | None)
    )
    is_plain = is_atom and "\n" not in new and not isinstance(old, ast.GeneratorExp)
    if is_plain or isinstance(node, ast.Starred):
        return new
    return f"({new}\n)" if "\n" in new or "#" in new else f"({new})"


def _means_the_same(fragment: Fragment, new: str) -> bool:
    try:
        return parse(new).key == fragment.key
    except AnchorError:
        return False  # Statements that need what surrounds them, or nothing at all; old is neither.
