"""`publish` without a key: publishes the zones of the `[[publish]]` tables, all of them or one.

Guarantees: each zone is published by the rules of `publish`, and a table with a mistake stops no other; exit 0 if and
only if every zone is held. Does not know when a server publishes them (`signer.tables` does).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from p2pdns.cli import committed, files, ui
from p2pdns.cli.daemon_or_node import Daemon
from p2pdns.cli.made import SUFFIX, KeyMemory
from p2pdns.cli.settings import Given
from p2pdns.cli.unfinished import journal_of_table
from p2pdns.cli.watching import NotAgreed
from p2pdns.cli.zones import ReadZone, keys_by_name, read_zone, show_warnings
from p2pdns.config import Config
from p2pdns.config.published import FORM, PublishTable
from p2pdns.errors import KeyFileError, P2pdnsError, UsageError, counted
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT, MutableItem
from p2pdns.items.keys import SecretKey, ZoneKey
from p2pdns.publishing.memory import Memory, Origin
from p2pdns.publishing.publication import Plan, Rules
from p2pdns.publishing.replicas import PublishStage
from p2pdns.publishing.stored import Stored

MADE_PREFIX = "made."  # In the state directory: what a server has published with a key beside which it may not write.
# The flags of `publish` that are about one zone and its key.
OF_ONE_ZONE = ("passphrase_file", "zone_words", "origin", "size_max", "takes_back", "is_watched", "hook_text")
COLUMNS = (
    ui.Column("zone"),
    ui.Column("file"),
    ui.Column("seq", "right"),
    ui.Column("stored", "right"),
    ui.Column("outcome"),
)


class TableMemory:
    """What was published with the key of a table: beside the key file, or in a server's state directory, or both.

    A server whose user may not write beside the key file notes it in its state directory. Root, who publishes by hand,
    notes it in both, so that neither refuses what the other has published.
    """

    def __init__(self, key_file: str, key: ZoneKey, state: Path) -> None:
        beside, there = Path(files.beside(key_file, SUFFIX)), state / f"{MADE_PREFIX}{key}"
        found = []
        if _may_write(beside):
            found.append(beside)
        if not found or there.exists():
            found.append(there)
        self._memories = [KeyMemory(path) for path in found]

    def origin_of(self, item: MutableItem) -> Origin:
        """Return where an item was made: one of them knows best."""
        found = [memory.origin_of(item) for memory in self._memories]
        return next((origin for origin in (Origin.HERE, Origin.MERGED) if origin in found), Origin.ELSEWHERE)

    def signed(self, item: MutableItem, *, is_merged: bool = False) -> None:
        """Note an item before it leaves; with `is_merged` it has what another publisher changed."""
        for memory in self._memories:
            memory.signed(item, is_merged=is_merged)
            _give_to_owner_of_folder(memory.path)

    def stored(self, item: MutableItem) -> None:
        """Note that an item is stored."""
        for memory in self._memories:
            memory.stored(item)
            _give_to_owner_of_folder(memory.path)


def _may_write(path: Path) -> bool:
    """Return whether this process may replace a file, and read what is in it now."""
    may_replace = os.access(path.parent, os.W_OK | os.X_OK)
    return may_replace and (not path.exists() or os.access(path, os.R_OK | os.W_OK))


def _give_to_owner_of_folder(path: Path) -> None:
    """Have the file belong to the user of its folder, where root has made it for another user's server."""
    if os.geteuid() != 0:
        return
    try:
        owner = path.parent.stat()
        if owner.st_uid != path.lstat().st_uid:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    except OSError:
        # KeyMemory has said what is wrong with the file.
        return


def rules_for(table: PublishTable, key: ZoneKey, **given: Any) -> Rules:
    """Return the rules for the zone of a table, with its commitment and the commands that a refusal names."""
    rules = Rules(
        take_back_command=f"p2pdns publish --take-back -k {table.key} {table.zone}",
        force_command=f"p2pdns publish --force -k {table.key} {table.zone}",
        keeps_merged=True,
        **given,
    )
    return committed.rules_with(rules, table.key, key, VALUE_BYTES_WRITE_DEFAULT)


def read_table_zone(
    table: PublishTable, key: ZoneKey, daemon: Daemon, text: str, settled: Mapping[str, str] | None = None
) -> ReadZone:
    """Return the zone of a table, read as `publish` reads it without flags."""
    return read_zone(
        table.zone,
        key,
        origin=None,
        size_bytes_max=VALUE_BYTES_WRITE_DEFAULT,
        keys=keys_by_name((), None, None, daemon.book),
        addresses=lambda words: daemon.addresses(words, settled),
        text=text,
        commitment=committed.read(table.key, key),
    )


def mostly_gone(plan: Plan) -> str | None:
    """Return how much of what is published would go, where it is more than half."""
    if plan.current is None or not plan.changes.is_mostly_gone:
        return None
    count = counted(plan.changes.before_count, "RRset")
    return f"{len(plan.changes.removed)} of {count} of the published zone would go"


def refuse_mostly_gone(plan: Plan, path: str, hint: str) -> None:
    """Raise NotAgreed where more than half of what is published would go, and nobody can be asked."""
    gone = mostly_gone(plan)
    if gone is not None:
        raise NotAgreed(gone, place=path, hint=hint)


def refuse_second(known: dict[str, int], key: str, index: int, table: PublishTable) -> None:
    """Raise KeyFileError where an earlier table has this key, by another path or in a copy of the file; else note it.

    The configuration compares the paths as they are written, and does not look at the disk.
    """
    if known.setdefault(key, index) != index:
        what = f"the key of table {known[key] + 1} in another file"
        raise KeyFileError(what, place=files.quoted(table.key), hint="a key has one zone")


def chosen(config: Config, zone_file: str | None) -> Sequence[PublishTable]:
    """Return the tables that are meant: all, or that of a zone file; none for a file that no table has."""
    if zone_file is None:
        if not config.publish:
            hint = f"p2pdns publish -k KEYFILE ZONEFILE, or in the configuration {FORM}"
            raise UsageError(
                "no file is named, and the configuration has no zones to publish", place="publish", hint=hint
            )
        return config.publish
    path = os.path.realpath(zone_file)
    return [table for table in config.publish if os.path.realpath(table.zone) == path]


@dataclass(frozen=True)
class How:
    """The flags of `publish` that hold for tables as well."""

    is_forced: bool = False
    is_agreed: bool = False
    is_dry: bool = False


@dataclass(frozen=True)
class _Refusal:
    """Why a publication without a dry run would be refused, and the flag that publishes all the same."""

    why: str
    flag: str

    @property
    def hint(self) -> str:
        return f"{self.flag} publishes it all the same"


class _DryRunOver(Exception):
    """A dry run is at its end."""


@dataclass
class _Row:
    """How one table ended."""

    table: PublishTable
    key: str | None = None
    petname: str | None = None
    done: Stored | None = None
    plan: Plan | None = None
    refusal: _Refusal | None = None
    trouble: P2pdnsError | None = None

    @property
    def outcome(self) -> str:
        if self.trouble is not None:
            return "WRONG: see above" if self.done is None else "held by too few"
        if self.done is None:
            assert self.plan is not None, "a dry run has shown its plan"
            text = str(self.plan.changes) if self.plan.current is not None else "nothing is published yet"
            return text if self.refusal is None else f"{text}; would be refused"
        return "ok"

    @property
    def cells(self) -> list[str]:
        done = self.done
        stored = "-" if done is None else f"{done.stored} of {done.sent}"
        seq = "-" if done is None else str(done.seq)
        return [self.petname or self.key or "-", self.table.zone, seq, stored, self.outcome]

    def to_json(self) -> dict[str, Any]:
        """Return the row with the same facts, and some more."""
        done, changes = self.done, None if self.plan is None else self.plan.changes
        error = None if self.refusal is None else self.refusal.why
        against = self.trouble or self.refusal
        return {
            "zone": self.key,
            "petname": self.petname,
            "file": self.table.zone,
            "key_file": self.table.key,
            "ok": against is None,
            "seq": None if done is None else done.seq,
            "sent": None if done is None else done.sent,
            "stored": None if done is None else done.stored,
            "read_back": None if done is None else done.read_back,
            "through": None if done is None else done.through,
            "kept_here": None if done is None else done.is_kept_here,
            "added": [] if changes is None else list(changes.added),
            "removed": [] if changes is None else list(changes.removed),
            "changed": [] if changes is None else list(changes.changed),
            "error": error if self.trouble is None else str(self.trouble),
            "hint": None if against is None else against.hint,
        }


class TablesRun:
    """One call of `publish` for tables."""

    def __init__(self, config: Config, given: Given, how: How) -> None:
        self._config = config
        self._given = given
        self._how = how
        self._known: dict[str, int] = {}  # The tables by their keys.

    def run(self, tables: Sequence[PublishTable]) -> int:
        """Publish the zones of some tables, show how each ended, and return the exit status."""
        rows = []
        with Daemon(self._config, self._given) as daemon:
            for table in tables:
                row = _Row(table)
                try:
                    self._publish(daemon, row)
                    if row.done is not None and not row.done.is_done:
                        raise row.done.failure(str(row.key))
                except P2pdnsError as trouble:
                    row.trouble = trouble
                    ui.error(trouble)
                rows.append(row)
        if ui.is_json():
            ui.json_result({"tables": [row.to_json() for row in rows]})
        else:
            ui.table(COLUMNS, [row.cells for row in rows])
            if self._how.is_dry:
                ui.note("nothing was put")
        return 1 if any(row.trouble is not None for row in rows) else 0

    def _publish(self, daemon: Daemon, row: _Row) -> None:
        table = row.table
        secret = files.read_secret_key(table.key, None)
        row.key = str(secret.zone_key)
        refuse_second(self._known, row.key, self._config.publish.index(table), table)
        row.petname = daemon.book().name_of(row.key)
        zone = read_table_zone(table, secret.zone_key, daemon, files.read_text(table.zone, is_regular=True))
        show_warnings(zone)
        memory = TableMemory(table.key, secret.zone_key, self._given.state())
        with ui.progress() as line:

            def told(stage: PublishStage) -> None:
                if ui.is_json():
                    ui.json_progress({**stage.to_json(), "file": table.zone})
                line.update(f"{table.zone}: {stage}")

            row.done = self._put(daemon, secret, zone, row, memory, told)

    def _put(
        self, daemon: Daemon, secret: SecretKey, zone: ReadZone, row: _Row, memory: Memory, told: Any
    ) -> Stored | None:
        def approve(plan: Plan) -> None:
            row.plan = plan
            if self._how.is_dry:
                row.refusal = self._refusal(plan)
                raise _DryRunOver
            if not self._how.is_agreed:
                refuse_mostly_gone(
                    plan, zone.path, "--yes publishes it all the same, --dry-run only shows what changes"
                )

        is_forced = self._how.is_forced or self._how.is_dry
        rules = rules_for(row.table, secret.zone_key, approve=approve, is_forced=is_forced)
        try:
            journal = journal_of_table(row.table.key, row.key or "", self._given.state())
            done = daemon.publish(secret, zone.value, memory, rules, told, journal)
        except _DryRunOver:
            if row.refusal is not None:
                ui.warning(f"{zone.path}: {row.refusal.why}: without {row.refusal.flag} this zone is refused")
            return None
        committed.keep(row.table.key, secret.zone_key, done)
        return done

    def _refusal(self, plan: Plan) -> _Refusal | None:
        if plan.trouble is not None and not self._how.is_forced:
            return _Refusal(plan.trouble, "--force")
        gone = None if self._how.is_agreed else mostly_gone(plan)
        return None if gone is None else _Refusal(gone, "--yes")


def publish_tables(key_file: str | None, zone_file: str | None, given: Given, how: How) -> int:
    """Publish the tables that a command line means which lacks a key or a file, and return the exit status."""
    context = click.get_current_context()
    if key_file is not None:
        raise click.MissingParameter(param_hint='"ZONEFILE"', param_type="argument", ctx=context)
    config = given.config()
    tables = chosen(config, zone_file)
    if not tables:
        raise click.MissingParameter(param_hint='"-k" / "--key"', param_type="option", ctx=context)
    for parameter in context.command.get_params(context):
        is_given = context.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
        if is_given and parameter.name in OF_ONE_ZONE:
            hint = "p2pdns publish -k KEYFILE ZONEFILE with the same flags"
            raise UsageError(f"{parameter.opts[0]} needs a key and a zone file", place="publish", hint=hint)
    return TablesRun(config, given, how).run(tables)
