"""`publish`: signs a zone and puts it into the overlay.

The secret key stays in this process: a running daemon gets the signed item, and where none runs (or another overlay
is named) a short-lived node of our own puts it. Guarantees: exit 0 if and only if at least half of the nodes asked
hold the item, and at least one; the seq is above every one that counts for readers of the key; nothing is signed that
lies more than an hour ahead of this machine's clock, unless it takes back a publication that does. Does not know how
an item finds its nodes, nor whether the clock is right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from p2pdns.cli import files, petnames, settings, ui
from p2pdns.cli.petnames import Book
from p2pdns.cli.zones import ReadZone, keys_by_name, origin_option, read_zone, size_option, zone_option
from p2pdns.clock import unix_now
from p2pdns.config import Config
from p2pdns.engine.control import ControlClient
from p2pdns.engine.dates import date_of, publish_again_after
from p2pdns.errors import P2pdnsError, Unavailable
from p2pdns.items.item import BUILD_UNIX, SEQ_PER_SECOND, SIGN_AHEAD_SECONDS_MAX, MutableItem, Present, next_seq
from p2pdns.items.keys import SecretKey

OnProgress = Callable[[int, int], None]
"""Called with the number of nodes a put was sent to, and how many of them have stored it."""

SEQ_TOO_LOW = 302  # BEP 44: the node holds an item with a higher seq.
TAKE_BACK_COMMAND = "p2pdns publish --take-back -k KEYFILE ZONEFILE"


@dataclass(frozen=True)
class Stored:
    """How a publication ended."""

    seq: int
    sent: int
    stored: int
    through: str
    refused: dict[str, int] = field(default_factory=dict)
    ahead: int | None = None

    @property
    def is_enough(self) -> bool:
        """Return whether at least half of the nodes hold it, and at least one."""
        return self.sent >= 1 and self.stored >= -(-self.sent // 2)

    def __str__(self) -> str:
        """Return the sentence that `publish` ends with."""
        return f"stored at {self.stored} of {self.sent} nodes, seq {self.seq}"


def _at(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix))


def chosen_seq(last: int | None, now: float, *, takes_back: bool = False, command: str = TAKE_BACK_COMMAND) -> int:
    """Return the seq to sign; Unavailable when that would lie more than an hour ahead of the clock.

    With `takes_back` it may lie just above the last one, as long as readers and nodes do not take that for a seq from
    the future: a lower one they would refuse until its time has come. `command` is what takes a publication back.
    """
    if now < BUILD_UNIX:
        raise Unavailable(
            f"the clock says {_at(now)}, which is before this program was made",
            place="clock",
            hint="set the clock: what is signed now would be expired for every reader",
        )
    seq = next_seq(now, last)
    if seq > (now + SIGN_AHEAD_SECONDS_MAX) * SEQ_PER_SECOND and not (takes_back and not Present(now).is_ahead(seq)):
        raise Unavailable(
            f"the last publication under this key is dated {date_of(seq - 1)}, more than an hour ahead: "
            + publish_again_after(seq - 1, now),
            place="clock",
            hint=f"set the clock; if it is right now and was wrong then, {command} replaces that publication",
        )
    return seq


def publish_through(
    client: ControlClient,
    secret: SecretKey,
    value: bytes,
    on_progress: OnProgress = lambda sent, stored: None,
    *,
    takes_back: bool = False,
    command: str = TAKE_BACK_COMMAND,
) -> Stored:
    """Sign the value and give the item to the running daemon; Unavailable when none runs."""
    key = str(secret.zone_key)
    known = client.call("seq", key=key)
    ahead = known.get("ahead")
    if takes_back and known["seq"] is not None and Present(unix_now()).is_ahead(known["seq"]):
        # The daemon has adopted it, and never goes below a mark that it was not told to forget.
        ahead = known["seq"]
        client.call("forget", key=key)
        known = client.call("seq", key=key)
    seq = chosen_seq(known["seq"], unix_now(), takes_back=takes_back, command=command)
    item = MutableItem.signed(secret, seq, value)

    def report(progress: dict[str, Any]) -> None:
        on_progress(progress.get("sent", 0), progress.get("stored", 0))

    done = client.call("publish", on_progress=report, item=item.to_bytes().hex())
    refused = {str(reason): count for reason, count in (done.get("refused") or {}).items()}
    return Stored(item.seq, done["sent"], done["stored"], "the running daemon", refused, ahead)


async def _publish_alone(
    config: Config, secret: SecretKey, value: bytes, on_progress: OnProgress, *, takes_back: bool, command: str
) -> Stored:
    from p2pdns.cli.node import short_lived_node

    async with short_lived_node(config) as node:
        known = (await node.look_up(secret.zone_key)).item
        last = known.seq if isinstance(known, MutableItem) else None
        # This node has adopted nothing, so an item from the future hides nothing from it.
        ahead = last if last is not None and Present(unix_now()).is_ahead(last) else None
        counting = None if ahead is not None else last
        seq = chosen_seq(counting, unix_now(), takes_back=takes_back, command=command)
        outcome = await node.put(MutableItem.signed(secret, seq, value), on_progress)
        refused = {str(reason): count for reason, count in outcome.refused.items()}
        return Stored(seq, outcome.sent_count, outcome.stored_count, "a node of its own", refused, ahead)


def _publish(
    config: Config,
    state: Path,
    is_alone: bool,
    secret: SecretKey,
    value: bytes,
    on_progress: OnProgress,
    *,
    takes_back: bool,
    command: str,
) -> Stored:
    client = ControlClient(state)
    if not is_alone and client.is_running():
        return publish_through(client, secret, value, on_progress, takes_back=takes_back, command=command)
    return asyncio.run(_publish_alone(config, secret, value, on_progress, takes_back=takes_back, command=command))


def _failure(done: Stored, key: str) -> P2pdnsError:
    if done.sent == 0:
        return Unavailable(
            "no node to store the zone at",
            place=key,
            hint="name one with --bootstrap ADDR:PORT, or wait until the daemon has contacts (p2pdns status)",
        )
    hint = "publish again; p2pdns status shows the contacts"
    if done.refused.get(str(SEQ_TOO_LOW)) and done.ahead is not None:
        hint = "nodes of other programs refuse it until they have dropped the later one: publish again in some hours"
    elif done.refused.get(str(SEQ_TOO_LOW)):
        hint = "some nodes hold a newer publication of this key: publish again from where it was made"
    return Unavailable("fewer than half of the nodes hold the zone", place=key, hint=hint)


def _show(done: Stored, zone: ReadZone, key: str, book: Book, as_json: bool) -> None:
    if as_json:
        ui.json_result(
            {
                "zone": key,
                "petname": book.name_of(key),
                "file": zone.path,
                "zones": dict(zone.zones),
                "size_bytes": len(zone.value),
                "size_bytes_max": zone.size_bytes_max,
                "seq": done.seq,
                "sent": done.sent,
                "stored": done.stored,
                "refused": done.refused,
                "through": done.through,
                "ahead": done.ahead,
            }
        )
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
        ui.warning(f"not stored at {count} of {done.sent} nodes: {reason}")
    ui.result(str(done))


@click.command()
@click.option("-k", "--key", "key_file", required=True, metavar="KEYFILE", help="The key that signs the zone.")
@click.argument("zone_file", metavar="ZONEFILE")
@files.passphrase_file_option
@zone_option
@origin_option
@size_option
@click.option(
    "--take-back", "takes_back", is_flag=True, help="Replace a publication that a wrong clock has dated ahead."
)
@settings.config_option
@settings.state_option
@settings.overlay_options
@settings.json_option
def publish(
    key_file: str,
    zone_file: str,
    passphrase_file: str | None,
    zone_words: tuple[str, ...],
    origin: str | None,
    size_max: int,
    takes_back: bool,
    config_flag: str | None,
    state_flag: str | None,
    network: str | None,
    bootstrap: tuple[str, ...],
    as_json: bool,
) -> int:
    """Sign ZONEFILE with a key and store it in the overlay.

    The running daemon puts it there and keeps it alive; it gets the signed zone, never the key. Without a daemon, or
    with --network or --bootstrap, a node of its own does it once.
    """
    config = settings.with_flags(settings.load(config_flag), network=network, bootstrap=bootstrap)
    secret = files.read_secret_key(key_file, passphrase_file)
    keys = keys_by_name(zone_words, config_flag, state_flag)
    zone = read_zone(zone_file, secret.zone_key, origin=origin, size_bytes_max=size_max, keys=keys)
    is_alone = network is not None or bool(bootstrap)
    key = str(secret.zone_key)
    state = settings.state_dir(state_flag)
    with ui.progress() as line:
        line.update(f"looking for the nodes nearest {key}")
        done = _publish(
            config,
            state,
            is_alone,
            secret,
            zone.value,
            lambda sent, stored: line.update(f"stored at {stored} of {sent} nodes so far"),
            takes_back=takes_back,
            command=f"p2pdns publish --take-back -k {key_file} {zone_file}",
        )
    _show(done, zone, key, petnames.load(config, state), as_json)
    if not done.is_enough:
        raise _failure(done, key)
    return 0
