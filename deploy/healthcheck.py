"""The health of the daemon in this container, asked at its control socket: exit 0 or 1, with a line that says why.

Standard library only and made for `python -I -S`: it runs every half minute in every container, and loading the
program it asks about would cost more than the answer. Guarantees: one line, never a traceback; an end within seconds,
whatever the daemon does. Does not know whether the daemon's answers are right.

    healthcheck.py [--contacts COUNT]     unhealthy too with fewer contacts than that
"""

from __future__ import annotations

import json
import os
import socket
import sys

SOCKET_NAME = "control.sock"
ANSWER_S_MAX = 3.0  # Less than the engine gives the whole check, so that there is a line and not just an end.
LINE_BYTES_MAX = 1_048_576  # As the daemon's own limit.


def status_of(state_dir: str) -> dict[str, object]:
    """Return the status of the daemon with this state directory; OSError or ValueError where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_S_MAX)
        sock.connect(os.path.join(state_dir, SOCKET_NAME))
        sock.sendall(b'{"verb":"status"}\n')
        with sock.makefile("rb") as lines:
            reply = json.loads(lines.readline(LINE_BYTES_MAX))
    if not isinstance(reply, dict):
        raise ValueError("the reply is no object")
    status = reply.get("status")
    if not isinstance(status, dict):
        raise ValueError(str(reply.get("error", "the reply has no status")))
    return status


def contacts_wanted(arguments: list[str]) -> int:
    """Return how many contacts make a node healthy; ValueError for anything else on the command line."""
    if not arguments:
        return 0
    if len(arguments) != 2 or arguments[0] != "--contacts":
        raise ValueError("usage: healthcheck.py [--contacts COUNT]")
    return int(arguments[1])


def verdict(arguments: list[str], state_dir: str) -> tuple[bool, str]:
    """Return whether the daemon is well, and the line that says so."""
    try:
        wanted = contacts_wanted(arguments)
        status = status_of(state_dir)
        contacts, network = int(str(status.get("contacts"))), status.get("network")
    except (OSError, ValueError, RecursionError) as trouble:
        return False, f"unhealthy: {state_dir}: {str(trouble) or type(trouble).__name__}"
    facts = f"{contacts} contacts in {network}, up {status.get('uptime_s')} s"
    if contacts < wanted:
        return False, f"unhealthy: {facts}; at least {wanted} contacts are wanted"
    return True, f"healthy: {facts}"


def main() -> int:
    """Print the verdict and return the exit status."""
    is_well, line = verdict(sys.argv[1:], os.environ.get("STATE_DIRECTORY", "/var/lib/p2pdns"))
    sys.stdout.write(line + "\n")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
