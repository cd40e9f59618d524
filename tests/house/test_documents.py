"""What the documents name is there: links, verbs, flags, configuration keys, and the paths and modules of this tree."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from p2pdns import config as configuration
from p2pdns.cli.main import p2pdns_command
from p2pdns.config import parse
from tests.house.rules import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
# What was once so stays in the history; all other pages speak of today.
TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]
TODAY_IDS = [str(page.relative_to(ROOT)) for page in TODAY]
TABLES = {table: {entry.name for entry in dataclasses.fields(kind)} for table, kind in configuration.TABLES.items()}
FOREIGN_TABLES = {"misc", "mutant"}  # Of other files: of Pi-hole's, and of the sabotages.
# What names paths and modules of today. A decision of the past may name what is no more.
NAMING = [*(page for page in TODAY if page.parent.name != "adr"), ROOT / "Makefile", ROOT / "pyproject.toml"]
NAMING_IDS = [str(page.relative_to(ROOT)) for page in NAMING]
MADE_LATER = ("deploy/report",)  # By `make testbed`.
# Words that look like a module of ours: a suffix of names, and files that stand on other machines.
NO_MODULES = ("p2pdns.internal", "p2pdns.toml", "p2pdns.egg")


def slug_of(heading: str) -> str:
    """Return the anchor that a heading has on a page: lower case, words joined by hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of all headings of a page."""
    return {slug_of(heading) for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)}


def links_of(page: Path) -> list[str]:
    """Return where the links and pictures of a page lead, but for those to other hosts."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:", target)]


def broken_links(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    broken = []
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    return broken


def flags_of(command: click.Command) -> set[str]:
    """Return every flag of a command, its shorthand included."""
    named = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    return {*named, "-h", "--help"}


def calls_in(text: str) -> Iterator[list[str]]:
    """Yield the words of each call of p2pdns in a document, in blocks and between ticks; `$(…)` inside of one apart."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    spans = [line for line in lines if line.startswith("p2pdns ")]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in [*spans, *re.findall(r"`(p2pdns\s[^`]+)`", prose)]:
        for call in (re.sub(r"\$\([^)]*\)", "X", span), *re.findall(r"\$\((p2pdns [^)]*)\)", span)):
            yield re.split(r"[|&;>]", call)[0].split()[1:]


def call_findings(words: list[str]) -> list[str]:
    """Return what a call names that the program does not have."""
    command: click.Command = p2pdns_command
    findings = []
    for word in words:
        flag = word.split("=")[0]
        if word.startswith("-") and len(word) > 1:
            if flag not in flags_of(command) and not re.fullmatch(r"-\W*", flag):
                findings.append(f"{command.name} has no {flag}")
        elif isinstance(command, click.Group):
            inner = command.get_command(click.Context(command), word)
            if inner is None:
                # A verb is lower case; what is in capitals stands for one.
                return [*findings, f"no verb {word}"] if re.fullmatch(r"[a-z-]+", word) else findings
            command = inner
    return findings


def settings_in(text: str) -> Iterator[str]:
    """Yield each TOML block of a document that is a configuration of ours."""
    for block in re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if not FOREIGN_TABLES & set(tomllib.loads(block)):
            yield block


def keys_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield (table, key) where a document names a key with its table, as `[dns] listen` or `listen` below `[dns]`."""
    yield from re.findall(r"`\[(\w+)\] (\w+)", text)
    for key, table in re.findall(r"`(\w+)`(?:\s+(?:below|in|of))\s+`\[(\w+)\]`", text):
        yield table, key


def paths_in(text: str) -> Iterator[str]:
    """Yield each path of this tree that a document names: from its top, or between ticks from the package."""
    yield from re.findall(r"(?<![\w./~*-])((?:p2pdns|tests|docs|bench|deploy|zones)/[\w./-]*\w(?:::\w+)?)", text)
    yield from re.findall(r"`(\w[\w./-]*/(?:[\w.-]+\.(?:py|md|toml)(?:::\w+)?)?)`", text)


def has_path(path: str) -> bool:
    """Return whether a path is there, below the top or the package, with the test that it names after two colons."""
    file, _, test = path.partition("::")
    if re.fullmatch(r"docs/adr/\d{4}", file):
        # A decision is named by its number.
        return any(ROOT.glob(f"{file}-*.md"))
    found = [base / file for base in (ROOT, ROOT / "p2pdns") if (base / file).exists()]
    return bool(found) and (not test or re.search(rf"^def {test}\(", found[0].read_text(), re.MULTILINE) is not None)


def modules_in(text: str) -> Iterator[str]:
    """Yield each dotted name that begins with a package of this tree."""
    yield from re.findall(r"(?<![\w./@-])((?:p2pdns|tests|bench|deploy)(?:\.[a-zA-Z_]\w*)+)", text)


def has_module(name: str) -> bool:
    """Return whether a dotted name is a module, a name in one, or a file that is called so."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists() or any((ROOT / "deploy").glob(f"{name}*")):
        return True
    homes = (path.parent / "__init__.py", path.parent.with_suffix(".py"))
    return any(home.exists() and re.search(rf"\b{path.name}\b", home.read_text()) for home in homes)


def unknown_names(text: str) -> list[str]:
    """Return the paths and modules that a document names and this tree does not have."""
    paths = [path for path in paths_in(text) if not path.startswith(MADE_LATER) and not has_path(path)]
    modules = [name for name in modules_in(text) if not name.startswith(NO_MODULES) and not has_module(name)]
    return sorted({*paths, *modules})


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", TODAY, ids=TODAY_IDS)
def test_every_verb_and_flag_that_a_page_names_exists(page: Path) -> None:
    assert [finding for words in calls_in(page.read_text()) for finding in call_findings(words)] == []


@pytest.mark.parametrize("page", TODAY, ids=TODAY_IDS)
def test_every_configuration_that_a_page_shows_is_understood(page: Path) -> None:
    for block in settings_in(page.read_text()):
        parse(block, str(page))


@pytest.mark.parametrize("page", TODAY, ids=TODAY_IDS)
def test_every_key_that_a_page_names_exists(page: Path) -> None:
    unknown = [(table, key) for table, key in keys_in(page.read_text()) if key not in TABLES.get(table, ())]
    assert [row for row in unknown if row[0] not in FOREIGN_TABLES] == []


@pytest.mark.parametrize("page", NAMING, ids=NAMING_IDS)
def test_every_path_and_module_that_a_page_names_exists(page: Path) -> None:
    assert unknown_names(page.read_text()) == []


def test_every_page_of_the_how_to_is_linked_from_the_readme() -> None:
    linked = set(links_of(ROOT / "README.md"))
    pages = [str(page.relative_to(ROOT)) for page in PAGES if page.parent.name == "how-to"]
    assert pages
    assert [page for page in pages if page not in linked] == []


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("```sh\np2pdns publish -k a.key --nosuch zone\n```\n", ["publish has no --nosuch"]),
        ("say `p2pdns frobnicate KEY` to it", ["no verb frobnicate"]),
        ("say `p2pdns name add alice KEY` to it", []),
        ("`p2pdns name drop alice`", ["no verb drop"]),
        ("```console\n$ p2pdns resolve --short www.$(p2pdns pubkey --sort a.key)\n```\n", ["pubkey has no --sort"]),
        ("```console\n$ p2pdns status --json | python3 --nosuch\n```\n", []),
    ],
)
def test_a_verb_or_flag_that_does_not_exist_is_found(text: str, findings: list[str]) -> None:
    assert [finding for words in calls_in(text) for finding in call_findings(words)] == findings


@pytest.mark.parametrize("link", ["nosuch.md", "glossary.md#nosuch", "#nosuch"])
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, link: str) -> None:
    (tmp_path / "glossary.md").write_text("# Words\n## Systemd-resolved & Co.\n")
    page = tmp_path / "page.md"
    page.write_text(f"[x]({link}) [y](glossary.md#systemd-resolved--co)\n")
    assert broken_links(page) == [link]


@pytest.mark.parametrize("text", ["`[dns] nosuch`", "`nosuch` below `[dht]`", "`listen` in `[nosuch]`"])
def test_a_key_that_does_not_exist_is_found(text: str) -> None:
    assert [key for table, key in keys_in(text) if key not in TABLES.get(table, ())]


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("Enforced in `p2pdns/front/gate.py` and p2pdns/front/answers.py.", ["p2pdns/front/answers.py"]),
        ("`front/gate.py`, `front/answers.py`, `dht/node/`, `dht/nodes/`", ["dht/nodes/", "front/answers.py"]),
        ("`tests/house/test_documents.py::test_nosuch`", ["tests/house/test_documents.py::test_nosuch"]),
        ("`tests/house/test_tidy.py` and /etc/p2pdns/p2pdns.toml", []),
        ("python -m tests.mutants.run, python -m tests.mutants.walk.over", ["tests.mutants.walk.over"]),
        ("`p2pdns.engine.service.Service`, `p2pdns.resolver.service.Service`", ["p2pdns.engine.service.Service"]),
        ("www.alice.p2pdns.internal, p2pdns.service", []),
    ],
)
def test_a_path_or_module_that_does_not_exist_is_found(text: str, unknown: list[str]) -> None:
    assert unknown_names(text) == unknown
