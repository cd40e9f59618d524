"""Completion: what a shell is offered, by the protocol of its script and by a shell itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p2pdns.cli.main import main
from p2pdns.cli.verbs import VERBS
from p2pdns.items.keys import SecretKey

SECRET = SecretKey.generate(bytes(range(32)))
KEY = str(SECRET.zone_key)
SECONDS_MAX = 60


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a key, a zone and a petname, and a program called p2pdns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P2PDNS_CONFIG", "/dev/null")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    Path("mine.key").write_bytes(SECRET.key_file(None))
    Path("example.zone").write_text("www A 192.0.2.1\n")
    assert main(["name", "add", "alice", KEY]) == 0
    Path("bin").mkdir()
    shim = Path("bin/p2pdns")
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m p2pdns "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def offered(line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Return what bash is offered for the last word of a line."""
    words = line.split(" ")
    monkeypatch.setenv("_P2PDNS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    capfd.readouterr()
    main()
    said = capfd.readouterr()
    assert said.err == ""
    return [entry.partition(",")[2] if entry.startswith("plain,") else entry for entry in said.out.split()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("p2pdns pu", ["pubkey", "publish", "put"]),
        ("p2pdns name ", ["add", "import", "list", "remove"]),
        ("p2pdns publish --ta", ["--take-back"]),
        ("p2pdns resolve al", ["alice"]),
        ("p2pdns resolve www.al", ["www.alice"]),
        (f"p2pdns resolve {KEY[:5]}", [KEY]),
        ("p2pdns resolve www.alice T", ["TLSA", "TXT"]),
        ("p2pdns resolve www.alice aa", ["AAAA"]),
        ("p2pdns resolve @127.0.0.1 al", ["alice"]),
        ("p2pdns pin ", ["alice", KEY]),
        ("p2pdns forget al", ["alice"]),
        ("p2pdns flush --zone al", ["alice"]),
        ("p2pdns name remove a", ["alice"]),
        ("p2pdns inspect al", ["alice"]),
        ("p2pdns inspect ex", ["file,ex"]),
        ("p2pdns publish -k mi", ["file,mi"]),
        ("p2pdns publish -k mine.key ex", ["file,ex"]),
        ("p2pdns publish --wa", ["--watch"]),
        ("p2pdns diff --key al", ["alice"]),
        ("p2pdns diff -k mi", ["file,mi"]),
        ("p2pdns diff --key alice ex", ["file,ex"]),
        ("p2pdns check ex", ["file,ex"]),
        ("p2pdns put al", ["file,al"]),
        ("p2pdns completion z", ["zsh"]),
        ("p2pdns nosuch x", []),
        ("p2pdns resolve -c nosuch.toml al", ["alice"]),
    ],
)
def test_the_word_is_completed(
    place: Path, line: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert offered(line, monkeypatch, capfd) == words


def test_all_verbs_are_offered(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert set(offered("p2pdns ", monkeypatch, capfd)) == set(VERBS)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_what_a_word_is(
    shell: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_P2PDNS_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "p2pdns pin al")
    # fish gives the word itself, zsh the number of it.
    monkeypatch.setenv("COMP_CWORD", "al" if shell == "fish" else "2")
    capfd.readouterr()
    assert main() == 0
    said = capfd.readouterr().out
    assert "alice" in said
    assert f"petname of {KEY}" in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_calls_back_with_the_variable_that_main_knows(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_P2PDNS_COMPLETE={shell}_complete" in script
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True, timeout=SECONDS_MAX)


def test_bash_itself_completes_with_the_script(place: Path) -> None:
    said = subprocess.run(
        [
            "bash",
            "--norc",
            "-c",
            "source <(p2pdns completion bash); COMP_WORDS=(p2pdns resolve www.al); COMP_CWORD=2; "
            '_p2pdns_completion p2pdns; echo "${COMPREPLY[@]}"',
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert said.stdout == "www.alice\n", said.stderr


def test_no_completion_is_no_cost_to_other_calls() -> None:
    code = "import sys; from p2pdns.cli.main import main; main(['pubkey', 'nosuch']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "p2pdns.cli.completion" in done.stdout
    assert not re.search(r"p2pdns\.(engine|dht|resolver|overlay)", done.stdout)
