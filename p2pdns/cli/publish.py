"""`publish`: signs a zone and puts it into the overlay, by the rules of `publishing.publication`.

A running daemon, or one that is just starting, gets the signed item and puts it. Without a daemon, or when a flag names
another overlay, a short-lived node of this process puts it.

Guarantees: the secret key stays in this process; what is replaced is shown before it is replaced, and nobody loses most
of a zone without having agreed; exit 0 if and only if more than half of the other known nodes hold the zone and it was
read back; a warning is printed if no daemon will put it again. Does not know how an item finds its nodes, nor whether
the clock is right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from p2pdns.admin.control import ControlClient
from p2pdns.admin.publishing import hand_over, publish_through
from p2pdns.cli import completion, files, mixups, petnames, settings, ui
from p2pdns.cli.made import memory_of
from p2pdns.cli.petnames import Book
from p2pdns.cli.settings import Given
from p2pdns.cli.starting import GRACE_S, running_daemon
from p2pdns.cli.verbs import Verb
from p2pdns.cli.zones import ReadZone, keys_by_name, read_zone, show_warnings, zone_file_options
from p2pdns.config import Config
from p2pdns.errors import Unavailable, counted
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.publishing.changes import Changes, WholeZone
from p2pdns.publishing.dates import date_of
from p2pdns.publishing.memory import Memory
from p2pdns.publishing.publication import Plan, Publication, Rules, Stored
from p2pdns.publishing.replicas import PublishStage, Tell
from p2pdns.publishing.upkeep import OTHERS_WANTED
from p2pdns.timing import Clock

CHANGES_SHOWN_MAX = 20  # RRsets named before a publication; a terminal has 24 lines.
RATIONED_NOTE_S = 10.0  # Between two lines about a publication that waits.
NOT_KEPT_ALIVE = "nobody puts this again, and nodes forget it, some after two hours: publish through p2pdns serve"


async def publish_alone(
    config: Config, secret: SecretKey, value: bytes, memory: Memory, rules: Rules, tell: Tell
) -> Stored:
    """Publish a value by a node of this process; Unavailable where it finds no other node, or must not."""
    from p2pdns.cli.node import short_lived_node

    key = secret.zone_key
    async with short_lived_node(config) as node:
        publication = Publication(
            key,
            lambda seq, signed: MutableItem.signed(secret, seq, signed),
            WholeZone(key.apex, value),
            node.replicas(ZoneId.of_key(key), tell),
            memory=memory,
            rules=rules,
            tell=tell,
        )
        return replace(await publication.run(), through="a node of its own")


class _Rations:
    """Messages about a publication that other nodes ration: on the progress line, and at times on a line that stays."""

    def __init__(self, line: ui.Progress, clock: Clock = time.monotonic) -> None:
        self._line = line
        self._clock = clock
        self._said_at = float("-inf")

    def told(self, standing: dict[str, Any]) -> None:
        """Show how far the publication is."""
        zones = f"{standing['done']} of {counted(standing['of'], 'zone')} through"
        text = f"rationed by the other nodes: {zones}, about {standing['seconds_left']:.0f} s left"
        if self._clock() - self._said_at >= RATIONED_NOTE_S:
            if self._said_at == float("-inf"):
                text += "; the daemon goes on if you do not wait"
            self._said_at = self._clock()
            self._line.clear()
            ui.note(text)
        self._line.update(text)


class _Shown:
    """The stages of a publication: a line on a terminal, lines of JSON with `--json`."""

    def __init__(self, line: ui.Progress) -> None:
        self._line = line
        self._rations = _Rations(line)

    def tell(self, progress: PublishStage) -> None:
        """Show a stage."""
        if ui.is_json():
            ui.json_progress(progress.to_json())
        elif progress.stage == "rationed":
            self._rations.told(dict(progress.facts))
        else:
            self._line.update(str(progress))


class _Daemon:
    """The daemon of this machine, if one runs, else a node of this process."""

    def __init__(self, config: Config, given: Given, client_of: Callable[[Path], ControlClient]) -> None:
        self._config = config
        self._is_alone = given.names_an_overlay
        self._state = given.state(client_of)
        self._client = client_of(self._state)

    def book(self) -> Book:
        """Return the petnames."""
        return petnames.load(self._config, self._state, client=self._client)

    def _is_running(self, *, grace_s: float = 0.0) -> bool:
        if self._is_alone:
            return False
        return running_daemon(self._state, client=self._client, grace_seconds=grace_s) is not None

    def publish(self, secret: SecretKey, value: bytes, memory: Memory, rules: Rules, tell: Tell) -> Stored:
        """Publish through the daemon, or by a node of this process."""
        # Without a bootstrap contact only a daemon can publish, so a daemon that was just started is waited for.
        if self._is_running(grace_s=0.0 if self._config.dht.bootstrap else GRACE_S):
            return publish_through(self._client, secret, value, memory=memory, rules=rules, tell=tell)
        # Loaded late: with a daemon this process needs no event loop.
        import asyncio

        done = asyncio.run(publish_alone(self._config, secret, value, memory, rules, tell))
        # A daemon may have started in the meantime.
        if done.item is not None and self._is_running():
            return replace(hand_over(self._client, done.item, tell), changes=done.changes, rebased=done.rebased)
        return done


class _NothingPut(Exception):
    """A dry run is at its end."""


class _Approval:
    """What a publication replaces, shown before it is signed, and the question if most of it goes."""

    def __init__(self, line: ui.Progress, path: str, *, is_dry: bool, is_agreed: bool) -> None:
        self.plan: Plan | None = None
        self._line = line
        self._path = path
        self._is_dry = is_dry
        self._is_agreed = is_agreed

    def __call__(self, plan: Plan) -> None:
        """Show the plan, and ask; Unavailable where nobody agrees."""
        self.plan = plan
        self._line.clear()
        changes = plan.changes
        if plan.current is not None and not self._is_dry and not ui.is_json():
            self._show(plan.current, changes)
        if self._is_dry:
            raise _NothingPut
        if plan.current is None or not changes.is_mostly_gone or self._is_agreed:
            return
        gone = f"{len(changes.removed)} of {counted(changes.before_count, 'RRset')} of the published zone would go"
        if not ui.is_interactive():
            hint = "--yes publishes it all the same, --dry-run only shows what would change"
            raise Unavailable(gone, place=self._path, hint=hint)
        if not ui.ask_yes(f"{gone}; publish?"):
            raise Unavailable("not published", place=self._path, hint="--dry-run only shows what would change")

    def _show(self, current: MutableItem, changes: Changes) -> None:
        ui.note(f"{self._path}: {changes} against seq {current.seq} of {date_of(current.seq)}")
        lines = change_lines(changes)
        for text in lines[:CHANGES_SHOWN_MAX]:
            ui.note(text)
        if len(lines) > CHANGES_SHOWN_MAX:
            ui.note(f"and {len(lines) - CHANGES_SHOWN_MAX} more; --dry-run shows all")


def change_lines(changes: Changes) -> list[str]:
    """Return a line for each RRset that differs.

    >>> change_lines(Changes(added=("www A",), removed=("ftp A",), changed=("@ TXT",)))
    ['- ftp A', '+ www A', '~ @ TXT']
    """
    marked = (("-", changes.removed), ("+", changes.added), ("~", changes.changed))
    return [f"{mark} {name}" for mark, names in marked for name in names]


def _show_dry(plan: Plan, zone: ReadZone, key: str, book: Book, as_json: bool) -> None:
    if as_json:
        seq = None if plan.current is None else plan.current.seq
        facts = {"zone": key, "petname": book.name_of(key), "file": zone.path, "dry_run": True, "published": seq}
        ui.json_result({**facts, "made_here": plan.is_made_here, "changes": _json_of(plan.changes)})
        return
    ui.note(f"zone key: {book.shown(key)}")
    for text in change_lines(plan.changes):
        ui.result(text)
    against = "nothing is published under this key"
    if plan.current is not None:
        against = f"{plan.changes} against seq {plan.current.seq} of {date_of(plan.current.seq)}"
    ui.note(f"{zone.path}: {against}; nothing was put")
    if not plan.is_made_here:
        ui.warning("what is published was not made by this key file: without --force this zone is refused")
    if plan.changes.is_mostly_gone:
        ui.warning("more than half of what is published would go: without a terminal that needs --yes")


def _json_of(changes: Changes | None) -> dict[str, list[str]]:
    changes = changes or Changes()
    return {"added": [*changes.added], "removed": [*changes.removed], "changed": [*changes.changed]}


def _show(done: Stored, zone: ReadZone, key: str, book: Book, as_json: bool) -> None:
    if as_json:
        facts = {
            "zone": key,
            "petname": book.name_of(key),
            "file": zone.path,
            "zones": dict(zone.zones),
            "size_bytes": len(zone.value),
            "size_bytes_max": zone.size_bytes_max,
            "seq": done.seq,
            "sent": done.sent,
            "stored": done.stored,
            "read_back": done.read_back,
            "changes": _json_of(done.changes),
            "rebased": list(done.rebased),
            "wanted": OTHERS_WANTED,
            "refused": done.refused,
            "through": done.through,
            "ahead": done.ahead,
            "kept_here": done.is_kept_here,
            "kept_alive_by": "daemon" if done.is_kept_here else None,
            "warning": done.warning,
        }
        ui.json_result(facts)
        _warn(done)
        return
    ui.note(f"zone key: {book.shown(key)}")
    for name, other in zone.zones.items():
        ui.note(f"{zone.path}: {{zone:{name}}} is {other}")
    ui.note(f"{zone.path}: {zone.size_text}, put by {done.through}")
    if done.ahead is not None:
        ui.warning(
            f"a publication of this key is dated {date_of(done.ahead)}; nodes of p2pdns go by the new one, other nodes "
            "refuse it (302) until they have dropped the later one"
        )
    for reason, count in done.refused.items() if not done.rebased else ():
        ui.warning(f"not stored at {counted(count, 'node')}: {reason}")
    _warn(done)
    ui.result(str(done))


def _warn(done: Stored) -> None:
    if done.rebased:
        seqs = ", ".join(map(str, done.rebased))
        ui.warning(
            f"seq {seqs} came in between, from elsewhere; what it changes is kept, and is not in the zone file: "
            "p2pdns inspect shows the zone as it is now"
        )
    if done.warning is not None:
        ui.warning(done.warning)
    if not done.is_kept_here:
        ui.warning(NOT_KEPT_ALIVE)


@click.command(cls=Verb)
@click.option(
    "-k",
    "--key",
    "key_file",
    required=True,
    metavar="KEYFILE",
    help="The key that signs the zone.",
    shell_complete=completion.a_file,
)
@click.argument("zone_file", metavar="ZONEFILE", shell_complete=completion.a_file)
@files.passphrase_file_option
@zone_file_options
@click.option(
    "--take-back", "takes_back", is_flag=True, help="Replace a publication that a wrong clock has dated ahead."
)
@click.option("--force", "is_forced", is_flag=True, help="Replace a publication that was not made with this key file.")
@click.option("--yes", "is_agreed", is_flag=True, help="Publish without a question if most of the zone goes.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Only show what would change.")
@settings.overlay_options
def publish(
    key_file: str,
    zone_file: str,
    passphrase_file: str | None,
    zone_words: tuple[str, ...],
    origin: str | None,
    size_max: int,
    takes_back: bool,
    is_forced: bool,
    is_agreed: bool,
    is_dry: bool,
    given: Given,
) -> None:
    """Sign ZONEFILE with a key and store it in the overlay.

    What is published under the key is looked up first: what changes is shown, and a publication that was not made with
    this key file is refused. The running daemon puts the zone there and keeps it alive; it gets the signed zone, never
    the key. Without a daemon, or with --network or --bootstrap, a node of its own does it once.
    """
    mixups.refuse_swapped(key_file, zone_file)
    config = given.config()
    secret = files.read_secret_key(key_file, passphrase_file)
    clients: dict[Path, ControlClient] = {}
    with ExitStack() as sessions:

        def client_of(directory: Path) -> ControlClient:
            # One connection for all that the daemon is asked.
            if directory not in clients:
                clients[directory] = ControlClient(directory)
                sessions.enter_context(clients[directory].session())
            return clients[directory]

        daemon = _Daemon(config, given, client_of)
        keys = keys_by_name(zone_words, given.config_flag, given.state_flag, daemon.book)
        zone = read_zone(zone_file, secret.zone_key, origin=origin, size_bytes_max=size_max, keys=keys)
        show_warnings(zone)
        words = f"-k {key_file} {zone_file}"
        with ui.progress() as line:
            approval = _Approval(line, zone.path, is_dry=is_dry, is_agreed=is_agreed)
            rules = Rules(
                is_forced=is_forced or is_dry,
                takes_back=takes_back and not is_dry,
                approve=approval,
                take_back_command=f"p2pdns publish --take-back {words}",
                force_command=f"p2pdns publish --force {words}",
            )
            try:
                done = daemon.publish(secret, zone.value, memory_of(key_file), rules, _Shown(line).tell)
            except _NothingPut:
                done = None
        key, book = str(secret.zone_key), daemon.book()
    if done is None:
        assert approval.plan is not None, "it was shown"
        _show_dry(approval.plan, zone, key, book, given.as_json)
        return
    _show(done, zone, key, book, given.as_json)
    if not done.is_done:
        raise done.failure(key)
