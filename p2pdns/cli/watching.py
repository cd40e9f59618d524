"""`publish --watch`: stays after the first publication, and publishes again what is saved and when the address changes.

Guarantees: a file with mistakes keeps the zone that is published; most of a zone goes only with `--yes`, as there is
nobody to ask; nothing but a signal ends the watch, and then it has done what was asked. Does not know how a zone is
published (`cli.publish` does), nor when it is time (`publishing.watching` does).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from p2pdns.cli import files, ui
from p2pdns.dns.zonefile.placeholders import public_placeholders
from p2pdns.errors import P2pdnsError, Unavailable, UsageError, ZoneFileError, words_of
from p2pdns.publishing.watching import ASK_S, RETRY_S_MAX, ZoneWatch
from p2pdns.timing import Clock

if TYPE_CHECKING:
    from p2pdns.cli.hook import Hook

WAKE_S = 1.0  # How late a publication may begin that is due.
LOOK_S = 60.0  # Some file systems, those of a network among them, tell of no change: so the file is read at times.
STEP_MS, BURST_MS = 100, 400  # How often the folder is looked at, and how long events are collected.


class NotAgreed(Unavailable):
    """Most of a zone would go, and the user has not agreed to that."""


@dataclass(frozen=True)
class Edition:
    """A publication that took: its key and seq, its text, and the public addresses in it."""

    key: str
    seq: int
    text: str
    public: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a hook's environment; an address that the zone does not have is empty."""
        addresses = {f"P2PDNS_{word.upper()}": self.public.get(word, "") for word in ("public_ipv4", "public_ipv6")}
        return {"P2PDNS_ZONE": self.key, "P2PDNS_SEQ": str(self.seq), **addresses}


class Again(Protocol):
    """The publishing that is watched over."""

    def publish(self, text: str, addresses: Mapping[str, str]) -> Edition:
        """Publish a text, with these public addresses in it, and show how that went; a P2pdnsError if it did not."""

    def addresses(self) -> Mapping[str, str | None]:
        """Return the public addresses that the daemon knows; Unavailable where it is away."""


class Watching:
    """A zone file, the last publication of it, and the command that runs after each.

    `beside` returns what is another object after each change of the commitment beside the key.
    """

    def __init__(
        self,
        path: str,
        again: Again,
        first: Edition,
        hook: Hook | None = None,
        *,
        beside: Callable[[], Hashable] = lambda: None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._path = path
        self._again = again
        self._edition = first
        self._hook = hook
        self._clock = clock
        self._beside = beside
        self._watch = ZoneWatch((first.text, beside()), first.public, clock())
        self._look_at = clock()
        self._said = ""

    def run(self, wakes: Iterator[bool]) -> None:
        """ZoneWatch for as long as something wakes us: True tells that something has happened in the folder."""
        self._call_hook()
        for has_changed in wakes:
            self.wake(has_changed)

    def wake(self, has_changed: bool) -> None:
        """Do what is due."""
        now = self._clock()
        if has_changed or now >= self._look_at:
            self._look_at = now + LOOK_S
            self._watch.saw((self._text(), self._beside()), now)
        if self._watch.asks(now):
            self._ask(now)
        if self._watch.due_at is not None and now >= self._watch.due_at:
            self._publish()

    def _text(self) -> str | None:
        try:
            return files.read_text(self._path)
        except P2pdnsError:
            # An editor may be about to put the new file there. If it stays away, the publication says why.
            return None

    def _ask(self, now: float) -> None:
        try:
            found = self._again.addresses()
        except P2pdnsError as trouble:
            self._show(trouble, f"asked again every {ASK_S:.0f} s", {"event": "failed"})
            found = {}
        self._watch.reported(found, now)

    def _publish(self) -> None:
        watch = self._watch
        watch.begins()
        try:
            text = files.read_text(self._path)
        except P2pdnsError as trouble:
            self._keep(trouble)
            return
        try:
            self._took(self._again.publish(text, watch.addresses))
        except (ZoneFileError, NotAgreed, UsageError) as trouble:
            if set(public_placeholders(text)) - set(watch.addresses):
                # The address of a placeholder that is new in the file may become known without another save.
                self._fail(trouble)
            else:
                self._keep(trouble)
        except P2pdnsError as trouble:
            self._fail(trouble)

    def _keep(self, trouble: P2pdnsError) -> None:
        """Let the zone stand as it is published until the next save, but for its addresses."""
        self._show(trouble, f"seq {self._edition.seq} stays", {"event": "kept"})
        if self._watch.addresses != self._edition.public:
            self._move()

    def _move(self) -> None:
        """Publish the last text that was good at the new address: a mistake must not hide that this machine moved."""
        try:
            self._took(self._again.publish(self._edition.text, self._watch.addresses))
        except P2pdnsError as trouble:
            self._fail(trouble)

    def _took(self, edition: Edition) -> None:
        before, self._edition = self._edition, edition
        self._said = ""
        if edition.seq == before.seq:
            # A comment has changed, or a mistake is undone.
            ui.note(f"{self._path}: nothing changes for readers, seq {edition.seq} stays")
            self._watch.addresses = dict(edition.public)
            return
        self._watch.published(edition.public, self._clock())
        self._call_hook()

    def _fail(self, trouble: P2pdnsError) -> None:
        self._watch.failed(self._clock())
        self._show(trouble, f"tried again, at least every {RETRY_S_MAX:.0f} s", {"event": "failed"})

    def _show(self, trouble: P2pdnsError, then: str, facts: Mapping[str, Any]) -> None:
        # A daemon that is away for a night is told once.
        text = "\n".join(map(str, trouble.mistakes))
        if text == self._said:
            return
        self._said = text
        if ui.is_json():
            ui.json_result({**facts, "seq": self._edition.seq, **ui.failure_facts([trouble])})
        ui.passing_trouble(trouble)
        ui.note(f"{self._path}: {then}")

    def _call_hook(self) -> None:
        if self._hook is None:
            return
        trouble = self._hook.run(self._edition.environment)
        if ui.is_json():
            ui.json_result({"event": "hook", "seq": self._edition.seq, "trouble": trouble})
        if trouble is not None:
            ui.warning(trouble)


def watch(watching: Watching, path: str) -> None:
    """ZoneWatch until a signal comes."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Both are an exception wherever the program is: a publication is not waited for, the daemon goes on with it.
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        ui.note(f"{path}: watched from now on; Ctrl-C ends that")
        watching.run(wakes_of(path))
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wakes_of(path: str) -> Iterator[bool]:
    """Yield True when something has happened to a file, and False every second; Unavailable where that cannot be."""
    # Loaded late: no other command watches anything.
    from watchfiles import watch as changes_in

    # Editors put another file in its place, so the folder is watched. Behind a symbolic link there is another folder.
    places = {os.path.abspath(path), os.path.realpath(path)}
    try:
        for changes in changes_in(
            *sorted({os.path.dirname(place) for place in places}),
            watch_filter=_one_of(places),
            debounce=BURST_MS,
            step=STEP_MS,
            rust_timeout=round(1_000 * WAKE_S),
            yield_on_timeout=True,
            recursive=False,
        ):
            yield bool(changes)
    except (OSError, RuntimeError) as trouble:
        hint = "raise fs.inotify.max_user_watches and max_user_instances (sysctl), if that is what it says"
        raise Unavailable(f"cannot be watched: {words_of(trouble)}", place=str(Path(path).parent), hint=hint) from None


def _one_of(places: set[str]) -> Callable[[Any, str], bool]:
    names = {os.path.basename(place) for place in places}
    return lambda _change, changed: os.path.basename(changed) in names


def refuse_misfits(path: str, hook: str | None, *, is_watched: bool, is_dry: bool) -> None:
    """Raise a UsageError for flags that do not go together."""
    if hook is not None and not is_watched:
        raise UsageError("--hook goes with --watch alone", place="publish", hint="add --watch, or leave --hook out")
    if is_watched and is_dry:
        raise UsageError("--watch and --dry-run exclude each other", place="publish", hint="leave one of them out")
    if is_watched and path == files.STANDARD_INPUT:
        raise UsageError("standard input cannot be watched", place="publish --watch", hint="name a file")
