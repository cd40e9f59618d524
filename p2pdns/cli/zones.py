"""`check`: finds the mistakes of zone files and configurations before they are used; reads the zone file of `publish`.

Guarantees: nothing leaves this machine, and no secret key is needed; every file is checked, even if another one has
mistakes. Does not know which key will sign a zone: all keys have one length, so any key gives the size of the item.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import click

from p2pdns import config as configuration
from p2pdns.cli import committed, completion, files, petnames, settings, ui
from p2pdns.cli.names import read_zone_key, to_ascii
from p2pdns.cli.settings import Given
from p2pdns.cli.verbs import Verb
from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.zonefile import placeholders, reader
from p2pdns.errors import ConfigError, FormatError, P2pdnsError, UsageError, abridged, counted, first_token, together
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT, VALUE_BYTES_WRITE_MAX
from p2pdns.items.keys import SEED_BYTES, SecretKey, ZoneKey
from p2pdns.items.succession import Commitment
from p2pdns.naming import is_zone_key_label, read_petname
from p2pdns.publishing.editions import Draft, Extent, draft_of, extent_of, is_of_small_names

_ZONE_HELP = "Let {zone:NAME} in a zone file stand for KEY, as a petname does; may be given several times."
_ORIGIN_HELP = "Read a zone file written for NAME (example.com.) as the key's zone."
_KEY_FILE_HELP = "Read zone files as those of this key, and count the commitment in KEYFILE.next; no secret is needed."
_SIZE_HELP = f"Allow zones of this size, {VALUE_BYTES_WRITE_MAX} at most; replies with large ones carry fewer contacts."

WARNINGS_SHOWN_MAX = 20  # A zone of thousands of names may have one for each.
LARGE_SHOWN = 5  # Large names on a terminal; --json has all.

KeysByName = Callable[[], Mapping[str, str]]
"""Returns the keys for `{zone:NAME}`; it is called only for a file that has such a placeholder."""

AddressesFor = Callable[[Sequence[str]], placeholders.Addresses]
"""Returns what the placeholders of a file for a public address stand for; it is called only where there are some."""


def zone_file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--zone`, `--origin` and `--size-max`, which say how a zone file is read."""
    sizes, usual = click.IntRange(1, VALUE_BYTES_WRITE_MAX), VALUE_BYTES_WRITE_DEFAULT
    for option in (
        click.option("--size-max", type=sizes, default=usual, show_default=True, metavar="BYTES", help=_SIZE_HELP),
        click.option("--origin", metavar="NAME", help=_ORIGIN_HELP),
        click.option("--zone", "zone_words", multiple=True, metavar="NAME=KEY", help=_ZONE_HELP),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class ReadZone:
    """A zone file that can be published under a key, with what is to be signed.

    `zones` are the keys of its placeholders, `public` the addresses of those for a public address; `warnings` have path
    and line; `origin` is the apex that the file was written for, if the name of the file told it. `made` is what p2pdns
    adds to the content, and `known_extent` how much room the published zone takes.
    """

    path: str
    value: Draft
    record_count: int
    size_bytes_max: int
    apex: Name
    made: tuple[RRset, ...] = ()
    zones: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    origin: str | None = None
    public: Mapping[str, str] = field(default_factory=dict)
    known_extent: Extent | None = None

    @cached_property
    def extent(self) -> Extent:
        """How much room the zone takes; ZoneFileError with the path of the file where it cannot be divided."""
        if self.known_extent is not None:
            return self.known_extent
        return extent_of(self.value, self.apex, made=self.made, size_bytes_max=self.size_bytes_max, path=self.path)

    def refuse_undividable(self) -> None:
        """Raise a ZoneFileError with the path of the file where the zone cannot be divided."""
        assert self.extent.item_count, "a zone takes an item at least"

    @property
    def size_text(self) -> str:
        """How much room the zone takes, in words."""
        if self.extent.item_count > 1:
            return f"{self.extent.item_count} items of {self.extent.size_bytes:,} bytes"
        return f"{self.extent.size_bytes} of {self.size_bytes_max} bytes"


def keys_by_name(
    words: Sequence[str],
    config_flag: str | None,
    state_flag: str | None,
    book: Callable[[], petnames.Book] | None = None,
) -> KeysByName:
    """Return the keys of names in zone files: those of `--zone`, else the petnames, which are read when needed.

    `book` reads the petnames, where the caller has a daemon at hand.
    """
    given: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        hint = "--zone NAME=KEY, where p2pdns pubkey KEYFILE prints the KEY"
        place = f"--zone {abridged(word[:80])}"
        if not equals:
            raise UsageError("no key is given", place=place, hint=hint)
        key = str(read_zone_key(text, place=place, hint=hint))
        try:
            folded = read_petname(name)
        except ConfigError as trouble:
            raise UsageError(trouble.what, place=place, hint=hint) from None
        if given.setdefault(folded, key) != key:
            raise UsageError("two keys for one name", place=place, hint="leave one of them out")

    @lru_cache(maxsize=1)
    def keys() -> Mapping[str, str]:
        if book is not None:
            return book().keys | given
        return petnames.load(settings.load(config_flag), settings.state_dir(state_flag)).keys | given

    return keys


def read_zone(
    path: str,
    key: ZoneKey,
    *,
    origin: str | None,
    size_bytes_max: int,
    keys: KeysByName = dict,
    addresses: AddressesFor = lambda words: placeholders.NO_ADDRESSES,
    text: str | None = None,
    commitment: Commitment | None = None,
    is_divided_next: bool = False,
) -> ReadZone:
    """Return a zone file, read as the zone of a key; ZoneFileError names the line of a mistake.

    `text` is what is in the file, where the caller has read it. The value has the `commitment` to a next key too. With
    `is_divided_next` the caller divides the zone anyway, and asks `refuse_undividable` where that is refused: to divide
    it here as well would take a second for ten thousand names. It is done all the same where names are large.
    """
    reroot = None
    if origin is not None:
        try:
            reroot = Name.read(to_ascii(origin.strip()))
        except FormatError as trouble:
            raise UsageError(f"not a name ({trouble})", place=f"--origin {origin}") from None
    text = files.read_text(path) if text is None else text
    names, words = placeholders.placeholders(text), placeholders.public_placeholders(text)
    known, public = keys() if names else {}, addresses(words) if words else {}
    filling = placeholders.fill(text, known, public, path=path)
    reading = reader.reading(
        filling.text,
        apex=key.apex,
        path=path,
        reroot=reroot,
        reroot_if_needed=origin_in(path),
        mistakes=filling.mistakes,
    )
    made = () if commitment is None else (commitment.record_of(key),)
    draft = draft_of(reading.rrsets, key.apex, made=made, size_bytes_max=size_bytes_max, path=path)
    zone = ReadZone(
        path,
        draft,
        sum(len(rrset.rdatas) for rrset in reading.rrsets),
        size_bytes_max,
        key.apex,
        made,
        {name: known[name] for name in names},
        tuple(f"{path}:{warning.line}: {abridged(warning.what)}" for warning in reading.warnings),
        str(reading.reroot) if reading.reroot is not None and reroot is None else None,
        {word: address for word in words if isinstance(address := public[word], str)},
    )
    if not is_divided_next or not is_of_small_names(draft, key.apex):
        # A zone that cannot be divided is refused here, where its file is known.
        zone.refuse_undividable()
    return zone


def show_warnings(zone: ReadZone) -> None:
    """Print the warnings about a zone file that can be published."""
    if zone.origin is not None:
        ui.note(f"{zone.path}: read as written for {zone.origin}, by its name (--origin says another)")
    _warn(zone.warnings)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings[:WARNINGS_SHOWN_MAX]:
        ui.warning(warning)
    if len(warnings) > WARNINGS_SHOWN_MAX:
        ui.warning(f"and more; p2pdns check --json shows {reader.WARNINGS_MAX} at most")


def origin_in(path: str) -> Name | None:
    """Return the apex in the usual file names of other servers, db.NAME and NAME.zone; None for other file names."""
    base = os.path.basename(path)
    text = base.removeprefix("db.") if base.startswith("db.") else base.removesuffix(".zone")
    try:
        origin = Name.read(text) if text != base and text.strip(".") else None
    except FormatError:
        return None
    # A zone written for one key must not be published under another one because of the name of its file.
    return None if origin is None or is_zone_key_label(origin.labels[-1]) else origin


def _check_file(
    path: str, key: ZoneKey, commitment: Commitment | None, origin: str | None, size_bytes_max: int, keys: KeysByName
) -> dict[str, Any]:
    if path.endswith(".toml"):
        if not os.path.exists(path):
            raise files.file_trouble(path, FileNotFoundError())
        return {"file": path, "ok": True, "kind": "configuration", **_names_of(path)}
    zone = read_zone(
        path,
        key,
        origin=origin,
        size_bytes_max=size_bytes_max,
        keys=keys,
        addresses=lambda words: placeholders.PUBLIC,
        commitment=commitment,
    )
    return {
        "file": path,
        "ok": True,
        "kind": "zone",
        "size_bytes": zone.extent.size_bytes,
        "size_bytes_max": zone.size_bytes_max,
        "items": zone.extent.item_count,
        "large": [{"name": name, "size_bytes": size} for name, size in zone.extent.large],
        "records": zone.record_count,
        "committed": commitment is not None,
        "zones": dict(zone.zones),
        "public": dict(zone.public),
        "origin": zone.origin,
        "warnings": list(zone.warnings),
    }


def _names_of(path: str) -> dict[str, Any]:
    """Return the size and the warnings of the block lists; ConfigError for names that `serve` would refuse."""
    # Loaded late: a zone file needs none of this.
    from p2pdns.resolver.blocking import BlockedNames
    from p2pdns.resolver.local import read_forward_local, read_local_data
    from p2pdns.state import blocklists

    config = configuration.read(path)
    names, warnings = BlockedNames(), list[str]()
    mistakes: list[ConfigError] = []
    try:
        read_local_data(config.dns.local_data)
    except ConfigError as trouble:
        mistakes += [mistake for mistake in trouble.mistakes if isinstance(mistake, ConfigError)]
    for text in config.dns.forward_local:
        try:
            read_forward_local(text)
        except ConfigError as trouble:
            mistakes.append(trouble)
    try:
        for _ in blocklists.read(blocklists.files_of(config.dns), names, warnings):
            pass
    except ConfigError as trouble:
        mistakes.append(trouble)
    if mistakes:
        # Their lines are not lines of this file.
        raise together(
            ConfigError(mistake.what, place=f"{path}: {mistake.place}", hint=mistake.hint) for mistake in mistakes
        )
    return {"blocked_names": len(names), "warnings": warnings}


def _line(found: dict[str, Any]) -> str:
    if found["kind"] == "configuration":
        blocked = f", {counted(found['blocked_names'], 'blocked name')}" if found["blocked_names"] else ""
        return f"{found['file']}: ok, a configuration{blocked}"
    size = f"{found['size_bytes']} of {found['size_bytes_max']} bytes"
    if found["items"] > 1:
        size = f"{found['items']} items of {found['size_bytes']:,} bytes"
    zones = f", points to {', '.join(found['zones'])}" if found["zones"] else ""
    origin = f", written for {found['origin']}" if found["origin"] else ""
    committing = ", committed to a next key" if found["committed"] else ""
    return f"{found['file']}: ok, {size}, {counted(found['records'], 'record')}{zones}{origin}{committing}"


@click.command(cls=Verb)
@click.argument("paths", nargs=-1, required=True, metavar="FILE...", shell_complete=completion.a_file)
@click.option("--key", "key_text", metavar="KEY", help="Read zone files as this zone key's, for files that name it.")
@click.option("-k", "key_file", metavar="KEYFILE", help=_KEY_FILE_HELP, shell_complete=completion.a_file)
@zone_file_options
@settings.usual_options
def check(
    paths: tuple[str, ...],
    key_text: str | None,
    key_file: str | None,
    zone_words: tuple[str, ...],
    origin: str | None,
    size_max: int,
    given: Given,
) -> int:
    """Check configurations (*.toml) and zone files (any other name), without sending anything.

    For each zone: how much of the 940 bytes of an item it takes, or how many items and which names are large, and
    warnings. For each mistake, the first 50 of a
    file: file, line and what to do. A file called db.NAME or NAME.zone may have been written for NAME. Configuration
    and state directory are read only for the petnames of a zone file.
    """
    # Without --key the key is always the same, so the output is too.
    key = SecretKey.generate(bytes(SEED_BYTES)).zone_key
    if key_text is not None:
        key = read_zone_key(key_text, place=f"--key {first_token(key_text)}")
    commitment = None
    if key_file is not None:
        if key_text is not None:
            raise UsageError("-k and --key exclude each other", place="check", hint="-k KEYFILE names the key as well")
        key = committed.public_key_of(key_file)
        commitment = committed.read(key_file, key)
    keys = keys_by_name(zone_words, given.config_flag, given.state_flag)
    results: list[dict[str, Any]] = []
    code = 0
    for path in paths:
        try:
            found = _check_file(path, key, commitment, origin, size_max, keys)
        except P2pdnsError as trouble:
            ui.error(trouble)
            # `serve` would refuse a bad configuration with 2, `publish` a bad zone with 1.
            code = max(code, 2 if isinstance(trouble, ConfigError | UsageError) else 1)
            found = {"file": path, "ok": False, "error": str(trouble), "hint": trouble.hint}
        else:
            if not given.as_json:
                ui.result(_line(found))
                for word, address in found.get("public", {}).items():
                    ui.note(f"{path}: {{{word}}} counts as {address} here; publish asks the running daemon for it")
                for large in found.get("large", [])[:LARGE_SHOWN]:
                    size = f"{large['size_bytes']:,} bytes"
                    ui.note(f"{path}: {large['name']} is large, {size}: it takes items of its own")
                _warn(found["warnings"])
        results.append(found)
    if given.as_json:
        ui.json_result({"ok": code == 0, "files": results})
    return code
