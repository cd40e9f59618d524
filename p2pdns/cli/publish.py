"""`publish`: signs a zone and puts it into the overlay, by the rules of `publishing.publication`.

With `--watch` it stays, and publishes again what is saved (`cli.watching`).

Guarantees: the secret key stays in this process; what is replaced is shown before it is replaced, and nobody loses most
of a zone without having agreed; exit 0 if and only if more than half of the other known nodes hold the zone and it was
read back; a warning is printed if no daemon will put it again. Does not know how an item finds its nodes, nor whether
the clock is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import click

from p2pdns.cli import committed, completion, files, mixups, settings, tables, ui, watching
from p2pdns.cli.committed import COMMITTED, is_committed
from p2pdns.cli.daemon_or_node import Daemon
from p2pdns.cli.hook import Hook
from p2pdns.cli.made import memory_of
from p2pdns.cli.petnames import Book
from p2pdns.cli.settings import Given
from p2pdns.cli.stages import Shown
from p2pdns.cli.unfinished import journal_of
from p2pdns.cli.verbs import Verb
from p2pdns.cli.watching import Edition, NotAgreed
from p2pdns.cli.zones import ReadZone, keys_by_name, read_zone, show_warnings, zone_file_options
from p2pdns.config import Config
from p2pdns.errors import ZoneFileError, counted
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.changes import Changes
from p2pdns.publishing.dates import date_of
from p2pdns.publishing.editions import Draft
from p2pdns.publishing.memory import Memory
from p2pdns.publishing.publication import Plan, Rules
from p2pdns.publishing.stored import Stored
from p2pdns.publishing.upkeep import OTHERS_WANTED

CHANGES_SHOWN_MAX = 20  # RRsets named before a publication; a terminal has 24 lines.
NOT_KEPT_ALIVE = "nobody puts this again, and nodes forget it, some after two hours: publish through p2pdns serve"


class _NothingPut(Exception):
    """A dry run is at its end."""


class _Approval:
    """The user's approval: shows what a publication replaces before it is signed, and asks if most of it goes."""

    def __init__(self, line: ui.Progress, path: str, *, is_dry: bool, is_agreed: bool, may_ask: bool = True) -> None:
        self.plan: Plan | None = None
        self._line = line
        self._path = path
        self._is_dry = is_dry
        self._is_agreed = is_agreed
        self._may_ask = may_ask

    def __call__(self, plan: Plan) -> None:
        """Show the plan, and ask; Unavailable if the user does not agree."""
        self.plan = plan
        self._line.clear()
        changes = plan.changes
        if plan.current is not None and not self._is_dry and not ui.is_json():
            self._show(plan, plan.current)
        if self._is_dry:
            raise _NothingPut
        if plan.current is None or not changes.is_mostly_gone or self._is_agreed:
            return
        gone = f"{len(changes.removed)} of {counted(changes.before_count, 'RRset')} of the published zone would go"
        if not self._may_ask or not ui.is_interactive():
            hint = "--yes publishes it all the same, --dry-run only shows what would change"
            raise NotAgreed(gone, place=self._path, hint=hint)
        if not ui.ask_yes(f"{gone}; publish?"):
            raise NotAgreed("not published", place=self._path, hint="--dry-run only shows what would change")

    def _show(self, plan: Plan, current: MutableItem) -> None:
        changes = plan.changes
        ui.note(f"{self._path}: {changes}, compared with seq {current.seq} of {date_of(current.seq)}")
        lines = [*_commitment_line(plan), *change_lines(changes)]
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


def _commitment_line(plan: Plan) -> list[str]:
    return [f"+ {COMMITTED}"] if plan.is_first_commitment else []


def _show_dry(plan: Plan, zone: ReadZone, key: str, book: Book, as_json: bool) -> None:
    if as_json:
        seq = None if plan.current is None else plan.current.seq
        facts = {"zone": key, "petname": book.name_of(key), "file": zone.path, "dry_run": True, "published": seq}
        facts |= {"made_here": plan.is_made_here, "commits": plan.is_first_commitment}
        ui.json_result({**facts, "changes": _json_of(plan.changes)})
        return
    ui.note(f"zone key: {book.shown(key)}")
    for text in [*change_lines(plan.changes), *_commitment_line(plan)]:
        ui.result(text)
    against = "nothing is published under this key"
    if plan.current is not None:
        against = f"{plan.changes}, compared with seq {plan.current.seq} of {date_of(plan.current.seq)}"
    ui.note(f"{zone.path}: {against}; nothing was put")
    if plan.trouble is not None:
        ui.warning(f"{plan.trouble}: without --force this zone is refused")
    if plan.changes.is_mostly_gone:
        ui.warning("more than half of what is published would go: without a terminal that needs --yes")


def _json_of(changes: Changes | None) -> dict[str, list[str]]:
    changes = changes or Changes()
    return {"added": [*changes.added], "removed": [*changes.removed], "changed": [*changes.changed]}


def _show(done: Stored, zone: ReadZone, key: str, book: Book, event: str | None = None) -> None:
    if ui.is_json():
        facts = {
            **({} if event is None else {"event": event}),
            "zone": key,
            "petname": book.name_of(key),
            "file": zone.path,
            "zones": dict(zone.zones),
            "public": dict(zone.public),
            "size_bytes": zone.extent.size_bytes,
            "size_bytes_max": zone.size_bytes_max,
            "items": zone.extent.item_count,
            "seq": done.seq,
            "sent": done.sent,
            "stored": done.stored,
            "read_back": done.read_back,
            "changes": _json_of(done.changes),
            "rebased": list(done.rebased),
            "overruled": list(done.overruled),
            "committed": is_committed(done.item),
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
    for word, address in zone.public.items():
        ui.note(f"{zone.path}: {{{word}}} is {address}")
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
    if done.overruled:
        seqs = ", ".join(map(str, done.overruled))
        ui.warning(
            f"seq {seqs} breaks the commitment to the next key, and this publication goes above it; readers that have "
            "seen another commitment first keep to that one"
        )
    if done.warning is not None:
        ui.warning(done.warning)
    if not done.is_kept_here:
        ui.warning(NOT_KEPT_ALIVE)


@dataclass(frozen=True)
class _Publishing:
    """All that one call of the command publishes, once or again and again."""

    secret: SecretKey
    memory: Memory
    key_file: str
    zone_file: str
    config: Config
    given: Given
    zone_words: tuple[str, ...]
    origin: str | None
    size_max: int
    takes_back: bool
    is_forced: bool
    is_agreed: bool
    is_dry: bool
    is_again: bool = False

    def once(self, text: str, settled: Mapping[str, str] | None = None, last: Draft | None = None) -> _Published:
        """Publish a text. Nothing is put if its value is the `last` one, or if changes are only to be shown."""
        given = self.given
        with Daemon(self.config, given) as daemon:
            keys = keys_by_name(self.zone_words, given.config_flag, given.state_flag, daemon.book)
            key = self.secret.zone_key
            zone = read_zone(
                self.zone_file,
                key,
                origin=self.origin,
                size_bytes_max=self.size_max,
                keys=keys,
                addresses=lambda words: daemon.addresses(words, settled),
                text=text,
                commitment=committed.read(self.key_file, key),
                is_divided_next=True,
            )
            done, plan = None, None
            if zone.value != last:
                show_warnings(zone)
                done, plan = self._put(daemon, zone)
            if done is not None:
                zone = replace(zone, known_extent=done.extent)
                committed.keep(self.key_file, key, done)
                committed.warn_if_moved(key, daemon.next_key_of(key))
            return _Published(zone, daemon.book(), done, plan)

    def _put(self, daemon: Daemon, zone: ReadZone) -> tuple[Stored | None, Plan | None]:
        words = f"-k {self.key_file} {self.zone_file}"
        with ui.progress() as line:
            approval = _Approval(
                line, zone.path, is_dry=self.is_dry, is_agreed=self.is_agreed, may_ask=not self.is_again
            )
            rules = Rules(
                is_forced=self.is_forced or self.is_dry,
                takes_back=self.takes_back and not self.is_dry,
                keeps_merged=True,
                approve=approval,
                take_back_command=f"p2pdns publish --take-back {words}",
                force_command=f"p2pdns publish --force {words}",
            )
            rules = committed.rules_with(rules, self.key_file, self.secret.zone_key, self.size_max)
            try:
                tell = Shown(line).tell
                journal = journal_of(self.key_file)
                return daemon.publish(self.secret, zone.value, self.memory, rules, tell, journal), approval.plan
            except _NothingPut:
                return None, approval.plan
            except ZoneFileError:
                # The publication does not know the file; this error names it.
                zone.refuse_undividable()
                raise


@dataclass(frozen=True)
class _Published:
    """The zone that was read, and how its publication went; without `done` nothing was put."""

    zone: ReadZone
    book: Book
    done: Stored | None
    plan: Plan | None


class _Again:
    """The publications of a watch after the first one, which was this."""

    def __init__(self, publishing: _Publishing, first: _Published) -> None:
        assert first.done is not None, "a dry run is not watched"
        # Only the first publication may replace one from elsewhere or from the future: the user has seen that one.
        self._publishing = replace(publishing, is_forced=False, takes_back=False, is_again=True)
        self._is_kept_here = first.done.is_kept_here
        self._value: Draft | None = first.zone.value
        self._seq = first.done.seq

    def publish(self, text: str, addresses: Mapping[str, str]) -> Edition:
        """Publish a text again, and show how that went."""
        publishing = self._publishing
        if self._is_kept_here:
            # A node of our own would put it once, where the daemon that is away keeps it alive.
            with Daemon(publishing.config, publishing.given) as daemon:
                daemon.reported()
        last, self._value = self._value, None
        try:
            found = publishing.once(text, addresses, last)
        except (ZoneFileError, NotAgreed):
            # Nothing was put; after any other failure the overlay may hold another zone.
            self._value = last
            raise
        if found.done is not None:
            _show(found.done, found.zone, str(publishing.secret.zone_key), found.book, event="published")
            if not found.done.is_done:
                raise found.done.failure(str(publishing.secret.zone_key))
            self._seq = found.done.seq
        self._value = found.zone.value
        return Edition(str(publishing.secret.zone_key), self._seq, text, found.zone.public)

    def addresses(self) -> Mapping[str, str | None]:
        """Return the public addresses that the daemon knows; Unavailable where it is away."""
        with Daemon(self._publishing.config, self._publishing.given) as daemon:
            return {f"public_{family}": one.address for family, one in daemon.reported().items()}


def _stay(publishing: _Publishing, found: _Published, first: Edition, hook: Hook | None) -> None:
    """Publish again what is saved, until a signal comes."""
    again = _Again(publishing, found)
    path = committed.path_of(publishing.key_file)
    watched = watching.Watching(publishing.zone_file, again, first, hook, beside=lambda: committed.stamp_of(path))
    watching.watch(watched, publishing.zone_file)


@click.command(cls=Verb)
@files.key_option("The key that signs the zone.", is_needed=False)
@click.argument("zone_file", metavar="[ZONEFILE]", required=False, shell_complete=completion.a_file)
@files.passphrase_file_option
@zone_file_options
@click.option(
    "--take-back", "takes_back", is_flag=True, help="Replace a publication that a wrong clock has dated ahead."
)
@click.option("--force", "is_forced", is_flag=True, help="Replace a publication that was not made with this key file.")
@click.option("--yes", "is_agreed", is_flag=True, help="Publish without a question if most of the zone goes.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Only show what would change.")
@click.option("--watch", "is_watched", is_flag=True, help="Stay, and publish again what is saved.")
@click.option(
    "--hook",
    "hook_text",
    metavar="COMMAND",
    help="With --watch: run COMMAND after each publication; no shell reads it.",
)
@settings.overlay_options
def publish(
    key_file: str | None,
    zone_file: str | None,
    passphrase_file: str | None,
    zone_words: tuple[str, ...],
    origin: str | None,
    size_max: int,
    takes_back: bool,
    is_forced: bool,
    is_agreed: bool,
    is_dry: bool,
    is_watched: bool,
    hook_text: str | None,
    given: Given,
) -> int | None:
    """Sign ZONEFILE with a key and store it in the overlay.

    What is published under the key is looked up first: what changes is shown, and a publication that was not made with
    this key file is refused. The running daemon puts the zone there and keeps it alive; it gets the signed zone, never
    the key. Without a daemon, or with --network or --bootstrap, a node of its own does it once.
    Without -k the zones of the [[publish]] tables in the configuration are published: all, or that of ZONEFILE.
    """
    if key_file is None or zone_file is None:
        return tables.publish_tables(key_file, zone_file, given, tables.How(is_forced, is_agreed, is_dry))
    mixups.refuse_swapped(key_file, zone_file)
    watching.refuse_misfits(zone_file, hook_text, is_watched=is_watched, is_dry=is_dry)
    hook = None if hook_text is None else Hook.read(hook_text)
    config = given.config()
    publishing = _Publishing(
        files.read_secret_key(key_file, passphrase_file),
        # One for the life of a watch: where the disk takes nothing, it knows at least what it has published itself.
        memory_of(key_file),
        key_file,
        zone_file,
        config,
        given,
        zone_words,
        origin,
        size_max,
        takes_back,
        is_forced,
        is_agreed,
        is_dry,
    )
    text = files.read_text(zone_file)
    if is_watched:
        ui.show_at_once()
        ui.json_lines()
    found = publishing.once(text)
    key, done = str(publishing.secret.zone_key), found.done
    if done is None:
        assert found.plan is not None, "it was shown"
        _show_dry(found.plan, found.zone, key, found.book, given.as_json)
        return None
    _show(done, found.zone, key, found.book, event="published" if is_watched else None)
    if not done.is_done:
        raise done.failure(key)
    if is_watched:
        _stay(publishing, found, Edition(key, done.seq, text, found.zone.public), hook)
    return None
