"""Errors: what the system says, in words of ours."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest

from p2pdns.errors import did_you_mean, words_of


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (OSError(errno.EACCES, os.strerror(errno.EACCES), "/some/file"), "permission denied"),
        (OSError("Timed out"), "timed out"),
        (sqlite3.OperationalError("Database is locked"), "database is locked"),
        (ConnectionResetError(), "connectionreseterror"),
    ],
    ids=["a number and a file", "a text", "SQLite", "nothing"],
)
def test_the_systems_words_are_lower_case_without_the_file_and_never_empty(trouble: Exception, words: str) -> None:
    assert words_of(trouble) == words


def test_the_nearest_word_is_meant_or_none_is() -> None:
    assert did_you_mean("alise", ["bob", "alice"], shown="{{zone:{}}}") == "did you mean {zone:alice}?"
    assert did_you_mean("alise", ["bob"]) is None
    assert did_you_mean("MXX", ["MX"], likeness_min=0.7) == 'did you mean "MX"?'
    assert did_you_mean("MXX", ["MX"], likeness_min=0.9) is None
