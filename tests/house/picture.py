"""The picture of the house, drawn from the table of floors.

    python -m tests.house.picture        writes docs/figures/architecture.svg; `make architecture` does so

Guarantees: the rooms, and which stands above which, are those of `LADDER`; the marks of a room are the processes whose
first module imports it, directly or through others; the same sources give the same bytes. Does not know what a room
does beyond the line that stands here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from tests.house.rules import GROUND_FLOOR, LADDER, PACKAGE, ROOT, imports_of, is_inside, modules

PICTURE = ROOT / "docs" / "figures" / "architecture.svg"

# What stands on the floors, by the first word of a row.
PURPOSES = {
    "__main__": "python -m p2pdns",
    "demo": "a network on one machine",
    "cli": "the command line, a file per family of verbs",
    "sim": "a simulated world: production code in virtual time, by a seed",
    "supervisor": "starts, watches and stops the two processes of p2pdns serve",
    "signer": "holds the key of a zone; UPDATE, transfers and NOTIFY, in a process of its own",
    "engine": "puts the parts of the engine process together; its end of the link",
    "admin": "what a running daemon can be told; beside it the clients' side, in bytes and without a DNS library",
    "net": "sockets: the endpoint of the node, upstream resolvers, neighbours",
    "state": "what survives a restart",
    "publishing": "what is published here, and how it stays published",
    "overlay": "the newest item of a zone key, found and remembered",
    "resolver": "from a question to an answer, step by step",
    "config": "settings, the frames between the processes, the state directory, the rights of root",
    "moving": "zones of other servers in, and out in their forms",
    "dht": "a Mainline node as a machine: datagrams and a time in, datagrams out",
    "items": "keys, signed items, and how a zone is packed into one",
    "dns": "names, messages, zones, zone files",
    "errors": "the ground floor: every other floor may use it",
}
# Each process of a running p2pdns, the module that it begins with, and its colour.
PROCESSES = (
    ("front process", "front.main", "#1b6ca8"),
    ("engine process", "engine.main", "#2a7f62"),
    ("supervisor", "supervisor", "#9a5b13"),
    ("p2pdns publish", "cli.publish", "#6a4c93"),
    ("p2pdns signer", "cli.signer", "#b03a5b"),
)
INK, FAINT, GROUND, PANEL, EDGE = "#1d1d1f", "#5f6368", "#ffffff", "#f5f7fa", "#c9d1d9"
FONT = "system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif"
WIDTH, MARGIN, HEAD, GAP, BOX_LEFT = 1190, 24, 84, 6, 104
# A floor is as high as its boxes, or has room for a line below them where they leave none beside them.
BAND, BAND_WITH_LINE, LINE_WIDTH = 44, 60, 560
LETTER, BOX_HEIGHT, DOT = 7.7, 32, 3.4


def floors() -> list[list[tuple[str, ...]]]:
    """Return the rows of the ladder from the top; rows of one room, and those of the ground floor, make one floor."""
    numbered = list(enumerate(LADDER))

    def floor_of(numbered_row: tuple[int, tuple[str, ...]]) -> object:
        number, row = numbered_row
        if set(row) <= set(GROUND_FLOOR):
            return "ground"
        rooms = {entry.split(".")[0] for entry in row}
        return rooms.pop() if len(rooms) == 1 else number

    return [[row for _, row in rows] for _, rows in groupby(numbered, floor_of)][::-1]


@cache
def imported() -> dict[str, list[str]]:
    """Return for each module the modules of ours that it imports, at its head or later, and the packages of those."""
    found: dict[str, list[str]] = {}
    for module, path in modules():
        imports = [name for _, name in imports_of(module, path.read_text())]
        names = [name.removeprefix("p2pdns.") for name in imports if name.startswith("p2pdns.")]
        found[module] = [*names, *(name.rpartition(".")[0] for name in names)]
    return found


def loaded_by(start: str) -> set[str]:
    """Return every module that one imports, directly or through others."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module and module not in found and module in imported():
            found.add(module)
            waiting += imported()[module]
    return found


def draw() -> str:
    """Return the picture as SVG."""
    loaded = [(colour, loaded_by(start)) for _, start, colour in PROCESSES]
    bands = []
    top = HEAD
    for rows in floors():
        assert _boxes_right(rows) <= WIDTH - MARGIN, f"the floor of {rows[0][0]} is wider than the picture"
        bands.append((rows, top))
        top += _band_height(rows) + GAP
    height = top + MARGIN - GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="{FONT}" font-size="13">',
        "<title>The rooms of p2pdns, floor above floor</title>",
        "<desc>Every module imports from lower floors only; coloured marks say which process loads a room.</desc>",
        f'<rect x="0" y="0" width="{WIDTH}" height="{height}" rx="12" fill="{GROUND}"/>',
        _text(
            MARGIN, 36, "A module imports from lower floors, and on its own floor from what stands left of a ‹", size=15
        ),
        *_legend(),
    ]
    for rows, top in bands:
        parts += _floor(rows, top, loaded)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> Iterator[str]:
    left: float = MARGIN
    yield _text(left, 63, "loaded by", colour=FAINT, size=12)
    for name, _, colour in PROCESSES:
        left += 70 if left == MARGIN else 130
        yield _dot(left, 59, colour)
        yield _text(left + 9, 63, name, colour=FAINT, size=12)


def _names(rows: list[tuple[str, ...]]) -> Iterator[Iterator[tuple[str, str]]]:
    """Yield for each row (entry of the ladder, what is written in its box)."""
    room = rows[0][0].split(".")[0]
    for row in rows:
        yield ((entry, entry.removeprefix(f"{room}.") + ("/" if _is_folder(entry) else "")) for entry in row)


def _width(name: str) -> float:
    return max(len(name) * LETTER + 14, 50)


def _boxes_right(rows: list[tuple[str, ...]]) -> float:
    widths = [_width(name) + 5 for row in _names(rows) for _, name in row]
    return BOX_LEFT + sum(widths) + 13 * (len(rows) - 1)


def _band_height(rows: list[tuple[str, ...]]) -> int:
    return BAND if _boxes_right(rows) + LINE_WIDTH < WIDTH else BAND_WITH_LINE


def _floor(rows: list[tuple[str, ...]], top: int, loaded: list[tuple[str, set[str]]]) -> Iterator[str]:
    first = rows[0][0]
    room = first.split(".")[0]
    height = _band_height(rows)
    yield f'<rect x="{MARGIN}" y="{top}" width="{WIDTH - 2 * MARGIN}" height="{height}" rx="8" fill="{PANEL}"/>'
    if "." in first:
        yield _text(MARGIN + 14, top + 24, f"{room}/", size=14, bold=True)
    beside = height == BAND
    yield _text(
        _boxes_right(rows) + 8 if beside else BOX_LEFT,
        top + (26 if beside else height - 8),
        PURPOSES[room],
        colour=FAINT,
        size=12,
    )
    left: float = BOX_LEFT
    for number, row in enumerate(_names(rows)):
        if number:
            yield _text(left + 1, top + 26, "‹", colour=FAINT, size=15)
            left += 13
        for entry, name in row:
            yield _box(left, top + 6, _width(name), name, is_there=_exists(entry))
            marks = [colour for colour, modules_ in loaded if any(is_inside(module, entry) for module in modules_)]
            for place, colour in enumerate(marks):
                yield _dot(left + 9 + place * 9, top + 31, colour)
            left += _width(name) + 5


def _is_folder(entry: str) -> bool:
    return (PACKAGE / entry.replace(".", "/")).is_dir() or not _exists(entry)


def _exists(entry: str) -> bool:
    return any(is_inside(name, entry) for name, _ in modules())


def _box(left: float, top: float, width: float, name: str, *, is_there: bool) -> str:
    dashed = "" if is_there else ' stroke-dasharray="5 4"'
    rect = (
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{BOX_HEIGHT}" rx="6" fill="{GROUND}" '
        f'stroke="{EDGE}"{dashed}/>'
    )
    return rect + "\n" + _text(left + 7, top + 15, name, size=13)


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:g}" cy="{y:g}" r="{DOT}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, colour: str = INK, size: int = 13, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}"{weight}>{escape(text)}</text>'


def main(path: Path = PICTURE) -> None:
    """Write the picture."""
    path.write_text(draw())


if __name__ == "__main__":
    main()
