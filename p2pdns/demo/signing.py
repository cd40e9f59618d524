"""One change of a published zone by DNS UPDATE, as nsupdate makes it, through a signer of its own.

Guarantees: the signer is one of the swarm's processes, and ends with them; when this returns, the change is published.
Does not know what the zone holds otherwise.
"""

from __future__ import annotations

import base64
import os
import subprocess
import time

from p2pdns.cli import dnsclient
from p2pdns.demo.swarm import HOST, LOOK_AGAIN_S, READY_S_MAX, Swarm, SwarmNode
from p2pdns.errors import Unavailable
from p2pdns.items.keys import SecretKey

TSIG_NAME = "demo"
TSIG_BYTES = 32
OWNER, TTL_S, TYPE, DATA = "guest", 60, "A", "192.0.2.127"
ANSWERS, PUBLISHED = "the signer answers", "stored at"  # Words in the signer's log.


def change_by_update(swarm: Swarm, publisher: SwarmNode, secret: SecretKey, zone_path: str, port: int) -> None:
    """Add a record to a zone that a node has published: start a signer, send it an UPDATE, wait until it is out."""
    tsig = os.urandom(TSIG_BYTES)
    key = _file(swarm, "zone.key", secret.key_file(None))
    zone = _file(swarm, "signed.zone", _content_of(zone_path))
    words = f'key "{TSIG_NAME}" {{ algorithm hmac-sha256; secret "{base64.b64encode(tsig).decode()}"; }};\n'
    keys = _file(swarm, "update.tsig", words.encode())
    server = (HOST, port)
    flags = ["-k", key, "--zone", zone, "--tsig", keys, "--listen", f"{HOST}:{port}", "--state", str(publisher.state)]
    signer = swarm.start_verb("signer", "signer", *flags)
    # The zone as it was is published first, so the next publication is that of the change.
    _wait_for(signer, ANSWERS, 1)
    _wait_for(signer, PUBLISHED, 1)
    rcode = dnsclient.update(str(secret.zone_key), (OWNER, TTL_S, TYPE, DATA), server, TSIG_NAME, tsig)
    if rcode != "NOERROR":
        raise Unavailable(f"the signer answers {rcode}", place="signer", hint=signer.last_words())
    _wait_for(signer, PUBLISHED, 2)


def _content_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _file(swarm: Swarm, name: str, content: bytes) -> str:
    path = swarm.folder / name
    path.touch(0o600)
    path.write_bytes(content)
    return str(path)


def _wait_for(signer: SwarmNode, words: str, count: int) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while signer.log.read_text(errors="replace").count(words) < count:
        if time.monotonic() > deadline:
            raise Unavailable(f'not "{words}" within {READY_S_MAX:g} s', place="signer", hint=signer.last_words())
        try:
            # The pause between two looks ends at once when the process ends.
            status = signer.process.wait(LOOK_AGAIN_S)
        except subprocess.TimeoutExpired:
            continue
        raise Unavailable(f"ended with status {status}", place="signer", hint=signer.last_words())
