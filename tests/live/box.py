"""A machine of its own for programs: namespaces for network and mounts, with loopback alone.

Needs root. Guarantees: nothing in it can reach any other machine, the files of the system that the tests write are its
own, and everything that was started in it is gone afterwards. Does not know what is asked.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.live.front_process import GUARD_S, wait_until
from tests.live.served import NETWORK, environment

# Says NXDOMAIN to everything, as a resolver that knows no keys.
DENY = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    data, sender = sock.recvfrom(4096)
    end = data.index(0, 12) + 5
    sock.sendto(data[:2] + b"\\x81\\x83" + data[4:6] + bytes(6) + data[12:end], sender)
"""


def can_unshare() -> bool:
    """Return whether this process may make such a machine."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip", "getent"))):
        return False
    return subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True, check=False).returncode == 0


@dataclass
class Box:
    """The machine: a process that holds the namespaces, a folder for its files, and the programs that run in it."""

    folder: Path
    holder: subprocess.Popen[str]
    programs: list[subprocess.Popen[str]] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> Box:
        """Make it."""
        for name in ("resolv.conf", "nsswitch.conf"):
            (folder / name).touch()
        (folder / "small").mkdir()
        (folder / "bin").mkdir()
        script = (
            "ip link set lo up"
            f" && mount --bind {folder}/resolv.conf /etc/resolv.conf"
            f" && mount --bind {folder}/nsswitch.conf /etc/nsswitch.conf"
            f" && mount -t tmpfs -o size=4m,mode=0700 none {folder}/small"
            " && echo ready && exec sleep infinity"
        )
        words = ["unshare", "-n", "-m", "--propagation", "private", "sh", "-c", script]
        holder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        box = cls(folder, holder)
        box.heal()
        return box

    def heal(self) -> None:
        """Make the files of the system as they should be, and remove the programs that a test has put there."""
        self.write("resolv.conf", "nameserver 127.0.0.1\n")
        self.write("nsswitch.conf", "hosts: files dns\n")
        for program in (self.folder / "bin").iterdir():
            program.unlink()

    def write(self, name: str, text: str) -> None:
        """Write a file of the system, in its place, because it is mounted."""
        (self.folder / name).write_text(text)

    def fake(self, name: str, output: str) -> None:
        """Put a program of the system there that prints a text, whatever it is asked."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
        path.chmod(0o755)

    def _words(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.holder.pid), "-n", "-m", "--", *words]

    @property
    def _environment(self) -> dict[str, str]:
        return environment({"PATH": f"{self.folder}/bin:{os.environ['PATH']}"})

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a Python program in it."""
        log = (self.folder / "log").open("a")
        with log:
            process = subprocess.Popen(
                self._words(sys.executable, *words),
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
                env=self._environment,
            )
        self.programs.append(process)
        return process

    def deny(self, host: str) -> subprocess.Popen[str]:
        """Start a name server that knows nothing."""
        process = self.start("-c", DENY, host)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end."""
        return self.execute(sys.executable, "-m", "p2pdns", *words)

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run any program to its end."""
        return subprocess.run(
            self._words(*words),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=3 * GUARD_S,
            env=self._environment,
            check=False,
        )

    def serve(self, state: Path, *flags: str) -> subprocess.Popen[str]:
        """Start a daemon and wait until it answers."""
        words = ("-m", "p2pdns", "serve", "--state", str(state), "--network", NETWORK, *flags)
        process = self.start(*words)
        wait_until(
            lambda: process.poll() is not None or self.run("status", "--state", str(state)).returncode == 0, "a daemon"
        )
        assert process.poll() is None, (self.folder / "log").read_text()
        return process

    def close(self) -> None:
        """End everything."""
        for process in reversed(self.programs):
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.communicate(timeout=GUARD_S)
        self.holder.terminate()
        self.holder.communicate(timeout=GUARD_S)
