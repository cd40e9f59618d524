"""The story's requests inside a container, done by the container's own Python, to which execnet sends this file.

Each word of a request is done, and answered under the same word:

    ask      questions to the container's own resolver, four at a time        {"port": 5300, "questions": […]}
    direct   the same by a node of a moment that holds nothing, over the wire  {"bootstrap": […], "questions": […]}
    control  requests to the daemon's control socket, in order                 [{"verb": "status"}, …]
    send     datagrams to a place that should not be reached                   {"to": ["192.0.2.1", 9], "count": 3}
    marks    the newest seq seen, by zone key, as the daemon has it on disk    null
    rights   what the kernel lets this container do                            null

Guarantees: a reply in JSON to every request within minutes. Does not know what the answers should be.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from p2pdns.admin.control import ControlClient
from p2pdns.cli import dnsclient
from p2pdns.config import Config
from p2pdns.dns.message import Question, type_of
from p2pdns.dns.name import Name
from p2pdns.dns.registry import UDP_SIZE_BYTES
from p2pdns.errors import P2pdnsError

AT_ONCE = 4
NETWORK = "testbed"


def ask(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the reply to each question [name, type, transport, UDP size], or the error."""

    def one(question: list[Any]) -> dict[str, Any]:
        name, rtype, transport, size = (*question, "auto", UDP_SIZE_BYTES)[:4]
        server = ("127.0.0.1", options["port"])
        try:
            return asdict(dnsclient.ask(name, rtype, server, transport=transport, udp_size_bytes=size))
        except P2pdnsError as trouble:
            return {"error": str(trouble)}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, options["questions"]))


def direct(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the answer to each question from a node that has just joined."""
    # Half of the time that loading this file would take, and most containers are never asked for it.
    from p2pdns.cli.node import short_lived_node

    config = Config.from_json(json.dumps({"dht": {"network": NETWORK, "bootstrap": options["bootstrap"]}}))
    questions = [Question(Name.read(name), type_of(rtype)) for name, rtype in options["questions"]]

    async def all_of_them() -> list[dict[str, Any]]:
        async with short_lived_node(config) as node:
            return [asdict(await node.resolve(question)) for question in questions]

    try:
        return asyncio.run(all_of_them())
    except P2pdnsError as trouble:
        return [{"error": str(trouble)}] * len(questions)


def control(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    client = ControlClient(Path(os.environ["STATE_DIRECTORY"]))
    replies: list[dict[str, Any]] = []
    for request in requests:
        try:
            replies.append(client.call(**request))
        except P2pdnsError as trouble:
            replies.append({"error": str(trouble)})
    return replies


def send(options: dict[str, Any]) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return sum(sock.sendto(b"unwanted", tuple(options["to"])) > 0 for _ in range(options["count"]))


def marks(_: object) -> dict[str, int]:
    """Return the newest seq of each mark that the daemon has made, read from its file beside the daemon."""
    path = Path(os.environ["STATE_DIRECTORY"]) / "reader.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return {mark.hex(): seq for mark, seq in database.execute("SELECT mark, seq FROM seen")}


def rights(_: object) -> dict[str, object]:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return {
        "is root": os.getuid() == 0,
        "capabilities": int(status["CapBnd"], 16) | int(status["CapEff"], 16),
        "may gain more": status["NoNewPrivs"] == "0",
        "writes to its root": not os.statvfs("/").f_flag & os.ST_RDONLY,
    }


WORDS: dict[str, Callable[[Any], Any]] = {word.__name__: word for word in (ask, direct, control, send, marks, rights)}


if __name__ == "__channelexec__":
    requests = globals()["channel"]
    for request in requests:
        requests.send(json.dumps({word: WORDS[word](options) for word, options in request.items()}))
