"""What holds for every test: nothing here may send to an address outside the loopback range."""

from __future__ import annotations

import ipaddress
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

# The longest honest test takes half a minute on two busy cores; a hang must end as a failure that names its test.
TEST_S_MAX = 240

# A busy machine is no fault of the code: no example has a deadline, nor is refused because its data took long to draw.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("patient")

# What takes the machine for minutes, or needs programs of others: pyproject.toml says more of each marker. A browser is
# too big for `make test`, so its smoke has a marker; the other smoke tests of tests/outside have none.
UNLESS_ASKED = ("full", "outside", "sim", "smoke", "testbed")

LOG_AT_START = structlog.get_config()
REAL_SOCKET = socket.socket


def _is_allowed(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


class LoopbackSocket(REAL_SOCKET):
    """A socket that refuses every destination outside 127.0.0.0/8 and ::1."""

    def connect(self, address: Any) -> None:
        """Connect, on loopback only."""
        assert _is_allowed(address), f"a test tried to connect to {address}"
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        """Connect, on loopback only."""
        assert _is_allowed(address), f"a test tried to connect to {address}"
        return super().connect_ex(address)

    def sendto(self, data: Any, *args: Any) -> int:
        """Send, on loopback only."""
        assert _is_allowed(args[-1]), f"a test tried to send to {args[-1]}"
        return super().sendto(data, *args)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        """Send, on loopback only; without an address where `connect` was allowed to go."""
        if address is None:
            return super().sendmsg(buffers, ancdata, flags)
        assert _is_allowed(address), f"a test tried to send to {address}"
        return super().sendmsg(buffers, ancdata, flags, address)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests out of a run that does not ask for them by their marker."""
    unasked = [marker for marker in UNLESS_ASKED if marker not in config.option.markexpr]
    if left_out := [item for item in items if any(item.get_closest_marker(marker) for marker in unasked)]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Replace the socket class for the whole run."""
    socket.socket = LoopbackSocket  # type: ignore[misc]
    yield
    socket.socket = REAL_SOCKET  # type: ignore[misc]


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Undo ignored signals, because the commands under test would inherit that.

    A job in the background has SIGINT ignored, and one that is to outlive its terminal SIGHUP.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Undo what a test that runs a process's main function did to the log of the next one."""
    yield
    # Not what it was before this test: a fixture of a whole module may have run such a function before that.
    structlog.configure(**LOG_AT_START)


@pytest.fixture(autouse=True)
def no_daemon_outlives_its_test() -> Iterator[None]:
    """Kill the daemons that a failed test has left; those of a whole module were started before this."""
    served = sys.modules.get("tests.live.served")
    before = len(served.RUNNING) if served is not None else 0
    yield
    if served is not None:
        served.end_since(before)


def _rights() -> str:
    """Return what this process may do beyond an ordinary user, where the system tells (capabilities(7))."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return " ".join(line for line in lines if line.startswith(("Uid", "CapEff", "NoNewPrivs")))


@pytest.fixture(autouse=True)
def rights_as_they_were() -> Iterator[None]:
    """Fail a test that gives up rights of this process: there is no way back, and those after it would fail for it."""
    before = _rights()
    yield
    assert _rights() == before


def _overdue(_number: int, _frame: object) -> None:
    raise TimeoutError(f"a test took more than {TEST_S_MAX} s")


@pytest.fixture(autouse=True)
def no_test_hangs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Turn a hang into a failure."""
    # A simulated world waits for nothing: beside other work it takes more seconds, and no more of the processor's.
    computes = request.node.get_closest_marker("sim") is not None
    timer, number = (signal.ITIMER_PROF, signal.SIGPROF) if computes else (signal.ITIMER_REAL, signal.SIGALRM)
    before = signal.signal(number, _overdue)
    signal.setitimer(timer, TEST_S_MAX)
    yield
    signal.setitimer(timer, 0)
    signal.signal(number, before)
