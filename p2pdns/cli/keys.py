"""`keygen` makes a key, or the next key of a zone; `pubkey` prints the zone key of a key file.

Guarantees: `keygen` never overwrites a file, and other users cannot read the file it writes; a secret key is printed
only by `keygen` without `-o`. Does not know what is published under a key.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from p2pdns.cli import completion, files, settings, ui
from p2pdns.cli.verbs import Verb
from p2pdns.errors import UsageError
from p2pdns.items.keys import SEED_BYTES, SecretKey

KEY_FILE_MODE = 0o600
STANDARD_OUTPUT = "-"
_NEXT_HELP = "Make the next key of the zone of KEYFILE, and write KEYFILE.next, which publish reads."
_OUTPUT_HELP = 'Write the key to FILE (mode 0600), which must not exist yet; "-" is standard output.'


@click.command(cls=Verb)
@click.option("-o", "--output", metavar="FILE", help=_OUTPUT_HELP)
@click.option("-p", "--passphrase", is_flag=True, help="Ask for a passphrase that protects the key.")
@files.passphrase_file_option
@click.option("--next", "old_file", metavar="KEYFILE", help=_NEXT_HELP, shell_complete=completion.a_file)
@settings.json_option
def keygen(
    output: str | None, passphrase: bool, passphrase_file: str | None, old_file: str | None, as_json: bool
) -> None:
    """Make a key. Its public half is the name of a zone.

    The file is PKCS#8 PEM below a comment with the public half. Anyone who has the key can publish the zone, and a lost
    key cannot be made again: keep a copy. With --next the key is the one that a zone can move to when its key is stolen
    or lost: KEYFILE.next says so to publish, and only the two keys together tell anybody which key it is.
    """
    if output == STANDARD_OUTPUT:
        output = None
    if as_json and output is None:
        raise UsageError("with --json the key needs a file", place="keygen", hint="p2pdns keygen --json -o FILE")
    if old_file is not None:
        _refuse_unfit(old_file, output)
    phrase = new_passphrase(passphrase, passphrase_file, output, verb="keygen")
    secret = SecretKey.generate(os.urandom(SEED_BYTES))
    if output is None:
        ui.secret_key(secret.key_file(phrase))
    else:
        write_key(output, secret, phrase)
    facts: dict[str, str | bool | None] = {
        "zone": str(secret.zone_key),
        "file": output,
        "encrypted": phrase is not None,
    }
    if not as_json:
        ui.note(f"zone key: {secret.zone_key}")
    if old_file is not None:
        facts |= _committed(old_file, secret, output)
    if as_json:
        ui.json_result(facts)


def _refuse_unfit(old_file: str, output: str | None) -> None:
    # Loaded late: a first key needs none of it.
    from p2pdns.cli import committed

    if old_file == STANDARD_OUTPUT:
        raise UsageError("the file of the key is needed", place="--next -", hint="KEYFILE.next is written beside it")
    if output == committed.path_of(old_file):
        what = "this is where the commitment to the next key goes, and the next key needs another file"
        raise UsageError(what, place=files.quoted(output), hint=f"p2pdns keygen --next {old_file} -o next.key")
    committed.public_key_of(old_file)
    committed.refuse_second(old_file)


def _committed(old_file: str, secret: SecretKey, output: str | None) -> dict[str, str | bool | None]:
    """Write the commitment beside the old key, and say so; without it the next key is good for nothing, and goes."""
    from p2pdns.cli import committed
    from p2pdns.items.succession import commitment_to

    path, old_key = committed.path_of(old_file), committed.public_key_of(old_file)
    try:
        committed.write(old_file, old_key, commitment_to(old_key, secret))
    except BaseException:
        if output is not None:
            Path(output).unlink(missing_ok=True)
        raise
    if not ui.is_json():
        ui.note(f"{path}: written; p2pdns publish -k {old_file} ZONEFILE commits the zone to the next key")
        place = "the next key" if output is None else output
        ui.note(f"keep {place} away from this machine: a thief who finds both keys has the name")
    return {"next_of": str(old_key), "commitment": path}


def new_passphrase(is_asked: bool, file: str | None, output: str | None, *, verb: str) -> bytes | None:
    """Return the passphrase for a key file that is to be written; None for a file without one."""
    if is_asked and file is not None:
        raise UsageError("--passphrase and --passphrase-file exclude each other", place=verb)
    if file is not None:
        return files.read_passphrase_file(file)
    if not is_asked:
        return None
    if not ui.is_interactive():
        raise UsageError(
            "no terminal to ask for the passphrase", place=verb, hint="give it with --passphrase-file FILE"
        )
    return ui.ask_passphrase(files.quoted(output) if output else "the new key", is_new=True)


def write_key(path: str, secret: SecretKey, phrase: bytes | None) -> None:
    """Write a key file that does not exist yet, and that no other user may open."""
    hint = "choose another name, or move the old key away"
    files.write_new(path, secret.key_file(phrase), mode=KEY_FILE_MODE, place_hint=hint)


@click.command(cls=Verb)
@click.argument("key_file", metavar="KEYFILE", shell_complete=completion.a_file)
@files.passphrase_file_option
@settings.json_option
def pubkey(key_file: str, passphrase_file: str | None, as_json: bool) -> None:
    """Print the zone key of KEYFILE ("-" is standard input): the name of its zone."""
    key = str(files.read_secret_key(key_file, passphrase_file).zone_key)
    if as_json:
        ui.json_result({"zone": key, "file": key_file})
    else:
        ui.result(key)
