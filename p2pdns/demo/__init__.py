"""`demo`: all of p2pdns on one machine, with real processes, in under a minute.

It starts eight nodes, publishes a zone for each kind of record and one of a thousand names, changes one by DNS UPDATE,
moves one to its next key, starts a ninth node that answers DNS, kills the publisher, and prints a table of look-ups by
a DNS client.
Guarantees: exit 0 with `--once` only if every row is as expected; nothing leaves this machine; no process and no file
is left behind, even after an error. Does not know how p2pdns works: it uses the commands that a user has.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click

from p2pdns.addresses import Address, read_address, write_address
from p2pdns.admin.publishing import publish_through
from p2pdns.cli import dnsclient, shipped, ui
from p2pdns.cli.ui import Column
from p2pdns.cli.verbs import Verb
from p2pdns.cli.zones import ReadZone, read_zone
from p2pdns.demo.client import DigClient, PythonClient, client_for
from p2pdns.demo.editing import add_record
from p2pdns.demo.ledger import Ledger
from p2pdns.demo.moving import move_to_next_key
from p2pdns.demo.rows import EDITED, MOVED, NOBODY, PETNAMES, ROWS, UPDATED, Row, problems, short, shown
from p2pdns.demo.signing import change_by_update
from p2pdns.demo.swarm import HOST, Swarm, SwarmNode
from p2pdns.errors import P2pdnsError, Unavailable, UsageError
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT
from p2pdns.items.keys import SEED_BYTES, SecretKey
from p2pdns.publishing.stored import Stored

NODE_COUNT = 8
DNS_PORT = 5300
COLD_ROWS_MIN = 4

COLUMNS = (
    *(Column(title) for title in ("what", "name", "type", "answer", "rcode")),
    *(Column(title, "right") for title in ("ms", "RPCs", "peers")),
)
TRIED = ("address", "mail servers", "alias", "wildcard", "below p2p.alt", "no such name", "below a petname")


@dataclass(frozen=True)
class Published:
    """A zone file, the key made for it, and the nodes that store it."""

    zone: ReadZone
    secret: SecretKey
    key: str
    stored: Stored


def _zone_paths(folder: str | None) -> dict[str, str]:
    # The table expects the records of the shipped zones.
    where = Path(folder if folder is not None else shipped.shown(shipped.ZONES))
    paths = {path.stem: str(path) for path in sorted(where.glob("*.zone"))}
    missing = {row.zone for row in ROWS} - set(paths) - {NOBODY}
    if missing:
        hint = "install p2pdns with the files that come with it, or name its zones with --zones DIR"
        raise UsageError(f"{', '.join(sorted(missing))}.zone not there", place=f'"{where}"', hint=hint)
    return paths


def free_dns_address(port: int) -> Address:
    """Return an address whose UDP and TCP ports are free: the port wished for, or any other."""
    for wished in (port, 0):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            # The daemon binds so too: a connection in TIME_WAIT does not block the port.
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tcp.bind((HOST, wished))
                udp.bind((HOST, tcp.getsockname()[1]))
            except OSError:
                continue
            return HOST, tcp.getsockname()[1]
    raise Unavailable("no port is free for UDP and TCP", place=HOST)


def _publish_all(paths: dict[str, str], publisher: SwarmNode) -> dict[str, Published]:
    published = {}
    # No key but that of the signer's zone is ever in a file. {zone:NAME} in a file is the key of NAME.zone.
    secrets_of = {name: SecretKey.generate(os.urandom(SEED_BYTES)) for name in paths}
    keys = {name: str(secret.zone_key) for name, secret in secrets_of.items()}
    with ui.progress() as line:
        for name, path in paths.items():
            line.update(f"publishing {path}")
            secret, size_bytes_max = secrets_of[name], VALUE_BYTES_WRITE_DEFAULT
            zone = read_zone(path, secret.zone_key, origin=None, size_bytes_max=size_bytes_max, keys=lambda: keys)
            stored = publish_through(publisher.control, secret, zone.value)
            if not stored.is_done:
                raise Unavailable(f"only {stored}", place=path, hint=publisher.last_words())
            published[name] = Published(zone, secret, str(secret.zone_key), stored)
    return published


def _show_nodes(swarm: Swarm, statuses: list[dict[str, Any]]) -> None:
    ui.result(f"network {swarm.network}, on {HOST} only, state in {swarm.folder}")
    ui.result()
    rows = [
        [node.name, str(node.pid), str(facts["dht_address"]), str(facts["contacts"])]
        for node, facts in zip(swarm.nodes, statuses, strict=True)
    ]
    ui.table([Column("node"), Column("pid", "right"), Column("DHT"), Column("contacts", "right")], rows)
    ui.result()


def _show_keys(published: dict[str, Published], nobody: str) -> None:
    rows = [
        [entry.zone.path, entry.key, entry.zone.size_text, f"{entry.stored.stored} of {entry.stored.sent} nodes"]
        for entry in published.values()
    ]
    rows.append(["(nothing)", nobody, "-", "never published"])
    ui.table([Column("zone"), Column("zone key"), Column("size"), Column("stored at")], rows)
    ui.result()


def _start_resolver(swarm: Swarm, wished: int) -> tuple[SwarmNode, Address]:
    address = free_dns_address(wished)
    if address[1] != wished:
        ui.note(f"port {wished} is taken, so DNS is on {write_address(address)}")
    known = [str(node.status()["dht_address"]) for node in swarm.nodes[1:4]]
    node = swarm.start("resolver", "--dns", write_address(address), bootstrap=known)
    facts = swarm.wait_until_ready(node, contact_count_min=NODE_COUNT - 1)
    server = read_address(facts["dns_addresses"][0])
    # This waits for the front, so that the time of the first row does not contain its start.
    with suppress(Unavailable):
        dnsclient.ask("localhost.", "A", server, transport="udp", udp_size_bytes=512)
    return node, server


def _add_petnames(resolver: SwarmNode, keys: dict[str, str]) -> None:
    for name, zone in PETNAMES.items():
        resolver.control.call("name-add", name=name, key=keys[zone])
    words = [f"{name} for {short(keys[zone], keys)} ({zone}.zone)" for name, zone in PETNAMES.items()]
    ui.result(f"petnames of the resolver: {', '.join(words)}")


def _ask(
    row: Row, client: DigClient | PythonClient, ledger: Ledger, keys: dict[str, str]
) -> tuple[list[str], list[str], bool]:
    """Return the row's cells, its faults, and whether it was cold."""
    name = row.name(keys[row.zone])
    ledger.begin(*(keys[zone] for zone in (row.zone, row.through) if zone))
    try:
        reply = client.ask(name, row.type, transport=row.transport, udp_size_bytes=row.udp_size_bytes)
    except Unavailable as trouble:
        cells = [row.what, short(name, keys), row.type, trouble.what, "-", "-", "-", "-"]
        return cells, [str(trouble)], False
    spent = ledger.spent()
    cost = ["cache", "cache"] if spent is None else [str(spent.rpcs), str(spent.peers)]
    cells = [row.what, short(name, keys), row.type, shown(reply, keys), reply.rcode, f"{reply.ms:.1f}", *cost]
    return cells, list(problems(row, keys, reply)), spent is not None


def _look_up_all(keys: dict[str, str], client: DigClient | PythonClient, resolver: SwarmNode) -> bool:
    """Ask for every row, print the table, and return whether every row is as expected."""
    ledger = Ledger(resolver.control)
    table, wrong, cold_count = [], [], 0
    with ui.progress() as line:
        for row in ROWS:
            line.update(f"looking up {short(row.name(keys[row.zone]), keys)} {row.type}")
            cells, faults, is_cold = _ask(row, client, ledger, keys)
            table.append(cells)
            cold_count += is_cold
            wrong += [f"{row.what}: {short(fault, keys)}" for fault in faults]
    ui.table(COLUMNS, table)
    ui.result()
    if cold_count < COLD_ROWS_MIN:
        wrong.append(f"{cold_count} rows were cold, at least {COLD_ROWS_MIN} must be")
    for fault in wrong:
        ui.error(P2pdnsError(fault, place="demo"))
    verdict = "every row is as expected" if not wrong else "not every row is as expected"
    ui.result(f"{verdict}: {len(table)} look-ups, {cold_count} of them cold, the others from the cache")
    return not wrong


def _show_what_to_try(keys: dict[str, str], address: Address, *, has_dig: bool) -> None:
    ui.result()
    for row in ROWS:
        if row.what in TRIED:
            name = row.name(keys[row.zone]).rstrip(".")
            command = f"dig @{address[0]} -p {address[1]} {name} {row.type}"
            ui.result(command if has_dig else f"p2pdns resolve {name} {row.type} @{write_address(address)}")
    ui.result()


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Turn the signals that end a program into one KeyboardInterrupt, so that the nodes are ended too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _story(swarm: Swarm, paths: dict[str, str], port: int, began: float) -> tuple[bool, SwarmNode]:
    with ui.progress() as line:
        line.update(f"starting {NODE_COUNT} nodes")
        statuses = swarm.grow(NODE_COUNT)
    _show_nodes(swarm, statuses)
    publisher = swarm.nodes[0]
    published = _publish_all(paths, publisher)
    nobody = str(SecretKey.generate(os.urandom(SEED_BYTES)).zone_key)
    _show_keys(published, nobody)
    changed = published[UPDATED]
    with ui.progress() as line:
        line.update("changing a zone by DNS UPDATE")
        change_by_update(swarm, publisher, changed.secret, changed.zone.path, free_dns_address(0)[1])
    ui.result(f"a signer took a DNS UPDATE of {changed.zone.path}, signed by TSIG, and published it")
    edited = published[EDITED]
    with ui.progress() as line:
        line.update("adding a record to a zone of a thousand names")
        add_record(swarm, publisher, edited.secret, edited.zone.path)
    ui.result(f"{edited.zone.path} was published again with a record more")
    moved = published[MOVED]
    with ui.progress() as line:
        line.update("moving a zone to its next key")
        assert moved.stored.item is not None, "what is stored has an item"
        move_to_next_key(publisher, moved.secret, moved.stored.item)
    ui.result(f"{moved.zone.path} has moved to its next key; its readers know the old one alone")
    resolver, address = _start_resolver(swarm, port)
    swarm.kill(publisher)
    ui.result(f"node {publisher.name} (pid {publisher.pid}), which published all of them, was killed with SIGKILL")
    keys = {name: entry.key for name, entry in published.items()} | {NOBODY: nobody}
    _add_petnames(resolver, keys)
    client = client_for(address)
    asked = f"the resolver (pids {', '.join(map(str, resolver.pids))}) on {write_address(address)}"
    ui.result(f"{client.name} asks {asked}, which has seen none of them:")
    ui.result()
    is_right = _look_up_all(keys, client, resolver)
    ui.note(f"{time.monotonic() - began:.1f} s since the start")
    _show_what_to_try(keys, address, has_dig=isinstance(client, DigClient))
    return is_right, resolver


def _wait_for_ctrl_c(resolver: SwarmNode) -> None:
    try:
        # Inside the block: the user may press Ctrl-C as soon as the line is there.
        ui.note("all of it runs until Ctrl-C")
        status = resolver.process.wait()
    except KeyboardInterrupt:
        return
    raise Unavailable(f"ended with status {status}", place="resolver", hint=resolver.last_words())


@click.command(cls=Verb)
@click.option("--once", is_flag=True, help="End after the table; exit 0 only if every row is as expected.")
@click.option("--port", default=DNS_PORT, show_default=True, type=click.IntRange(1, 65535), help="Answer DNS there.")
@click.option("--zones", metavar="DIR", help="Where the zone files are.")
def demo(once: bool, port: int, zones: str | None) -> int:
    """Start eight nodes on this machine, publish zones, kill the publisher, and look the names up.

    It runs until Ctrl-C, and then leaves nothing behind.
    """
    began = time.monotonic()
    ui.show_at_once()
    paths = _zone_paths(zones)
    network = f"demo-{secrets.token_hex(4)}"
    folder = tempfile.TemporaryDirectory(prefix="p2pdns-demo-")
    with _orderly_end(), folder as path, Swarm(Path(path), network) as swarm:
        is_right, resolver = _story(swarm, paths, port, began)
        if not once:
            _wait_for_ctrl_c(resolver)
    # At the end of the block every process has ended, and the folder is gone.
    ui.note("stopped, nothing is left")
    return 0 if is_right else 1
