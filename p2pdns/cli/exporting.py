"""`export`: writes the zone of a key as a zone file, or in the form of unbound, dnsmasq or a hosts file.

Guarantees: only a verified zone is written; what the form cannot say is told, and exit 0 means that all the rest is
there. Does not know the programs that read the text, nor when the zone changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import click

from p2pdns.cli import completion, files, inspect, petnames, settings, ui
from p2pdns.cli.daemon_or_node import Daemon
from p2pdns.cli.names import read_name
from p2pdns.cli.settings import Given
from p2pdns.cli.stages import Shown
from p2pdns.cli.verbs import Verb
from p2pdns.cli.zones import keys_by_name, read_zone, show_warnings, zone_file_options
from p2pdns.clock import unix_now
from p2pdns.dns.name import Name
from p2pdns.dns.zone import Zone
from p2pdns.errors import FormatError, StrangerError, Unavailable, UsageError, counted
from p2pdns.items.keys import ZoneKey
from p2pdns.moving import formats
from p2pdns.moving.formats.lines import plain_name
from p2pdns.publishing.dates import date_of
from p2pdns.publishing.editions import zone_in, zone_of_draft

FORMS = ("zone", "unbound", "dnsmasq", "hosts")
ZONE_FILE_MODE = 0o644
STANDARD_OUTPUT = "-"

_USAGE = "p2pdns export KEY|NAME, or p2pdns export -k KEYFILE --from ZONEFILE"
_SUFFIX_HINT = "as --suffix alice.lan, of letters, digits and hyphens"


@dataclass(frozen=True)
class _Source:
    """A zone, its key, and where it is from."""

    zone: Zone
    key: ZoneKey
    shown: str


def _read_suffix(text: str | None) -> Name | None:
    if text is None:
        return None
    suffix = Name.read(read_name(text)).folded()
    if plain_name(suffix) is None:
        raise UsageError("not a name that all programs read", place=f"--suffix {text}", hint=_SUFFIX_HINT)
    return suffix


def _of_file(
    path: str, key: ZoneKey, origin: str | None, size_max: int, words: tuple[str, ...], given: Given
) -> _Source:
    keys = keys_by_name(words, given.config_flag, given.state_flag)
    read = read_zone(path, key, origin=origin, size_bytes_max=size_max, keys=keys)
    show_warnings(read)
    return _Source(zone_of_draft(read.value, key.apex), key, path)


def _of_overlay(what: str, given: Given) -> _Source:
    config, state = given.config(), given.state()
    found = inspect.find(what, config, state, petnames.load(config, state), is_alone=given.names_an_overlay)
    item = found.item
    try:
        with ui.progress() as line, Daemon(config, given) as daemon:
            zone = zone_in(daemon.whole(item, Shown(line).tell))
    except StrangerError as trouble:
        hint = f"p2pdns inspect {item.key} shows what it is"
        raise Unavailable(
            f"what the key has published is no zone ({trouble})", place=str(item.key), hint=hint
        ) from None
    if found.is_settled is False:
        ui.warning("the look-up was cut short, so there may be a newer zone")
    if item.signed_at_unix + zone.expire_seconds <= unix_now():
        ui.warning(f"the zone is not fresh any more: it was signed at {date_of(item.seq)}")
    if zone.dropped:
        left_out = ", ".join(f"{count} × {why}" for why, count in zone.dropped.items())
        ui.warning(f"records that every reader leaves out are left out here too: {left_out}")
    return _Source(zone, item.key, f"{found.source}, signed at {date_of(item.seq)}")


@click.command(cls=Verb)
@click.argument("what", required=False, metavar="[KEY|NAME|FILE]", shell_complete=completion.a_zone_or_file)
@click.option("--format", "form", type=click.Choice(FORMS), default="zone", show_default=True, help="What to write.")
@click.option("--suffix", metavar="NAME", help="Write names below NAME in place of the key, as alice.lan.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE, which must not exist yet.")
@click.option("--from", "zone_file", metavar="ZONEFILE", help="Read this zone file and look nothing up.")
@click.option(
    "-k", "--key", "key_file", metavar="KEYFILE", help="With --from: the key of the zone, if no KEY is given."
)
@files.passphrase_file_option
@zone_file_options
@settings.overlay_options
def export(
    what: str | None,
    form: str,
    suffix: str | None,
    output: str | None,
    zone_file: str | None,
    key_file: str | None,
    passphrase_file: str | None,
    zone_words: tuple[str, ...],
    origin: str | None,
    size_max: int,
    given: Given,
) -> None:
    """Write the zone of a key as a zone file, or for unbound, dnsmasq or a hosts file.

    The zone is looked up by its KEY, by a petname or by any NAME that ends in one of them; a FILE is an item of
    "inspect -o", and what the head of a large zone pins is looked up. What a form cannot say is in comments at the end.
    """
    output = None if output == STANDARD_OUTPUT else output
    below = _read_suffix(suffix)
    if output is not None:
        files.refuse_existing(output)
    if (what is None) == (key_file is None) or (key_file is not None and zone_file is None):
        raise UsageError("name one zone", place="export", hint=_USAGE)
    if zone_file is None:
        assert what is not None, "without a zone file there is no key file, so there is a word"
        source = _of_overlay(what, given)
    else:
        key = _key_of(what, key_file, passphrase_file, given)
        source = _of_file(zone_file, key, origin, size_max, zone_words, given)
    _write(source, form, below, output, given)


def _key_of(what: str | None, key_file: str | None, passphrase_file: str | None, given: Given) -> ZoneKey:
    if key_file is not None:
        return files.read_secret_key(key_file, passphrase_file).zone_key
    assert what is not None, "the key is in a file or in a word"
    book = petnames.load(given.config(), given.state())
    key = inspect.read_key(what, book)
    if key is None:
        raise UsageError("neither a zone key nor a petname", place=files.quoted(what), hint=_USAGE)
    return key


def _write(source: _Source, form: str, below: Name | None, output: str | None, given: Given) -> None:
    key, zone = str(source.key), source.zone
    if below is not None:
        try:
            zone = formats.shown_below(zone, below)
        except FormatError:
            raise UsageError("a name of the zone gets too long below it", place=f"--suffix {below}") from None
    made = formats.export(zone, form, _remarks(source, form, below), names_origin=below is not None)
    if not made.record_count and made.unsaid:
        hint = f"--format zone says all of it: {counted(len(made.unsaid), 'set')} of records"
        raise Unavailable(f"no record of this zone can be said in the form {form}", place=key, hint=hint)
    text = made.text
    if output is not None:
        hint = "choose another name, or move the old file away"
        files.write_new(output, text.encode(), mode=ZONE_FILE_MODE, place_hint=hint)
    elif not given.as_json:
        for line in text.splitlines():
            ui.result(line)
    if made.unsaid:
        ui.warning(f"{counted(len(made.unsaid), 'set')} of records cannot be said in the form {form}: comments say why")
    if given.as_json:
        facts = {
            "zone": key,
            "source": source.shown,
            "format": form,
            "below": key if below is None else str(below).removesuffix("."),
            "file": output,
            "records": made.record_count,
            "unsaid": list(made.unsaid),
        }
        ui.json_result(facts | ({"text": text} if output is None else {}))
    else:
        ui.note(f"{counted(made.record_count, 'record')} of {key}, from {source.shown}")


def _remarks(source: _Source, form: str, below: Name | None) -> list[str]:
    remarks = [f"The zone {source.key}, from {source.shown}."]
    if form != "zone":
        remarks.append("It is not kept up to date: export it again when the zone changes.")
    elif below is not None:
        remarks.append(f"p2pdns publish --origin {below} reads it as the zone of a key.")
    if form == "dnsmasq":
        remarks.append("Only addresses and aliases have a TTL here; local-ttl is that of all others.")
    return remarks
