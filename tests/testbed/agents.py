"""A Python in each container that waits for requests: `inside.py`, started by the first request and kept.

Loading the program anew for each question would take most of the story's time. Guarantees: one request at a time in
each container; a request ends with its reply or within its time; an agent that ended with its container is started
again once. Does not know what is requested.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("inside.py").read_text()
REQUEST_SECONDS_MAX = 120.0  # Forty questions over bad links take half a minute on a busy machine.
END_SECONDS_MAX = 5.0
READ_BYTES = 1 << 16


class AgentEnded(Exception):
    """The agent is gone, with or without its container."""


class _Agent:
    """One process of the engine's client, and at its other end the Python in the container."""

    def __init__(self, container_id: str) -> None:
        self.lock = threading.Lock()
        self._buffer = b""
        self._process = subprocess.Popen(
            ["docker", "exec", "-i", container_id, "python", "-I", "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # Ctrl-C is for us; what was started here ends with its container.
            process_group=0,
        )

    def request(self, words: dict[str, Any]) -> Any:
        """Return the reply; AgentEnded when there will be none."""
        assert self._process.stdin is not None
        line = memoryview(json.dumps(words).encode() + b"\n")
        try:
            while line:
                line = line[self._process.stdin.write(line) :]
        except OSError as trouble:
            raise AgentEnded(str(trouble)) from None
        return json.loads(self._line())

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + REQUEST_SECONDS_MAX
        while b"\n" not in self._buffer:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AgentEnded(f"no reply within {REQUEST_SECONDS_MAX:g} s")
            data = os.read(fd, READ_BYTES)
            if not data:
                raise AgentEnded("it ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def end(self) -> None:
        """End it, and wait for that."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Agents:
    """The agents of all containers."""

    def __init__(self) -> None:
        self._agents: dict[str, _Agent] = {}
        self._lock = threading.Lock()

    def request(self, container_id: str, words: dict[str, Any]) -> Any:
        """Return the reply of a container's agent; AgentEnded when two of them gave none."""
        with self._lock:
            agent = self._agents.get(container_id)
        if agent is not None:
            with contextlib.suppress(AgentEnded):
                return self._asked(agent, words)
            # The container has been restarted since, and took its agent along.
            self._drop(container_id)
        with self._lock:
            agent = self._agents[container_id] = _Agent(container_id)
        try:
            return self._asked(agent, words)
        except AgentEnded:
            self._drop(container_id)
            raise

    @staticmethod
    def _asked(agent: _Agent, words: dict[str, Any]) -> Any:
        with agent.lock:
            return agent.request(words)

    def _drop(self, container_id: str) -> None:
        with self._lock:
            agent = self._agents.pop(container_id, None)
        if agent is not None:
            agent.end()

    def end(self) -> None:
        """End all of them."""
        for container_id in list(self._agents):
            self._drop(container_id)
