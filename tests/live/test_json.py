"""docs/json.md says what the verbs print with --json: every field of every document, held against the page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from p2pdns.cli.main import p2pdns_command
from p2pdns.cli.verbs import VERBS
from tests.cli import overlay, runner

PAGE = Path(__file__).resolve().parents[2] / "docs" / "json.md"
TYPES: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "number": (int, float),
    "truth": bool,
    "list": list,
    "table": dict,
    "null": type(None),
}
ROW = re.compile(r"^\| `([\w\[\].]+)`( \?)? \| ([a-z, ]+) \|")
OPEN = {"status"}  # Sections that say themselves that there is more.
FAILURE = "A failure"
VARIANTS = {"resolve --holders", "publish of tables"}  # Flags that make another document.


class Field:
    """A row of a table: whether it may be left out, and its types."""

    def __init__(self, is_optional: bool, types: str) -> None:
        self.is_optional = is_optional
        self.names = types.split(", ")

    def takes(self, value: object) -> bool:
        """Return whether a value is of one of the types; a truth is no number."""
        if isinstance(value, bool):
            return "truth" in self.names
        return any(isinstance(value, TYPES[name]) for name in self.names if name != "truth")


def sections() -> dict[str, dict[str, Field]]:
    """Return the tables of the page by their headings."""
    found: dict[str, dict[str, Field]] = {}
    for block in PAGE.read_text().split("\n## ")[1:]:
        title, _, text = block.partition("\n")
        rows = [match for line in text.splitlines() if (match := ROW.match(line))]
        found[title] = {row[1]: Field(bool(row[2]), row[3]) for row in rows}
    return found


SECTIONS = sections()


def leaves(value: Any, fields: Mapping[str, Field], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each field of a document by its path, down to where the page stops."""
    if path in fields:
        yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, fields, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(name.startswith(f"{path}[].") for name in fields):
        for entry in value:
            yield from leaves(entry, fields, f"{path}[]")
    else:
        yield path, value


def findings(document: Mapping[str, Any], title: str) -> list[str]:
    """Return what of a document is not as the page says."""
    fields = dict(SECTIONS[title])
    if "error" in document:
        fields |= SECTIONS[FAILURE]
    seen = list(leaves(document, fields))
    wrong = [f"{path} is {value!r}" for path, value in seen if path in fields and not fields[path].takes(value)]
    if title not in OPEN:
        wrong += [f"{path} is not on the page" for path, _ in seen if path not in fields]
    paths = {path for path, _ in seen}
    is_there = "error" not in document
    wrong += [
        f"{path} is missing"
        for path, field in fields.items()
        if is_there and not field.is_optional and path not in paths
    ]
    return wrong


def test_every_verb_with_the_flag_has_its_section() -> None:
    titles = set()
    root = click.Context(p2pdns_command, info_name="p2pdns", **p2pdns_command.context_settings)
    for verb in VERBS:
        command = p2pdns_command.get_command(root, verb)
        assert command is not None
        inner = command.commands.items() if isinstance(command, click.Group) else ()
        for path, one in [(f"{verb} {name}", one) for name, one in inner] or [(verb, command)]:
            titles |= {path for param in one.params if "--json" in param.opts}
    assert titles | VARIANTS | {FAILURE} == set(SECTIONS)


@pytest.mark.parametrize(
    ("document", "title", "word"),
    [
        ({"zone": "k"}, "pubkey", "file is missing"),
        ({"zone": "k", "file": 3}, "pubkey", "file is 3"),
        ({"zone": "k", "file": "f", "more": 1}, "pubkey", "more is not on the page"),
        ({"ok": True, "files": [{"file": "f", "ok": 1}]}, "check", "files[].ok is 1"),
        ({"error": "e", "hint": 3, "exit": 1}, "pubkey", "hint is 3"),
    ],
)
def test_a_document_that_is_not_as_the_page_says_is_found(document: dict[str, Any], title: str, word: str) -> None:
    assert any(word in finding for finding in findings(document, title))


# In order: what one makes, the next reads. `…` is the exit status, 0 where there is none.
CALLS: list[tuple[str, str, int]] = [
    ("keygen", "keygen -o alice.key", 0),
    ("keygen", "keygen -o alice.key", 1),
    ("keygen", "keygen --next alice.key -o next.key", 0),
    ("pubkey", "pubkey alice.key", 0),
    ("key import", "key import seed.hex -o seed.key", 0),
    ("key import", "key import seed.hex -o seed.key", 1),
    ("key restore", "key restore -o restored.key < words", 0),
    ("key restore", "key restore -o again.key < seed.hex", 1),
    ("import", "import example.com --server 127.0.0.1:1 -o imported.zone", 1),
    ("export", "export -k alice.key --from zones/web.zone --format unbound", 0),
    ("export", "export -k alice.key --from zones/web.zone -o exported.zone", 0),
    ("export", "export -k alice.key --from zones/exmaple.zone", 1),
    ("check", "check --zone friend=$(p2pdns pubkey alice.key) zones/links.zone zones/web.zone", 0),
    ("check", "check -k alice.key zones/web.zone", 0),
    ("check", "check zones/web.zone zones/exmaple.zone zones/links.zone", 1),
    ("config print", "config print", 0),
    ("diff", "diff -k alice.key zones/example.zone --size-max 10", 2),
    ("publish", "publish -k alice.key zones/example.zone", 0),
    ("diff", "diff -k alice.key zones/example.zone", 0),
    ("publish", "publish -k alice.key --dry-run zones/web.zone", 0),
    ("publish", "publish -k alice.key zones/web.zone", 1),
    ("publish", "publish -k alice.key zones/example.zone --network nobody --bootstrap 127.0.0.1:9", 1),
    ("publish of tables", "publish -c tables.toml --yes", 1),
    ("publish of tables", "publish -c tables.toml zones/web.zone --dry-run", 0),
    ("name add", "name add alice $(p2pdns pubkey alice.key)", 0),
    ("name list", "name list", 0),
    ("resolve", "resolve www.alice", 0),
    ("resolve", "resolve --trace www.alice", 0),
    ("resolve", "resolve --direct www.alice", 0),
    ("resolve", "resolve pop.alice", 3),
    ("resolve --holders", "resolve www.alice --holders", 0),
    ("inspect", "inspect alice -o alice.item", 0),
    ("inspect", "inspect alice.item", 0),
    ("export", "export alice", 0),
    ("export", "export alice.item --format hosts", 0),
    ("inspect", "inspect alise", 1),
    ("put", "put alice.item", 0),
    ("put", "put alice.item --network session --bootstrap $NODE", 0),
    ("put", "put zones/web.zone", 1),
    ("status", "status", 0),
    ("peers", "peers", 0),
    ("rotate", "rotate alice.key --next next.key --dry-run", 0),
    ("rotate", "rotate alice.key --next next.key", 0),
    ("rotate", "rotate alice.key --next alice.key", 1),
    ("zones", "zones", 0),
    ("pin", "pin alice", 0),
    ("flush", "flush www.alice", 0),
    ("flush", "flush --all", 0),
    ("unpublish", "unpublish -k alice.key --yes", 0),
    ("unpublish", "unpublish -k alice.key", 2),
    ("forget", "forget alice", 0),
    ("forget", "forget --ahead", 0),
    ("reload", "reload", 0),
    ("sim", "sim --seed 1 --nodes 30 --gets 5", 0),
    ("sim", "sim --nodes 7", 2),
    ("name remove", "name remove alice", 0),
    ("name remove", "name remove alice", 1),
]


def test_what_the_verbs_print_is_on_the_page(tmp_path: Path) -> None:
    with overlay.place_in_swarm(tmp_path, overlay.free_port(), is_warm=True) as place:
        try:
            place.start("p2pdns serve")
            place.run("umask 077; printf '%064d' 7 > seed.hex; (yes zoo | head -23; echo vote) > words")
            place.run(
                "for name in alice nobody; do"
                """ printf '[[publish]]\\nzone = "%s/zones/%s.zone"\\nkey = "%s/%s.key"\\n' $PWD web$name $PWD $name;"""
                " done | sed s/webalice/web/ > tables.toml"
            )
            shown = [_document(place, title, words, status) for title, words, status in CALLS]
            (place.folder / "names.txt").write_text(f"bob {json.loads(shown[2])['zone']}\n")
            _document(place, "name import", "name import names.txt", 0)
            # What it finds is the machine's: either way it is on the page.
            done = place.run("p2pdns doctor --json")
            document = json.loads(done.stdout)
            assert findings(document, "doctor") == []
            assert document.get("exit", 0) == done.returncode == (1 if document["problems"] else 0)
        finally:
            place.end()
    assert {title for title, _, _ in CALLS} | {"name import", "doctor", FAILURE} == set(SECTIONS)


def _document(place: runner.Place, title: str, words: str, status: int) -> str:
    done = place.run(f"p2pdns {words} --json")
    assert done.returncode == status, (words, done.stdout, done.stderr)
    document = json.loads(done.stdout)
    assert ("error" in document) is (status != 0), words
    assert document.get("exit", 0) == status, words
    if title == "name list":
        assert all(set(entry) == {"key", "from", "succeeded_by"} for entry in document.values())
    else:
        assert findings(document, title) == [], words
    return done.stdout
