"""The command line as a whole: its exit statuses, JSON in every end, its help, and what it takes a wrong word for."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import p2pdns
from p2pdns.admin.control import CALL_S_MAX
from p2pdns.cli import dnsclient, examples, petnames, shipped, ui
from p2pdns.cli.dnsclient import DnsReply
from p2pdns.cli.main import EXIT_BROKEN_PIPE, main, p2pdns_command
from p2pdns.cli.resolve import TROUBLE_S_MAX
from p2pdns.cli.verbs import GROUPS, SUMMARIES, SUMMARY_CHARACTERS_MAX, SYNONYMS, VERBS, WITHOUT_VERB
from p2pdns.config import Config
from p2pdns.errors import Unavailable, ZoneFileError, together
from p2pdns.items.keys import SecretKey

ROOT = Path(__file__).resolve().parents[3]
SECONDS_MAX = 60  # A guard only.
SECRET = SecretKey.generate(bytes(range(32)))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a key and a zone, without a daemon or configuration of anybody."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P2PDNS_CONFIG", "/dev/null")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    Path("alice.key").write_bytes(SECRET.key_file(None))
    Path("alice.key").chmod(0o600)
    Path("example.zone").write_text("www A 192.0.2.1\n")
    return tmp_path


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield the path of every verb, with its command and a context of it."""

    def below(
        family: click.Group, context: click.Context, path: str
    ) -> Iterator[tuple[str, click.Command, click.Context]]:
        for name in family.list_commands(context):
            command = family.get_command(context, name)
            assert command is not None
            inner = click.Context(command, info_name=name, parent=context)
            yield f"{path} {name}".strip(), command, inner
            if isinstance(command, click.Group):
                yield from below(command, inner, f"{path} {name}".strip())

    # With its settings: click keeps the help flag of a command as the first context has it.
    root = click.Context(p2pdns_command, info_name="p2pdns", **p2pdns_command.context_settings)
    yield "", p2pdns_command, root
    yield from below(p2pdns_command, root, "")


COMMANDS = {path: (command, context) for path, command, context in commands()}


# A daemon that hangs


def test_a_question_to_a_named_server_waits_for_a_daemon_no_longer_than_its_petnames_are_worth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    def load(config: Config, _state: Path, *, timeout_s: float = CALL_S_MAX) -> petnames.Book:
        waits.append(timeout_s)
        return petnames.configured(config)

    def ask(*_question: object) -> DnsReply:
        raise Unavailable("nobody is asked here")

    monkeypatch.setattr(petnames, "load", load)
    monkeypatch.setattr(dnsclient, "ask", ask)
    assert main(["resolve", "www.example", "@127.0.0.1:9"]) == 1
    assert waits == [TROUBLE_S_MAX]


# Closed pipes


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "help publish",
        "publish --help",
        "pubkey alice.key",
        "pubkey --json alice.key",
        "check example.zone",
        "check --json example.zone",
        "pubkey --json nosuch.key",
        "completion bash",
        "config print",
        "name",
    ],
)
@pytest.mark.parametrize("buffering", ["", "1"])
def test_a_closed_pipe_ends_with_the_status_of_sigpipe_and_without_a_word(words: str, buffering: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "p2pdns", *words.split()],
            env={**os.environ, "PYTHONUNBUFFERED": buffering},
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )
    finally:
        os.close(writer)
    assert done.returncode == EXIT_BROKEN_PIPE == 141
    assert "Traceback" not in done.stderr
    assert "standard output" not in done.stderr


# JSON


FAILURES = [
    ("", 2),
    ("nosuch", 2),
    ("pubkey", 2),
    ("pubkey nosuch.key", 1),
    ("keygen", 2),
    ("keygen -o alice.key", 1),
    ("keygen -o no/such.key", 1),
    ("publish -k alice.key nosuch.zone", 1),
    ("publish -k alice.key --nosuch", 2),
    ("resolve www..x", 2),
    ("resolve www.x @127.0.0.1:9", 1),
    ("inspect nosuch.item", 1),
    ("put nosuch.item", 1),
    ("status", 1),
    ("peers", 1),
    ("reload", 1),
    ("pin alice", 2),
    ("flush", 2),
    ("forget", 2),
    ("name", 2),
    ("name add alice nosuch", 2),
    ("name remove nosuch", 1),
    ("name import nosuch.txt", 1),
    ("config", 2),
    ("config print -c nosuch.toml", 2),
    ("help nosuch", 2),
    ("check nosuch.zone", 1),
]


@pytest.mark.parametrize(("words", "code"), FAILURES)
def test_a_failure_is_one_document_with_the_words_of_standard_error(
    words: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), "--json"]) == code
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["exit"] == code
    assert f"p2pdns: error: {document['error']}" in said.err
    assert document["hint"] is None or all(f"hint: {line}" in said.err for line in document["hint"].splitlines())


def test_a_failure_keeps_the_facts_that_were_found_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", "example.zone", "nosuch.zone"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [file["ok"] for file in document["files"]] == [True, False]
    assert (document["exit"], document["error"]) == (1, document["files"][1]["error"])


def test_several_errors_of_one_call_are_all_in_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", "nosuch.zone", "none.toml"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [mistake["error"] for mistake in document["mistakes"]] == [file["error"] for file in document["files"]]


def test_the_mistakes_that_an_error_lists_are_in_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    usual = f"{shipped.shown('zones/example.zone')} shows how the lines of a zone file are written"
    mistakes = [ZoneFileError("two", path="a.zone", line=7, hint="do"), ZoneFileError("one", path="a.zone", line=2)]
    with ui.one_call(as_json=True):
        ui.error(together(mistakes))
        ui.end_json(1)
    assert json.loads(capsys.readouterr().out) == {
        "error": "a.zone:2: one",
        "hint": usual,
        "exit": 1,
        "mistakes": [
            {"error": "a.zone:2: one", "hint": usual, "line": 2},
            {"error": "a.zone:7: two", "hint": "do", "line": 7},
        ],
    }


def test_a_call_that_failed_in_json_leaves_no_json_behind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pubkey", "--json", "nosuch.key"]) == 1
    capsys.readouterr()
    assert not ui.is_json()
    ui.json_result({"of": "what comes next"})
    assert json.loads(capsys.readouterr().out) == {"of": "what comes next"}


def test_what_went_well_has_no_error_and_what_follows_it_is_text_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pubkey", "--json", "alice.key"]) == 0
    assert json.loads(capsys.readouterr().out) == {"zone": str(SECRET.zone_key), "file": "alice.key"}
    assert main(["pubkey", "alice.key"]) == 0
    assert capsys.readouterr().out == f"{SECRET.zone_key}\n"


def test_behind_two_dashes_json_is_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pubkey", "--", "--json"]) == 1
    assert capsys.readouterr().out == ""


# Help


@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_of_every_verb_ends_in_two_examples_or_more(path: str) -> None:
    command, context = COMMANDS[path]
    shown = command.get_help(context)
    assert len(examples.EXAMPLES[path]) >= 2
    tail = shown[shown.index("\nExamples:\n") :]
    for example in examples.EXAMPLES[path]:
        assert f"\n  {example.command}\n      {example.what}" in tail


def read_call(words: list[str]) -> click.Command:
    """Return the command that a call means, once its words have been read as the program reads them."""
    context = p2pdns_command.make_context("p2pdns", words)
    while isinstance(context.command, click.Group):
        # What a group has not read itself lies behind the name of the verb.
        name, command, rest = context.command.resolve_command(context, words)
        assert command is not None
        context, words = command.make_context(name, rest, parent=context), rest
    return context.command


@pytest.mark.parametrize("path", COMMANDS)
def test_every_example_is_a_call_that_the_verb_takes(path: str) -> None:
    for example in examples.EXAMPLES[path]:
        calls = [read_call(shlex.split(call)) for call in re.findall(r"p2pdns (\w[^|>()]*)", example.command)]
        assert calls, example
        is_of_family = path == "" or isinstance(COMMANDS[path][0], click.Group) or path == "help"
        assert is_of_family or any(call is COMMANDS[path][0] for call in calls), example


def test_no_example_belongs_to_a_verb_that_does_not_exist() -> None:
    assert set(examples.EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("path", [path for path, (command, _) in COMMANDS.items() if isinstance(command, click.Group)])
def test_a_list_of_verbs_has_their_whole_first_sentences(path: str) -> None:
    family, context = COMMANDS[path]
    assert isinstance(family, click.Group)
    shown = " ".join(family.get_help(context).split())
    assert "..." not in shown.partition("Usage:")[2].partition("Options:")[2]
    for name in family.list_commands(context):
        command = family.get_command(context, name)
        assert command is not None
        summary = command.get_short_help_str(SUMMARY_CHARACTERS_MAX)
        assert summary.endswith(".")
        assert summary in shown


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_of_verbs_says_of_each_what_its_own_help_begins_with(verb: str) -> None:
    command, _ = COMMANDS[verb]
    assert SUMMARIES[verb] == command.get_short_help_str(SUMMARY_CHARACTERS_MAX)


def test_the_list_of_verbs_is_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = [lines.index(f"{title}:") for title in GROUPS]
    assert at == sorted(at)
    for title, group in GROUPS.items():
        start = lines.index(f"{title}:")
        block = lines[start + 1 : start + 1 + lines[start + 1 :].index("")]
        assert [line.split()[0] for line in block if re.match(r"  \w", line)] == list(group)


@pytest.mark.parametrize("path", [path for path in COMMANDS if path != ""])
def test_help_says_what_the_flag_says(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", *path.split()]) == 0
    by_verb = capsys.readouterr().out
    assert main([*path.split(), "--help"]) == 0
    assert by_verb == capsys.readouterr().out


def test_help_alone_is_the_list_of_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    by_verb = capsys.readouterr()
    assert main(["-h"]) == 0
    assert capsys.readouterr() == by_verb


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_both_flags_show_the_version(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    assert capsys.readouterr().out == f"p2pdns {p2pdns.__version__}\n"


def test_short_names_do_what_the_long_ones_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["name", "add", "alice", str(SECRET.zone_key)]) == 0
    capsys.readouterr()
    assert main(["name", "ls"]) == 0
    by_short = capsys.readouterr().out
    assert main(["name", "list"]) == 0
    assert by_short == capsys.readouterr().out == f"alice {SECRET.zone_key}\n"
    assert main(["name", "rm", "alice"]) == 0
    assert main(["name", "ls"]) == 0
    assert "no petnames yet" in capsys.readouterr().err


# Wrong words


def test_every_synonym_leads_to_a_verb_and_is_none_itself() -> None:
    for word, meant in SYNONYMS.items():
        assert word not in VERBS
        assert word not in WITHOUT_VERB
        assert meant == "--version" or meant in COMMANDS, word


def test_no_word_without_a_verb_is_a_verb() -> None:
    assert not set(WITHOUT_VERB) & set(VERBS)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("start", "serve"), ("run", "serve"), ("lookup", "resolve"), ("stats", "status"), ("RM", "name remove")],
)
def test_a_word_of_another_program_leads_to_the_verb_that_is_meant(
    word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word]) == 2
    assert f'did you mean "p2pdns {meant}"?' in capsys.readouterr().err


def test_a_wish_for_which_there_is_no_verb_is_told_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["register"]) == 2
    assert "nobody registers names here" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["delete", "revoke", "withdraw"])
def test_a_wish_to_take_a_zone_down_leads_to_unpublish(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert 'did you mean "p2pdns unpublish"?' in capsys.readouterr().err


NOT_UTF_8 = os.fsdecode(b"\xff\xfe")


@pytest.mark.parametrize(
    "words",
    [
        "{}",
        "name {}",
        "help {}",
        "--{}",
        "keygen -o no{}/x",
        "pubkey {}",
        "check {}.zone",
        "check --key {} example.zone",
        "check --zone {}=x example.zone",
        "check --zone x={} example.zone",
        "check --origin {} example.zone",
        "publish -k {} example.zone",
        "publish -k alice.key {}",
        "put {}",
        "resolve www.{} @127.0.0.1:9",
        "resolve www.x {}",
        "resolve www.x @{}",
        "inspect {}",
        "name add {} x",
        "name add x {}",
        "name remove {}",
        "name import {}",
        "pin {}",
        "forget {}",
        "flush {}",
        "flush --zone {}",
        "serve --dht {}",
        "config print -c no{}",
        "status --state no{}",
        "completion {}",
    ],
)
@pytest.mark.parametrize("word", [NOT_UTF_8, "", "\u202e", "\x1b[2J", "💩", "x" * 5_000])
def test_any_word_at_any_place_ends_in_an_error_of_two_lines(
    words: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([part.format(word) for part in words.split()]) in (1, 2)
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"p2pdns: error: .+\n(p2pdns: hint: .+\n)+", said.err)


def test_the_sessions_of_wrong_usages_are_fifty_or_more() -> None:
    text = (ROOT / "tests" / "cli" / "wrong.txt").read_text()
    assert len(re.findall(r"^\$ p2pdns ", text, re.MULTILINE)) >= 50
