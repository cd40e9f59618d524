"""`p2pdns signer` as a process, with nsupdate as its client."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.live.front_process import GUARD_S, wait_until
from tests.live.served import KEY, SECRET, environment

TSIG_SECRET = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMgbG9uZw=="
TSIG_FILE = f'key "update" {{\n\talgorithm hmac-sha256;\n\tsecret "{TSIG_SECRET}";\n}};\n'


class SignerProcess:
    """A signer of the tests' zone; its log is a file in the folder.

    Signers of one overlay share the key file: what they have published is noted beside it.
    """

    def __init__(self, folder: Path, *flags: str | Path, key_file: Path | None = None) -> None:
        self.folder = folder
        self.zone_file = folder / "signed.zone"
        self.tsig_file = folder / "update.tsig"
        self.log = folder / "signer.log"
        self.key_file = key_file or folder / "zone.key"
        for path, text in ((self.key_file, SECRET.write(None)), (self.tsig_file, TSIG_FILE.encode())):
            path.touch(0o600)
            path.write_bytes(text)
        self._words = ["-k", self.key_file, "--zone", self.zone_file, "--tsig", self.tsig_file, *flags]
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        told = self.said().count("the signer answers")
        with self.log.open("ab") as lines:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "p2pdns", "signer", "--listen", "127.0.0.1:0", *map(str, self._words)],
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=lines,
                env=environment({}),
            )
        wait_until(
            lambda: self.said().count("the signer answers") > told or self.process.poll() is not None, "a signer"
        )
        assert self.process.poll() is None, self.said()
        self.port = int(re.findall(r"address=127\.0\.0\.1:(\d+)", self.said())[-1])

    def said(self) -> str:
        """Return its log so far."""
        return self.log.read_text() if self.log.exists() else ""

    def waits_for(self, words: str, count: int = 1) -> None:
        """Wait until its log has so many lines with these words."""
        wait_until(lambda: self.said().count(words) >= count, f"{count} × {words}")

    def nsupdate(self, *lines: str, zone: str = KEY, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Have nsupdate send these lines."""
        text = "\n".join([f"server 127.0.0.1 {self.port}", f"zone {zone}", *lines, "send", ""])
        words = ["nsupdate", *(flags or ("-k", str(self.tsig_file)))]
        return subprocess.run(words, input=text, capture_output=True, text=True, timeout=GUARD_S, check=False)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it and return its status; its log has no traceback."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(GUARD_S)
        finally:
            self.process.kill()
            self.process.wait()
        assert "Traceback" not in self.said(), self.said()
        return code
