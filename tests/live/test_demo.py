"""The demo: every row is right, and when it ends, however it ends, nothing is left."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from p2pdns.demo.rows import ROWS

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 120
LOOK_AGAIN_S = 0.05  # To look costs a read of every process of the machine.


def start(tmp_path: Path, *flags: str, path: str = os.environ["PATH"]) -> subprocess.Popen[str]:
    """Start a demo whose files go to a folder that can be looked at afterwards."""
    return subprocess.Popen(
        [sys.executable, "-m", "p2pdns", "demo", "--zones", str(ROOT / "zones"), *flags],
        env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1", "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_in(folder: Path) -> list[int]:
    """Return the processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) + b"/p2pdns-demo-" in command:
                found.append(int(entry.name))
    return found


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Return what the process prints up to the first line that matches."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if re.search(pattern, line):
            return read
    raise AssertionError(f"ended without {pattern!r}:\n{read}")


def wait_until_none(folder: Path) -> None:
    """Wait until no process of the demo is left."""
    deadline = time.monotonic() + SECONDS_MAX
    while processes_in(folder):
        assert time.monotonic() < deadline, processes_in(folder)
        select.select([], [], [], LOOK_AGAIN_S)


def test_once_exits_0_with_every_row_right_and_leaves_nothing(tmp_path: Path) -> None:
    with start(tmp_path, "--once") as process:
        output, _ = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, output
    assert f"every row is as expected: {len(ROWS)} look-ups" in output
    for what in ("alias to a key", "delegation", "tree moved", "below a petname", "petname"):
        assert re.search(rf"^{what} .*192\.0\.2\.14\d +NOERROR", output, re.MULTILINE), what
    assert re.search(r"^by DNS UPDATE .*192\.0\.2\.127 +NOERROR", output, re.MULTILINE)
    assert "was killed with SIGKILL" in output
    assert output.splitlines()[-1] == "p2pdns: stopped, nothing is left"
    assert re.search(r"^dig @127\.0\.0\.1 -p \d+ www\.\w+ A$", output, re.MULTILINE)
    cold = re.search(r"(\d+) of them cold", output)
    assert cold is not None
    assert int(cold[1]) >= 4
    for rcode in ("NOERROR", "NXDOMAIN", "SERVFAIL"):
        assert rcode in output
    assert re.search(r"^over 512 bytes .*TC", output, re.MULTILINE)
    assert processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_without_dig_another_client_asks_and_is_named(tmp_path: Path) -> None:
    with start(tmp_path, "--once", path=str(tmp_path)) as process:
        output, _ = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, output
    assert "dnspython (dig is not installed) asks the resolver" in output
    # What there is to try is what this machine has.
    assert re.search(r"^p2pdns resolve www\.\w+ A @127\.0\.0\.1:\d+$", output, re.MULTILINE)
    assert not re.search(r"^dig ", output, re.MULTILINE)


def test_ctrl_c_ends_it_in_order(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        read_until(process, "all of it runs until Ctrl-C")
        assert len(processes_in(tmp_path)) >= 9
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, output
    assert output.splitlines()[-1] == "p2pdns: stopped, nothing is left"
    assert "Traceback" not in output
    assert processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_an_early_end_leaves_nothing_either(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        read_until(process, "^network demo-")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        read_until(process, "^network demo-")
        assert len(processes_in(tmp_path)) >= 8
        process.kill()
    wait_until_none(tmp_path)


def test_a_missing_zone_is_said_before_anything_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "p2pdns", "demo", "--once", "--zones", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "p2pdns: hint: " in done.stderr
    assert done.stdout == ""
