"""`rotate`: moves a zone to its next key: publishes it there, and then reveals that key.

Guarantees: the next key stays in this process; nothing is revealed before the zone stands under the next key; exit 0 if
and only if it does, and more than half of the other known nodes hold each of the two values; after a failure the same
command goes on. Does not know the old key's secret half, nor how a reader follows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from p2pdns.cli import committed, completion, files, inspect, mixups, settings, ui
from p2pdns.cli.daemon_or_node import Daemon
from p2pdns.cli.made import memory_of
from p2pdns.cli.petnames import Book
from p2pdns.cli.publish import change_lines
from p2pdns.cli.settings import Given
from p2pdns.cli.stages import Shown
from p2pdns.cli.unfinished import journal_of
from p2pdns.cli.verbs import Verb
from p2pdns.cli.zones import keys_by_name, read_zone, show_warnings, zone_file_options
from p2pdns.dht.node.values import Others
from p2pdns.errors import BadItem, DaemonGone, KeyFileError, P2pdnsError, Unavailable, UsageError, counted
from p2pdns.items.item import ImmutableItem, MutableItem
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.items.succession import Commitment, commitment_of, commitment_to, succession_values
from p2pdns.publishing.changes import Content, StandingZone, WholeZone
from p2pdns.publishing.dates import date_of
from p2pdns.publishing.editions import draft_of, zone_in
from p2pdns.publishing.memory import Origin
from p2pdns.publishing.publication import Plan, Rules
from p2pdns.publishing.replicas import Seen
from p2pdns.publishing.stored import Stored

NOT_KEPT_ALIVE = "nobody puts the values again, and some nodes forget them after two hours: rotate through p2pdns serve"
GOES_ON = "rotate again: it goes on from here"
NOBODY_TOLD = "nobody has to be told: readers that know the old key find the next one within an hour, and follow it"


@dataclass(frozen=True)
class _Old:
    """The zone that moves: its key, its last edition with the commitment to the next key, None where none is found."""

    key: ZoneKey
    last: MutableItem | None


class _DryRunEnd(Exception):
    """A dry run is at its end."""


def _old_key(word: str, book: Book) -> ZoneKey:
    """Return the old key: that of a key file, else a zone key or a petname."""
    if mixups.is_key_file(word):
        return committed.public_key_of(word)
    key = None if os.path.exists(word) else inspect.read_key(word, book)
    if key is None:
        hint = "name the file of the old key, or the zone key: p2pdns pubkey KEYFILE prints it"
        raise UsageError("neither a key file nor a zone key nor a petname", place=files.quoted(word), hint=hint)
    return key


def _last_edition(
    seen: Seen, key: ZoneKey, next_file: str, expected: Commitment, *, is_forced: bool, is_known_here: bool
) -> _Old:
    """Return the newest edition with the commitment; an error where there is none, unless that is trusted.

    A file beside the old key is enough where no edition is found, and where a thief's has another commitment. Where
    none has any, perhaps none was ever published with it: then no reader would follow.
    """
    items = [version.item for version in seen.versions]
    good = [item for item in items if commitment_of(item) == expected]
    if good:
        return _Old(key, max(good, key=lambda item: item.seq))
    was_published = not items or any(commitment_of(item) is not None for item in items)
    if is_forced or (is_known_here and was_published):
        return _Old(key, None)
    place, force = str(key), "--force rotates all the same: readers that have seen its commitment before follow it"
    if not items:
        what = "the old zone cannot be found" if seen.is_complete else "the look-up was not complete, and found no zone"
        hint = f"try again later, or with another --bootstrap ADDR:PORT; with a ZONEFILE, {force}"
        raise Unavailable(what, place=place, hint=hint)
    if all(commitment_of(item) is None for item in items):
        hint = f"a zone can move to a next key only after p2pdns keygen --next KEYFILE and p2pdns publish; {force}"
        raise Unavailable("the zone has not committed itself to a next key", place=place, hint=hint)
    hint = f"is it the right next key? If a thief has published another commitment, {force}"
    raise KeyFileError(
        f"not the next key that {place} has committed itself to", place=files.quoted(next_file), hint=hint
    )


def _is_known_here(word: str, key: ZoneKey, expected: Commitment) -> bool:
    """Return whether a file beside the old key says that this is its next one, whatever the overlay shows."""
    return mixups.is_key_file(word) and committed.read(word, key) == expected


def _moved_content(daemon: Daemon, old: _Old, next_key: ZoneKey, size_max: int, *, is_complete: bool) -> StandingZone:
    """Return the zone of the old key below the next one."""
    place, hint = str(old.key), "name a ZONEFILE to publish under the next key"
    if old.last is None:
        raise Unavailable("no edition of the zone carries the commitment to this next key", place=place, hint=hint)
    if not is_complete:
        what = "the look-up was not complete, so the zone may have a newer edition"
        raise Unavailable(what, place=place, hint=f"try again; or {hint}")
    try:
        moved = zone_in(daemon.whole(old.last)).at(next_key.apex)
    except BadItem as trouble:
        raise Unavailable(f"what is published is no zone ({trouble})", place=place, hint=hint) from None
    draft = draft_of(moved.rrsets.values(), next_key.apex, size_bytes_max=size_max, path=place)
    return StandingZone(next_key.apex, draft)


@dataclass(frozen=True)
class _Rotation:
    """All that one call of the command does."""

    word: str
    next_file: str
    secret: SecretKey
    zone_file: str | None
    zone_words: tuple[str, ...]
    origin: str | None
    size_max: int
    is_forced: bool
    is_agreed: bool
    is_dry: bool
    given: Given

    def run(self, daemon: Daemon) -> None:
        """Publish the zone under the next key, reveal that key, and say what was done."""
        book = daemon.book()
        old_key = _old_key(self.word, book)
        values, expected = succession_values(old_key, self.secret), commitment_to(old_key, self.secret)
        with ui.progress() as line:
            line.update("looking up the old zone")
            seen = daemon.look_up(old_key)
            is_known_here = _is_known_here(self.word, old_key, expected)
            old = _last_edition(
                seen, old_key, self.next_file, expected, is_forced=self.is_forced, is_known_here=is_known_here
            )
            content = self._content(daemon, old, is_complete=seen.is_complete)
            moving = None if self.zone_file is not None else old.last
            place = self.zone_file or str(old_key)
            approval = _RotationApproval(line, place, moving, self._doubt_of(moving), self.is_agreed, self.is_dry)
            rules = Rules(
                is_forced=self.is_forced or self.is_dry,
                keeps_merged=True,
                approve=approval,
                force_command=f"p2pdns rotate --force {self.word} --next {self.next_file}",
                verb="rotate",
            )
            rules = committed.rules_with(rules, self.next_file, self.secret.zone_key, self.size_max)
            try:
                done = daemon.publish(
                    self.secret,
                    content,
                    memory_of(self.next_file),
                    rules,
                    Shown(line).tell,
                    journal_of(self.next_file),
                )
            except _DryRunEnd:
                self._show_dry(old, approval, book)
                return
            except DaemonGone as trouble:
                what = f"{trouble}; perhaps the zone is published under the next key, which is not revealed yet"
                hint = "see to the daemon, then run the same command again: it goes on from where this one has ended"
                raise Unavailable(what, place=str(old_key), hint=hint) from None
            committed.keep(self.next_file, self.secret.zone_key, done)
            revealed: list[Others] = []
            is_kept, unrevealed = False, None
            if done.is_done:
                line.update("revealing the next key")
                try:
                    revealed, is_kept = daemon.reveal(old_key, values, old.last)
                except P2pdnsError as trouble:
                    unrevealed = trouble
        self._show(old, done, values, revealed, is_kept, book)
        if unrevealed is not None:
            what = f"the zone is published under the next key, and that is not revealed yet: {unrevealed}"
            raise Unavailable(what, place=str(old_key), hint=GOES_ON)
        self._end(old, done, revealed, is_kept)

    def _doubt_of(self, moving: MutableItem | None) -> str | None:
        """Return why the edition that would move may be a thief's: the file of the old key did not make it."""
        if moving is None or not mixups.is_key_file(self.word):
            return None
        if memory_of(self.word).origin_of(moving) is not Origin.ELSEWHERE:
            return None
        return f"seq {moving.seq} of {date_of(moving.seq)} was not made by this key file"

    def _content(self, daemon: Daemon, old: _Old, *, is_complete: bool) -> Content:
        next_key = self.secret.zone_key
        if self.zone_file is None:
            return _moved_content(daemon, old, next_key, self.size_max, is_complete=is_complete)
        zone = read_zone(
            self.zone_file,
            next_key,
            # Names below the old key, in owners and in records, move to the next one.
            origin=self.origin or str(old.key),
            size_bytes_max=self.size_max,
            keys=keys_by_name(self.zone_words, self.given.config_flag, self.given.state_flag, daemon.book),
            addresses=daemon.addresses,
            commitment=committed.read(self.next_file, next_key),
        )
        show_warnings(zone)
        return WholeZone(next_key.apex, zone.value)

    def _facts(self, old: _Old, book: Book) -> dict[str, Any]:
        return {
            "old": str(old.key),
            "next": str(self.secret.zone_key),
            "petname": book.name_of(str(old.key)),
            "file": self.zone_file,
            "old_seq": None if old.last is None else old.last.seq,
        }

    def _show_dry(self, old: _Old, approval: _RotationApproval, book: Book) -> None:
        plan = approval.plan
        assert plan is not None, "a dry run ends when it is approved"
        if ui.is_json():
            seq = None if plan.current is None else plan.current.seq
            ui.json_result({**self._facts(old, book), "dry_run": True, "published": seq})
            return
        ui.result(f"the zone would move from {old.key} to {self.secret.zone_key}")
        ui.note(f"under the next key: {_compared(plan)}; nothing was put")
        for text in change_lines(plan.changes):
            ui.note(text)
        if plan.current is None and approval.doubt is not None:
            ui.warning(f"{approval.doubt}: without --yes this is refused")
        if plan.trouble is not None:
            ui.warning(f"{plan.trouble}: without --force this is refused")

    def _show(
        self,
        old: _Old,
        done: Stored,
        values: Sequence[ImmutableItem],
        revealed: list[Others],
        is_kept: bool,
        book: Book,
    ) -> None:
        if ui.is_json():
            pairs = zip(values, revealed, strict=False)
            told = [{"target": value.target.hex(), "sent": one.known, "stored": one.stored} for value, one in pairs]
            put = {"seq": done.seq, "sent": done.sent, "stored": done.stored, "read_back": done.read_back}
            has_next = committed.is_committed(done.item)
            kept = {"through": done.through, "kept_alive": is_kept, "committed": has_next}
            ui.json_result({**self._facts(old, book), **put, "values": told, **kept})
        else:
            ui.note(f"zone key: {self.secret.zone_key}")
            ui.result(f"under the next key: {done}")
            for number, one in enumerate(revealed, 1):
                ui.result(f"value {number}: stored at {one.stored} of {counted(one.known, 'node')}")

    def _end(self, old: _Old, done: Stored, revealed: list[Others], is_kept: bool) -> None:
        if not done.is_done:
            raise done.failure(str(self.secret.zone_key), "rotate")
        if not all(one.is_enough for one in revealed):
            what = "too few other nodes hold the values that reveal the next key; more than half are needed"
            hint = GOES_ON
            if is_kept:
                hint = "the daemon goes on putting them; p2pdns zones shows how far it is"
            raise Unavailable(what, place=str(old.key), hint=hint)
        if not ui.is_json():
            self._tell(old, done, is_kept)

    def _tell(self, old: _Old, done: Stored, is_kept: bool) -> None:
        ui.result(f"{old.key} has moved to {self.secret.zone_key}")
        if old.last is None:
            ui.warning("no edition with the commitment was found: only readers that have seen one before will follow")
        else:
            ui.note(NOBODY_TOLD)
        if not is_kept:
            ui.warning(NOT_KEPT_ALIVE)
        if not committed.is_committed(done.item):
            ui.note(f"this key can be stolen too: p2pdns keygen --next {self.next_file} -o FILE makes its next one")


class _RotationApproval:
    """What a rotation puts under the next key: neither does most of a zone go there, nor does an edition come that the
    old key file did not make, unless somebody has agreed.
    """

    def __init__(
        self,
        line: ui.Progress,
        place: str,
        moving: MutableItem | None,
        doubt: str | None,
        is_agreed: bool,
        is_dry: bool,
    ) -> None:
        self.plan: Plan | None = None
        self.doubt = doubt
        self._line = line
        self._place = place
        self._moving = moving
        self._is_agreed = is_agreed
        self._is_dry = is_dry

    def __call__(self, plan: Plan) -> None:
        """Take note of the plan; Unavailable where somebody has to agree."""
        self.plan = plan
        self._line.clear()
        if self._is_dry:
            raise _DryRunEnd
        if plan.current is None:
            self._check_moving()
            return
        if not ui.is_json():
            ui.note(f"under the next key: {_compared(plan)}")
        if plan.changes.is_mostly_gone and not self._is_agreed:
            gone = f"{len(plan.changes.removed)} of {counted(plan.changes.before_count, 'RRset')}"
            what = f"{gone} of the zone that the next key has would go"
            raise Unavailable(what, place=self._place, hint="--yes publishes it all the same, --dry-run puts nothing")

    def _check_moving(self) -> None:
        if self.doubt is not None and not self._is_agreed:
            hint = "name a ZONEFILE with your own records; --yes moves that edition all the same"
            raise Unavailable(self.doubt, place=self._place, hint=hint)
        if self._moving is not None and not ui.is_json():
            seq = self._moving.seq
            ui.note(f"what moves is seq {seq} of {date_of(seq)}: if a thief may have made that, name a ZONEFILE")


def _compared(plan: Plan) -> str:
    if plan.current is None:
        return f"nothing is published yet, {plan.changes}"
    return f"{plan.changes}, compared with seq {plan.current.seq} of {date_of(plan.current.seq)}"


@click.command(cls=Verb)
@click.argument("old", metavar="OLD", shell_complete=completion.a_zone_or_file)
@click.argument("zone_file", metavar="[ZONEFILE]", required=False, shell_complete=completion.a_file)
@click.option(
    "--next", "next_file", required=True, metavar="KEYFILE", help="The next key.", shell_complete=completion.a_file
)
@files.passphrase_file_option
@zone_file_options
@click.option(
    "--force", "is_forced", is_flag=True, help="Rotate although the commitment to this next key is not found."
)
@click.option(
    "--yes",
    "is_agreed",
    is_flag=True,
    help="Agree to lose most of a zone under the next key, or to move an edition of unknown origin.",
)
@click.option("--dry-run", "is_dry", is_flag=True, help="Only show what would be done.")
@settings.overlay_options
def rotate(
    old: str,
    zone_file: str | None,
    next_file: str,
    passphrase_file: str | None,
    zone_words: tuple[str, ...],
    origin: str | None,
    size_max: int,
    is_forced: bool,
    is_agreed: bool,
    is_dry: bool,
    given: Given,
) -> None:
    """Move a zone to its next key: publish it there, then reveal that key to all readers of the old one.

    OLD is the file of the old key, or its zone key, because a lost key does not matter. Without ZONEFILE the zone is
    what the overlay has under the old key; names below that key become names below the next one. It cannot be undone.
    The running daemon keeps alive what readers need in order to follow. After a failure, the same command goes on.
    """
    config = given.config()
    secret = files.read_secret_key(next_file, passphrase_file)
    rotation = _Rotation(
        old, next_file, secret, zone_file, zone_words, origin, size_max, is_forced, is_agreed, is_dry, given
    )
    with Daemon(config, given) as daemon:
        rotation.run(daemon)
