"""`key`: other forms of a secret key. `key import` reads those of other programs, `key words` and `key restore` paper.

Guarantees: a secret comes from a file or standard input, never from the command line, which other users can see; it is
printed by `key words` alone; what is written is a key file of mode 0600 that did not exist before. Every verb tells the
zone key, so that a slip is seen. Does not know what is published under a key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from p2pdns.cli import completion, files, mixups, settings, ui
from p2pdns.cli.files import STANDARD_INPUT
from p2pdns.cli.keys import new_passphrase, write_key
from p2pdns.cli.verbs import KeyFamily
from p2pdns.errors import KeyFileError, UsageError
from p2pdns.items.keys import KEY_FILE_BYTES_MAX, SecretKey
from p2pdns.items.seeds import read_seed

_OUTPUT_HELP = "Write the key to FILE (mode 0600), which must not exist yet."
_PASSPHRASE_HELP = "Ask for a passphrase that protects the new key file."
_KEPT = "anyone who reads these words can publish the zone, and no program can tell that they have been read"


def _key_file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-o FILE`, which is required, and the options of its passphrase."""
    for option in (
        files.passphrase_file_option,
        click.option("-p", "--passphrase", is_flag=True, help=_PASSPHRASE_HELP),
        click.option("-o", "--output", required=True, metavar="FILE", help=_OUTPUT_HELP),
    ):
        command = option(command)
    return command


@click.group(cls=KeyFamily)
def key() -> None:
    """Take a key over from another program, and write it down as words or read it from them."""


@key.command()
@files.key_option('The key to print; "-" is standard input.')
@files.passphrase_file_option
def words(key_file: str, passphrase_file: str | None) -> None:
    """Print a secret key as 24 words, for paper.

    The words are those of BIP-39, English, and their entropy is the 32-byte seed of the key. They are the whole secret,
    without the passphrase of the file.
    """
    # Loaded late: its list of words is needed here alone.
    from p2pdns.items.words import words_of

    secret = files.read_secret_key(key_file, passphrase_file)
    ui.secret_words(words_of(secret))
    ui.note(f"zone key: {secret.zone_key}")
    ui.warning(_KEPT)


@key.command()
@_key_file_options
@settings.json_option
def restore(output: str, passphrase: bool, passphrase_file: str | None, as_json: bool) -> None:
    """Read 24 words from standard input and write the key that they are.

    Words are read in any case and over any number of lines, with or without numbers beside them; the first four letters
    of a word are enough. A terminal shows what is typed, because nobody types 24 words blindly.
    """
    from p2pdns.items.words import WORD_COUNT, WORDS_BYTES_MAX, count_of, read_words

    _refuse_two_inputs(STANDARD_INPUT, passphrase_file)
    files.refuse_existing(output)
    text = ""
    for line in ui.typed_lines(f"the next words, of {WORD_COUNT} in all"):
        text += line
        if len(text.encode(errors="replace")) > WORDS_BYTES_MAX:
            raise KeyFileError(
                f"more than {WORDS_BYTES_MAX} bytes, {WORD_COUNT} words are less", place="standard input"
            )
        if ui.is_interactive() and count_of(text) >= WORD_COUNT:
            break
    secret = read_words(text, "standard input")
    _write(output, secret, passphrase, passphrase_file, as_json, verb="key restore", form=f"{WORD_COUNT} words")


@key.command("import")
@click.argument("path", metavar="FILE", shell_complete=completion.a_file)
@_key_file_options
@settings.json_option
def import_key(path: str, output: str, passphrase: bool, passphrase_file: str | None, as_json: bool) -> None:
    """Make a key file of the secret in FILE ("-" is standard input), as pkarr and pkdns write it.

    That is 64 hexadecimal digits, 52 characters of z-base-32, or 32 raw bytes. A hash or a zone key can look the same,
    so compare the zone key that is printed with the one that you expect.
    """
    _refuse_two_inputs(path, passphrase_file)
    if path != STANDARD_INPUT:
        files.refuse_if_others_may_read(path)
    data = files.read_bytes(path, KEY_FILE_BYTES_MAX)
    place = "standard input" if path == STANDARD_INPUT else files.quoted(path)
    seed = read_seed(data, place)
    if (file := mixups.keys_in_folder().get(data.strip().lower().decode("ascii", "replace"))) is not None:
        hint = f'the secret is in "{file}", which is a key file already'
        raise KeyFileError("a zone key, which is public, and no secret", place=place, hint=hint)
    secret = SecretKey.generate(seed.raw)
    _write(output, secret, passphrase, passphrase_file, as_json, verb="key import", form=seed.form)


def _refuse_two_inputs(path: str, passphrase_file: str | None) -> None:
    if path == passphrase_file == STANDARD_INPUT:
        what = "standard input can be the key or the passphrase, not both"
        raise UsageError(what, place="--passphrase-file -", hint="name a file for one of them")


def _write(
    output: str,
    secret: SecretKey,
    is_asked: bool,
    passphrase_file: str | None,
    as_json: bool,
    *,
    verb: str,
    form: str,
) -> None:
    phrase = new_passphrase(is_asked, passphrase_file, output, verb=verb)
    write_key(output, secret, phrase)
    if as_json:
        facts = {"zone": str(secret.zone_key), "file": output, "encrypted": phrase is not None, "form": form}
        ui.json_result(facts)
    else:
        ui.note(f"read as {form}")
        ui.note(f"zone key: {secret.zone_key}")
