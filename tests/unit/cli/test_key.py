"""`key restore` at a terminal: it asks until it has 24 words, and not for the end of a file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from p2pdns.cli import ui
from p2pdns.cli.main import main
from p2pdns.items.keys import SecretKey
from p2pdns.items.words import words_of

SECRET = SecretKey.generate(bytes(range(32)))
WORDS = words_of(SECRET)


class Terminal(io.StringIO):
    """A terminal whose user types these lines and then nothing: a further line is a mistake."""

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        """Return the next line."""
        line = super().readline(-1 if size is None else size)
        assert line, "all 24 words were typed, and it asks for more"
        return line


def test_words_typed_in_several_lines_are_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "is_interactive", lambda: True)
    lines = [" ".join(WORDS[at : at + 10]) + "\n" for at in (0, 10, 20)]
    monkeypatch.setattr("sys.stdin", Terminal("".join(lines)))
    assert main(["key", "restore", "-o", str(tmp_path / "new.key")]) == 0
    said = capsys.readouterr()
    assert said.err.count("the next words, of 24 in all: ") == 3
    assert str(SECRET.zone_key) in said.err
    assert not any(word in said.err for word in WORDS if len(word) > 5)
    assert (tmp_path / "new.key").read_bytes() == SECRET.key_file(None)
    assert (tmp_path / "new.key").stat().st_mode & 0o777 == 0o600
