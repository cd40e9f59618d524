"""`publish`: signs a zone and puts it into the overlay.

A running daemon, or one that is just starting, gets the signed item and puts it. Without a daemon, or when a flag names
another overlay, a short-lived node of this process puts it.

Guarantees: the secret key stays in this process; exit 0 if and only if more than half of the other known nodes hold the
item, and at least one; a warning is printed if no daemon will put it again; the seq is above every seq that readers of
the key accept; no item is dated more than an hour ahead of this machine's clock, unless it takes back one that is. Does
not know how an item finds its nodes, nor whether the clock is right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import click

from p2pdns.admin.control import ControlClient
from p2pdns.cli import completion, files, mixups, petnames, settings, ui
from p2pdns.cli.petnames import Book
from p2pdns.cli.settings import Given
from p2pdns.cli.starting import GRACE_S, running_daemon
from p2pdns.cli.verbs import Verb
from p2pdns.cli.zones import ReadZone, keys_by_name, read_zone, show_warnings, zone_file_options
from p2pdns.clock import unix_now
from p2pdns.config import Config
from p2pdns.dht.node.values import RATIONED, Others
from p2pdns.errors import P2pdnsError, Unavailable, counted
from p2pdns.items.item import BUILD_UNIX, SEQ_PER_SECOND, SIGN_AHEAD_S_MAX, MutableItem, Present, next_seq
from p2pdns.items.keys import SecretKey, ZoneId
from p2pdns.overlay.ports import OnProgress
from p2pdns.publishing.dates import date_of, publish_again_after
from p2pdns.publishing.upkeep import OTHERS_FEW, OTHERS_WANTED
from p2pdns.timing import Clock

OnRationed = Callable[[dict[str, Any]], None]
"""Called while other nodes ration a publication: with how many are done, of how many, and the seconds left."""

SEQ_TOO_LOW = 302  # BEP 44: the node holds an item with a higher seq.
TAKE_BACK_COMMAND = "p2pdns publish --take-back -k KEYFILE ZONEFILE"
RATIONED_NOTE_S = 10.0  # Between two lines about a publication that waits.
NOT_KEPT_ALIVE = "nobody puts this again, and nodes forget it, some after two hours: publish through p2pdns serve"


@dataclass(frozen=True)
class Stored:
    """The end of a publication: `stored` of `sent` other nodes hold it; with `is_kept_here` a daemon keeps it too."""

    seq: int
    sent: int
    stored: int
    through: str
    refused: dict[str, int] = field(default_factory=dict)
    is_kept_here: bool = False
    ahead: int | None = None

    @property
    def is_enough(self) -> bool:
        return Others(self.sent, self.stored).is_enough

    @property
    def warning(self) -> str | None:
        """The warning about a publication that is enough, but held by few other nodes."""
        if not self.is_enough or self.stored >= OTHERS_FEW:
            return None
        keeps = "node keeps" if self.stored == 1 else "nodes keep"
        return f"only {self.stored} other {keeps} this zone, {OTHERS_WANTED} are wanted"

    def __str__(self) -> str:
        if not self.sent:
            where = "kept here, at" if self.is_kept_here else "stored at"
            return f"{where} 0 other nodes, seq {self.seq}"
        return f"stored at {self.stored} of {self.sent} nodes, seq {self.seq}"


def chosen_seq(last: int | None, now: float, *, takes_back: bool = False, command: str = TAKE_BACK_COMMAND) -> int:
    """Return the seq to sign; Unavailable when it would be more than an hour ahead of the clock.

    With `takes_back` it may be further ahead, just above the last one, as long as readers do not take it for a seq from
    the future: they would refuse a lower one. The hint names `command`, which takes a publication back.
    """
    if now < BUILD_UNIX:
        what = f"the clock says {date_of(int(now) * SEQ_PER_SECOND)}, which is before this program was made"
        hint = "set the clock: what is signed now would be expired for every reader"
        raise Unavailable(what, place="clock", hint=hint)
    seq = next_seq(now, last)
    if seq > (now + SIGN_AHEAD_S_MAX) * SEQ_PER_SECOND and not (takes_back and not Present(now).is_ahead(seq)):
        what = f"the last publication under this key is dated {date_of(seq - 1)}, more than an hour ahead"
        hint = f"set the clock; if it is right now and was wrong then, {command} replaces that publication"
        raise Unavailable(f"{what}: {publish_again_after(seq - 1, now)}", place="clock", hint=hint)
    return seq


def publish_through(
    client: ControlClient,
    secret: SecretKey,
    value: bytes,
    on_progress: OnProgress = lambda sent, stored: None,
    on_rationed: OnRationed = lambda standing: None,
    *,
    takes_back: bool = False,
    command: str = TAKE_BACK_COMMAND,
) -> Stored:
    """Sign the value and give the item to the running daemon; Unavailable when none runs."""
    key = str(secret.zone_key)
    known = client.call("seq", key=key)
    ahead = known.get("ahead")
    if takes_back and known["seq"] is not None and Present(unix_now()).is_ahead(known["seq"]):
        # The daemon has a mark at this seq, and goes below a mark only after `forget`.
        ahead = known["seq"]
        client.call("forget", key=key)
        known = client.call("seq", key=key)
    seq = chosen_seq(known["seq"], unix_now(), takes_back=takes_back, command=command)
    done = hand_over(client, MutableItem.signed(secret, seq, value), on_progress, on_rationed)
    return replace(done, ahead=ahead)


def hand_over(client: ControlClient, item: MutableItem, on_progress: OnProgress, on_rationed: OnRationed) -> Stored:
    """Give a signed item to the running daemon, which puts it now and for as long as it runs."""

    def report(progress: dict[str, Any]) -> None:
        if "rationed" in progress:
            on_rationed(progress["rationed"])
        else:
            on_progress(progress.get("sent", 0), progress.get("stored", 0))

    done = client.call("publish", on_progress=report, item=item.to_bytes().hex())
    refused = {str(reason): count for reason, count in (done.get("refused") or {}).items()}
    return Stored(item.seq, done["sent"], done["stored"], "the running daemon", refused, is_kept_here=True)


async def _publish_alone(
    config: Config, secret: SecretKey, value: bytes, on_progress: OnProgress, *, takes_back: bool, command: str
) -> tuple[Stored, MutableItem]:
    from p2pdns.cli.node import short_lived_node

    async with short_lived_node(config) as node:
        known = (await node.look_up(ZoneId.of_key(secret.zone_key))).item
        last = known.seq if isinstance(known, MutableItem) else None
        # This node has no marks, so an item from the future does not count for it.
        ahead = last if last is not None and Present(unix_now()).is_ahead(last) else None
        seq = chosen_seq(None if ahead else last, unix_now(), takes_back=takes_back, command=command)
        item = MutableItem.signed(secret, seq, value)
        outcome = await node.put(item, on_progress)
        return Stored(seq, *outcome.others, "a node of its own", outcome.reasons, ahead=ahead), item


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


def _failure(done: Stored, key: str) -> P2pdnsError:
    if done.sent == 0:
        hint = "name one with --bootstrap ADDR:PORT"
        if done.is_kept_here:
            hint = "start p2pdns serve with --bootstrap ADDR:PORT, or wait: it is put as soon as there are others"
        return Unavailable("no other node is known to store the zone at", place=key, hint=hint)
    hint = "publish again; p2pdns status shows the contacts"
    if done.is_kept_here:
        hint = "the daemon goes on trying; p2pdns status shows how far it is"
    elif done.refused.get(RATIONED):
        hint = "they take few new zones at a time: publish again later, or through p2pdns serve, which waits for them"
    if done.refused.get(str(SEQ_TOO_LOW)) and done.ahead is not None:
        hint = "nodes of other programs refuse it until they have dropped the later one: publish again in some hours"
    elif done.refused.get(str(SEQ_TOO_LOW)):
        hint = "some nodes hold a newer publication of this key: publish again from where it was made"
    what = f"only {done.stored} of {done.sent} other nodes hold the zone"
    if not done.stored:
        what = "no other node holds the zone"
    return Unavailable(f"{what}; more than half are needed", place=key, hint=hint)


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
    for reason, count in done.refused.items():
        ui.warning(f"not stored at {counted(count, 'node')}: {reason}")
    _warn(done)
    ui.result(str(done))


def _warn(done: Stored) -> None:
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
@settings.overlay_options
def publish(
    key_file: str,
    zone_file: str,
    passphrase_file: str | None,
    zone_words: tuple[str, ...],
    origin: str | None,
    size_max: int,
    takes_back: bool,
    given: Given,
) -> None:
    """Sign ZONEFILE with a key and store it in the overlay.

    The running daemon puts it there and keeps it alive; it gets the signed zone, never the key. Without a daemon, or
    with --network or --bootstrap, a node of its own does it once.
    """
    mixups.refuse_swapped(key_file, zone_file)
    config = given.config()
    secret = files.read_secret_key(key_file, passphrase_file)
    keys = keys_by_name(zone_words, given.config_flag, given.state_flag)
    zone = read_zone(zone_file, secret.zone_key, origin=origin, size_bytes_max=size_max, keys=keys)
    show_warnings(zone)
    key, state = str(secret.zone_key), given.state()
    command = f"p2pdns publish --take-back -k {key_file} {zone_file}"
    how: dict[str, Any] = {"takes_back": takes_back, "command": command}
    with ui.progress() as line:
        line.update(f"looking for the nodes nearest {key}")

        def on_progress(sent: int, stored: int) -> None:
            line.update(f"stored at {stored} of {sent} nodes so far")

        # Without a bootstrap contact only a daemon can publish, so a daemon that was just started is waited for.
        grace = 0.0 if config.dht.bootstrap else GRACE_S
        client = None if given.names_an_overlay else running_daemon(state, grace_seconds=grace)
        if client is not None:
            done = publish_through(client, secret, zone.value, on_progress, _Rations(line).told, **how)
        else:
            # Loaded late: with a daemon this process needs no event loop.
            import asyncio

            done, item = asyncio.run(_publish_alone(config, secret, zone.value, on_progress, **how))
            # A daemon may have started in the meantime.
            client = None if given.names_an_overlay else running_daemon(state)
            if client is not None:
                done = hand_over(client, item, on_progress, _Rations(line).told)
    _show(done, zone, key, petnames.load(config, state), given.as_json)
    if not done.is_enough:
        raise _failure(done, key)
