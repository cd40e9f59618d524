"""`signer`: holds a zone's key, and takes changes from programs that speak DNS UPDATE.

Guarantees: the secret key and the secrets of TSIG stay in this process, and are read from files that nobody else may
open; the daemon gets signed items, as from `publish`. Does not know the protocols (`p2pdns.signer` does).
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pdns import log
from p2pdns.addresses import Address, read_address
from p2pdns.admin.publishing import publish_through
from p2pdns.cli import committed, completion, files, mixups, settings
from p2pdns.cli.daemon_or_node import publish_alone
from p2pdns.cli.made import memory_of
from p2pdns.cli.names import to_ascii
from p2pdns.cli.serve import end_with
from p2pdns.cli.settings import Given
from p2pdns.cli.starting import running_daemon
from p2pdns.cli.threads import in_thread
from p2pdns.cli.unfinished import journal_of
from p2pdns.cli.verbs import Verb
from p2pdns.cli.zones import KeysByName, keys_by_name, origin_in
from p2pdns.config import Config
from p2pdns.dns.name import Name
from p2pdns.errors import ConfigError, FormatError, Unavailable, UsageError
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT, VALUE_BYTES_WRITE_MAX
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.editions import Draft
from p2pdns.publishing.publication import Rules
from p2pdns.publishing.replicas import PublishStage
from p2pdns.publishing.stored import Stored
from p2pdns.signer.above import OwnChange
from p2pdns.signer.last import Last, LastPublished

if TYPE_CHECKING:
    from p2pdns.signer.filed import ZoneFile
    from p2pdns.signer.outlet import ZonePublished
    from p2pdns.signer.tsig import Keys

LISTEN_DEFAULT = "127.0.0.1:5354"
DNS_PORT = 53


class ZoneOutlet:
    """Publishes a zone as `publish` does: through the running daemon, else by a node of its own."""

    def __init__(
        self, given: Given, config: Config, secret: SecretKey, key_file: str, zone_file: str, size_max: int
    ) -> None:
        self._given = given
        self._config = config
        self._secret = secret
        self._memory = memory_of(key_file)
        self._journal = journal_of(key_file)
        self._key_file = key_file
        self._size_max = size_max
        self._file = LastPublished(Path(zone_file))
        # The zone here as it was published last, without what another publisher may have in the overlay.
        self._last = self._kept()
        words = f"-k {key_file} {zone_file}"
        self._rules = Rules(
            take_back_command=f"p2pdns publish --take-back {words}",
            force_command=f"p2pdns publish --force {words}",
        )

    async def publish(self, value: Draft) -> ZonePublished:
        """Sign and put a zone."""
        from p2pdns.signer.outlet import ZonePublished

        done = await in_thread(lambda: self._publish(value))
        if done.rebased:
            what = "another publisher came in between: what it changed stays, and is not in the zone file"
            log.get_logger("signer").warning(what, seqs=",".join(map(str, done.rebased)))
        if not done.is_done:
            raise done.failure(str(self._secret.zone_key))
        self._keep(Last(done.seq, value))
        return ZonePublished(True, str(done))

    def _kept(self) -> Last | None:
        try:
            return self._file.read()
        except Unavailable as trouble:
            what = "the whole zone is published, also where another publisher has changed it"
            log.get_logger("signer").warning(what, why=str(trouble))
            return None

    def _keep(self, last: Last) -> None:
        self._last = last
        try:
            self._file.write(last)
        except Unavailable as trouble:
            # Only a start needs the file, and an older one does no harm: its change is made already.
            log.get_logger("signer").warning("what was published is not kept for the next start", why=str(trouble))

    def _content(self, value: Draft) -> Draft | OwnChange:
        """Return the change since the last publication, which leaves others' records there; at first the whole zone."""
        if self._last is None:
            return value
        what = "another publisher has changed the same records: what is here takes their place"
        return OwnChange(
            self._secret.zone_key.apex,
            self._last,
            value,
            lambda conflict: log.get_logger("signer").warning(what, why=conflict.what),
        )

    def _publish(self, value: Draft) -> Stored:
        done = self._put(self._content(value))
        committed.keep(self._key_file, self._secret.zone_key, done)
        return done

    def _put(self, content: Draft | OwnChange) -> Stored:
        # A commitment that was made while the signer runs goes out with the next change.
        rules = committed.rules_with(self._rules, self._key_file, self._secret.zone_key, self._size_max)
        # A daemon that has ended, or one that has started, is met at the next publication.
        client = None if self._given.names_an_overlay else running_daemon(self._given.state())
        if client is not None:
            return publish_through(
                client, self._secret, content, memory=self._memory, rules=rules, journal=self._journal
            )
        return asyncio.run(
            publish_alone(self._config, self._secret, content, self._memory, rules, _untold, self._journal)
        )


def _untold(progress: PublishStage) -> None:
    """Print nothing: the log has the end of a publication, and not its stages."""


def _address(flag: str, text: str, default_port: int | None) -> Address:
    try:
        return read_address(text, default_port)
    except ConfigError as trouble:
        raise UsageError(trouble.what, place=flag, hint=trouble.hint) from None


def _end_with(_context: click.Context, _option: click.Parameter, alive_fd: int | None) -> None:
    if alive_fd is not None:
        end_with(alive_fd)


@click.command(cls=Verb)
@files.key_option("The key that signs the zone.")
@click.option(
    "--zone", "zone_file", required=True, metavar="ZONEFILE", help="The zone.", shell_complete=completion.a_file
)
@click.option(
    "--tsig",
    "tsig_file",
    required=True,
    metavar="FILE",
    help="The keys of those who may change and transfer it, as tsig-keygen writes them.",
    shell_complete=completion.a_file,
)
@click.option(
    "--listen", metavar="ADDR:PORT", default=LISTEN_DEFAULT, show_default=True, help="Answer there, by UDP and TCP."
)
@click.option("--notify", multiple=True, metavar="ADDR[:PORT]", help="Tell a secondary of changes; several times.")
@click.option("--primary", metavar="ADDR[:PORT]", help="Take the zone from there by AXFR, and no UPDATE.")
@click.option("--origin", metavar="NAME", help="Read the zone as one that was written for NAME (example.com.).")
@click.option(
    "--size-max",
    type=click.IntRange(1, VALUE_BYTES_WRITE_MAX),
    default=VALUE_BYTES_WRITE_DEFAULT,
    show_default=True,
    metavar="BYTES",
    help=f"Allow a zone of this size, {VALUE_BYTES_WRITE_MAX} at most.",
)
@files.passphrase_file_option
@settings.config_option
@settings.state_option
@settings.network_option
@settings.bootstrap_option
@click.option("--alive-fd", type=int, hidden=True, expose_value=False, callback=_end_with)
def signer(
    key_file: str,
    zone_file: str,
    tsig_file: str,
    listen: str,
    notify: tuple[str, ...],
    primary: str | None,
    origin: str | None,
    size_max: int,
    passphrase_file: str | None,
    config_flag: str | None,
    state_flag: str | None,
    network: str | None,
    bootstrap: tuple[str, ...],
) -> None:
    """Hold a zone's key, take changes by DNS UPDATE, and publish them, until Ctrl-C.

    nsupdate, certbot, octoDNS and others ask it for the zone KEY, or KEY.p2p.alt. Every UPDATE and every transfer needs
    a TSIG by a key of FILE. A change is in ZONEFILE.journal before it is acknowledged, and in ZONEFILE and published a
    second later; lines of other records stay as they are. The daemon gets the signed zone, never the key. SIGHUP reads
    ZONEFILE again.
    """
    mixups.refuse_swapped(key_file, zone_file, "p2pdns signer -k {} --zone {} --tsig FILE")
    given = Given(config_flag, state_flag, network, bootstrap)
    config = given.config()
    address = _address("--listen", listen, None)
    secondaries = [_address("--notify", text, DNS_PORT) for text in notify]
    upstream = None if primary is None else _address("--primary", primary, DNS_PORT)
    reroot = _origin(origin)
    secret = files.read_secret_key(key_file, passphrase_file)
    # Loaded late: wrong words need none of it.
    from p2pdns.net.sockets import open_dns
    from p2pdns.signer import main
    from p2pdns.signer.notify import TARGETS_MAX

    if len(secondaries) > TARGETS_MAX:
        raise UsageError(f"{len(secondaries)} secondaries, {TARGETS_MAX} allowed", place="--notify")
    keys = _keys(tsig_file)
    apex = secret.zone_key.apex
    # A file with a mistake ends the signer here, and no UPDATE later.
    committed.read(key_file, secret.zone_key)
    zone = _zone(
        zone_file, apex, reroot, keys_by_name((), config_flag, state_flag), may_be_missing=upstream is not None
    )
    log.configure(config.status.log_level)
    sockets = open_dns(address)
    made = partial(committed.records, key_file, secret.zone_key)
    main.run(
        main.Settings(apex, zone, keys, sockets, config.dns.suffixes, size_max, secondaries, upstream, reroot, made),
        ZoneOutlet(given, config, secret, key_file, zone_file, size_max),
    )


def _keys(tsig_file: str) -> Keys:
    from p2pdns.signer.tsig import read_keys

    keys = read_keys(files.read_text(tsig_file), tsig_file)
    files.refuse_if_others_may_read(tsig_file)
    return keys


def _zone(zone_file: str, apex: Name, reroot: Name | None, keys: KeysByName, *, may_be_missing: bool) -> ZoneFile:
    from p2pdns.signer.filed import ZoneFile

    if not may_be_missing and not Path(zone_file).exists():
        raise files.file_trouble(zone_file, FileNotFoundError())
    return ZoneFile(
        Path(zone_file),
        apex,
        reroot=reroot,
        reroot_if_needed=origin_in(zone_file),
        keys=keys,
        may_be_missing=may_be_missing,
    )


def _origin(text: str | None) -> Name | None:
    if text is None:
        return None
    try:
        return Name.read(to_ascii(text.strip()))
    except FormatError as trouble:
        raise UsageError(f"not a name ({trouble})", place=f"--origin {text}") from None
