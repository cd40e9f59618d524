"""No verb and no setting that reads a file shows what could be a secret key: a test over all of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from p2pdns import config as configuration
from p2pdns import log
from p2pdns.cli.main import main
from p2pdns.dns.name import Name
from p2pdns.dns.zonefile import placeholders, reader
from p2pdns.errors import P2pdnsError, abridged, first_token
from p2pdns.items.keys import SecretKey
from p2pdns.state.blocklists import BlockLists, ListFile

SECRET = SecretKey.generate(bytes(range(32)))
ARMOURED = SECRET.write(None).decode()
BODY = ARMOURED.splitlines()[1]
# Part of these shown in a row would be a good part of the key.
SHOWN_MAX = 16
SECONDS_MAX = 60  # A guard only: each ends by itself, because what it is given is refused.

FILES = {
    "a key file": ARMOURED,
    "a key file with lines before it": f"alice {SECRET.zone_key}\nwww A 192.0.2.1\n{BODY}\n{ARMOURED}",
    "its body": f"{BODY}\n",
    "its body behind words": f"www TXT {BODY}\nalice {BODY}\n{BODY} A 192.0.2.1\n{BODY} {BODY} {BODY}\n",
    "a hexadecimal seed": f"{bytes(range(200, 232)).hex()}\nx = {bytes(range(200, 232)).hex()}\n",
    "a setting": f'[dns]\nlisten = ["{BODY}"]\n',
    "a table": f"[{BODY.rstrip('=')}]\nx = 1\n",
    "a word": f"[dns]\n{BODY.replace('+', '-').replace('/', '_').rstrip('=')} = 1\n",
    "a petname": f'[names]\nalice = "{BODY}"\n',
    "a petname's name": f'[names]\n"{BODY.lower()}" = "{SECRET.zone_key}"\n',
    "a zone": f'[zones]\nprivate_zones = ["{BODY}"]\n',
    "an upstream": f'[upstream]\nservers = ["{BODY}"]\n',
    "a choice": f'[dns]\nblock_answer = "{BODY}"\n',
    "a suffix": f'[dns]\nsuffixes = ["{BODY}"]\n',
    "a first contact": f'[dht]\nbootstrap = ["{BODY}"]\n',
    "data": f'[dns]\nlocal_data = ["x A {BODY}", "{BODY}"]\n',
}


def leaks(said: str, text: str) -> list[str]:
    """Return each part of the file's long words that stands in what was said."""
    words = [word.strip('"[]') for word in text.split() if len(word.strip('"[]')) > SHOWN_MAX]
    words = [word for word in words if str(SECRET.zone_key) not in word]
    parts = {word[at : at + SHOWN_MAX + 1] for word in words for at in range(len(word) - SHOWN_MAX)}
    return [part for part in parts if part in said]


VERBS: dict[str, Callable[[str], list[str]]] = {
    "name import": lambda path: ["name", "import", path],
    "check as a zone": lambda path: ["check", path + ".zone"],
    "check as a configuration": lambda path: ["check", path + ".toml"],
    "publish": lambda path: ["publish", "-k", path + ".key", path + ".zone"],
    "publish -c": lambda path: ["publish", "-c", path + ".toml", "-k", path + ".key", path + ".zone"],
    "publish with a passphrase": lambda path: [
        "publish",
        "-k",
        path + ".key",
        "--passphrase-file",
        path,
        path + ".zone",
    ],
    "pubkey": lambda path: ["pubkey", path],
    "pubkey with a passphrase": lambda path: ["pubkey", "--passphrase-file", path, path],
    "key import": lambda path: ["key", "import", path, "-o", path + ".key"],
    "key words": lambda path: ["key", "words", "-k", path + ".zone"],
    "export": lambda path: ["export", "-k", path + ".key", "--from", path + ".zone"],
    "export of an item": lambda path: ["export", path],
    "import": lambda path: ["import", Path(path).read_text().split()[-1], "--server", "127.0.0.1:1"],
    "inspect": lambda path: ["inspect", path],
    "resolve": lambda path: ["resolve", "-c", path + ".toml", "www.example"],
    "resolve --direct": lambda path: ["resolve", "--direct", "-c", path + ".toml", "www.example"],
    "name list": lambda path: ["name", "list", "-c", path + ".toml"],
    "name add": lambda path: ["name", "add", "bob", Path(path).read_text().split()[-1]],
    "put": lambda path: ["put", path],
    "inspect in JSON": lambda path: ["inspect", "--json", path],
    "publish in JSON": lambda path: ["publish", "--json", "-k", path + ".key", path + ".zone"],
    "publish the wrong way round": lambda path: ["publish", "-k", path + ".zone", path + ".key"],
    "pubkey in JSON": lambda path: ["pubkey", "--json", path],
    "config print": lambda path: ["config", "print", "-c", path + ".toml"],
    "pin": lambda path: ["pin", Path(path).read_text().split()[-1]],
    "flush --zone": lambda path: ["flush", "--zone", Path(path).read_text().split()[-1]],
    "a verb that is none": lambda path: [Path(path).read_text().split()[-1]],
    "a word too many": lambda path: ["keygen", Path(path).read_text().split()[-1]],
    "check --key": lambda path: ["check", "--key", Path(path).read_text().split()[-1], path + ".zone"],
    "check --zone": lambda path: ["check", "--zone", f"x={Path(path).read_text().split()[-1]}", path + ".zone"],
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory, with a state directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P2PDNS_CONFIG", "/dev/null")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "given"


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_shows_a_secret(verb: str, kind: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("", ".zone", ".toml", ".key"):
        file = Path(f"{path}{suffix}")
        file.write_text(FILES[kind])
        file.chmod(0o600)
    main(VERBS[verb](str(path)))
    said = capsys.readouterr()
    assert leaks(said.out + said.err, FILES[kind]) == []


@pytest.mark.parametrize("kind", FILES)
def test_a_daemon_shows_no_secret(kind: str, path: Path) -> None:
    """In a process of its own: a daemon gives up rights that the tests after this one need."""
    path.write_text(FILES[kind])
    words = [sys.executable, "-m", "p2pdns", "serve", "--dns", "127.0.0.1:0", "--dht", "127.0.0.1:0", "-c", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS_MAX)
    assert done.returncode != 0
    assert leaks(done.stdout + done.stderr, FILES[kind]) == []


@pytest.mark.parametrize("kind", ["a key file", "a key file with lines before it"])
@pytest.mark.parametrize("verb", ["name import", "check as a zone", "check as a configuration"])
def test_no_line_of_a_key_file_is_shown(verb: str, kind: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("", ".zone", ".toml"):
        Path(f"{path}{suffix}").write_text(FILES[kind])
    assert main(VERBS[verb](str(path))) != 0
    said = capsys.readouterr().err
    assert "-----BEGIN" in said
    assert not any(word in said for line in FILES[kind].splitlines() for word in line.split() if word != "-----BEGIN")


@pytest.mark.parametrize("kind", FILES)
def test_no_block_list_shows_a_secret(kind: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(FILES[kind])
    log.configure("debug")
    lists = BlockLists()

    async def story() -> None:
        lists.begin([ListFile(str(path))], lambda: None)
        await lists.finished()

    try:
        asyncio.run(story())
        said = " ".join(lists.warnings)
        assert "key file" not in kind
    except P2pdnsError as trouble:
        said = f"{trouble} {trouble.hint}"
        assert ("-----BEGIN" in said) is ("key file" in kind)
    assert leaks(said + capsys.readouterr().err, FILES[kind]) == []


def _zone_file(text: str, apex: Name) -> None:
    filling = placeholders.fill(text, {}, path="a.zone")
    reader.reading(filling.text, apex=apex, path="a.zone", mistakes=filling.mistakes)


@pytest.mark.parametrize("kind", FILES)
def test_no_reader_below_the_verbs_shows_a_secret(kind: str) -> None:
    apex = Name.of(str(SECRET.zone_key).encode())
    readers: list[Callable[[], object]] = [
        lambda: configuration.parse(FILES[kind], "a.toml"),
        lambda: _zone_file(FILES[kind], apex),
        lambda: _zone_file(FILES[kind] + "{zone:" + BODY + "}", apex),
    ]
    for read in readers:
        said = ""
        with suppress(P2pdnsError):
            try:
                read()
            except P2pdnsError as trouble:
                said = f"{trouble} {trouble.hint}"
                raise
        assert leaks(said, FILES[kind] + " " + BODY) == []


def test_words_of_ours_paths_and_zone_keys_stay_whole() -> None:
    for text in ("tcp_connections_per_client_max", "/home/somebody/with/a/long/path/file", str(SECRET.zone_key)):
        assert abridged(text) == text
    assert first_token("") == ""
    assert first_token(f"{BODY} A") == f"{BODY[:12]}… …"
