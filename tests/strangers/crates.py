"""The program of the Rust crates, told what to do line by line."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"


class RefusedError(Exception):
    """What the program could not do, in the words of the crate."""


@dataclass(frozen=True)
class Held:
    """An item as a node of the crates gives it."""

    seq: int
    value: bytes
    signature: bytes

    @classmethod
    def read(cls, text: str) -> Held:
        """Return the item in `SEQ VALUE SIGNATURE`."""
        seq, value, signature = text.split(" ")
        return cls(int(seq), bytes.fromhex(value), bytes.fromhex(signature))


def free_port() -> int:
    """Return a UDP port that nobody uses now, on any address: mainline 5 binds to all of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        port: int = sock.getsockname()[1]
        return port


class Crates:
    """One process of the program with all nodes and clients in it. A context manager: at its end they are gone."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __enter__(self) -> Self:
        """Return the process, without nodes yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process: it reads the end of its orders."""
        self._process.kill()
        self._process.wait()

    def tell(self, *words: object) -> str:
        """Give an order and return what it brought; `RefusedError` with the crate's words."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(" ".join(map(str, words)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RefusedError("the program ended") from None
        verdict, _, rest = self._process.stdout.readline().strip().partition(" ")
        if verdict != "ok":
            raise RefusedError(rest or "the program ended")
        return rest

    def node(self, name: str, version: int, mode: str, bootstrap: list[str]) -> str:
        """Start a node, wait until it knows its neighbours, and return its address."""
        port = free_port()
        self.tell("node", name, version, mode, port, ",".join(bootstrap) or "-")
        if bootstrap:
            self.tell("bootstrapped", name)
        return f"{HOST}:{port}"

    def put(
        self, name: str, secret: bytes, seq: int, value: bytes, *, cas: int | None = None, salt: bytes = b""
    ) -> None:
        """Sign a value and have a node of the crates put it."""
        self.tell("put", name, secret.hex(), seq, "-" if cas is None else cas, salt.hex() or "-", value.hex() or "-")

    def get(self, name: str, key: bytes, salt: bytes = b"") -> Held | None:
        """Return the best item that a node of the crates finds."""
        found = self.tell("get", name, key.hex(), salt.hex() or "-")
        return None if found == "-" else Held.read(found)
