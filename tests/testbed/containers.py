"""The containers of the story: finding and asking them.

In each container that is asked, a Python waits for requests (`inside.py`): loading the program anew for each question
would take most of the story's time. Guarantees: a request ends with its reply or within its time; a Python that ended
with its container is started again; everything that was started here can be taken down. Does not know faults
(`deploy.testbed` has them) nor what an answer should be.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

from deploy.testbed import Container, Testbed, engine, sidecars
from deploy.testbed.places import OVERLAY_ROLES
from p2pdns.errors import Unavailable
from tests.testbed.traces import Traces

ROOT = Path(__file__).resolve().parents[2]
BED = Testbed(os.environ.get("COMPOSE_PROJECT_NAME", "p2pdns"))
ENGINE_S_MAX = 30.0  # One that does not answer in this time does not answer.
REQUEST_S_MAX = 120.0  # Forty questions over bad links take half a minute on a busy machine.
AT_ONCE = 8  # Containers asked at a time; more than that, and the questions wait for the cores and not for the overlay.
LOOK_AGAIN_S = 0.1
STOP_S = 10
INSIDE = Path(__file__).with_name("inside.py").read_text()
_pythons: dict[str, subprocess.Popen[str]] = {}


def why_no_engine() -> str | None:
    if shutil.which("docker") is None:
        return "docker is not installed"
    try:
        engine.run(["docker", "info", "--format", "{{.ServerVersion}}"], seconds_max=ENGINE_S_MAX)
    except Unavailable as trouble:
        return str(trouble)
    return None


def containers(*roles: str, side: str = "") -> list[Container]:
    """Return our containers that run, with one of these roles on this side."""
    found = [each for each in BED.places() if each.is_running and side in ("", each.side)]
    return [each for each in found if not roles or each.role in roles]


def daemons(side: str = "") -> list[Container]:
    return containers(*OVERLAY_ROLES, side=side)


def one(role: str) -> Container:
    (found,) = containers(role)
    return found


def dht_of(place: Container) -> str:
    return f"{place.addresses[place.side or '']}:6881"


def inside(place: Container, **words: Any) -> dict[str, Any]:
    """Do something inside a container, see `inside.py`, and return the results. One request at a time in each."""
    line = _line_of(place, json.dumps(words)) or _line_of(place, json.dumps(words))
    assert line, f"{place.place}: the Python inside ends without a reply"
    reply: dict[str, Any] = json.loads(line)
    assert "trouble" not in reply, f"{place.place}: {reply['trouble']}"
    return reply


def _line_of(place: Container, request: str) -> str:
    """Return the line that answers a request; an empty one if the Python in there has ended."""
    if place.id not in _pythons:
        command = ["docker", "exec", "-i", place.id, "python", "-I", "-c", INSIDE]
        # Ctrl-C is for us; these end with their containers.
        python = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True, process_group=0)
        _pythons[place.id] = python
    python = _pythons[place.id]
    assert python.stdin
    assert python.stdout
    with engine.killed_after(python, REQUEST_S_MAX):
        with contextlib.suppress(BrokenPipeError):
            python.stdin.write(request + "\n")
            python.stdin.flush()
        line = python.stdout.readline()
    if not line:
        _end(place.id)
    return line


def _end(container_id: str) -> None:
    python = _pythons.pop(container_id)
    # The Python in the container ends with its input.
    python.kill()
    python.communicate()


def end_all_inside() -> None:
    for container_id in list(_pythons):
        _end(container_id)


def everywhere(places: Iterable[Container], what: Callable[[Container], Any]) -> dict[Container, Any]:
    """Do something with each container, some at a time, and return the results by container."""
    where = list(places)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(where, pool.map(what, where), strict=True))


def control(place: Container, verb: str) -> dict[str, Any]:
    reply: dict[str, Any] = inside(place, control=[{"verb": verb}])["control"][0]
    return reply


def status(place: Container) -> dict[str, Any]:
    """Return what a daemon says about itself; an empty table where it does not answer."""
    found: dict[str, Any] = control(place, "status").get("status", {})
    return found


def wait_until(condition: Callable[[], bool], what: str, seconds_max: float) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds_max, f"waited {seconds_max} s in vain: {what}"
        time.sleep(LOOK_AGAIN_S)
    return time.monotonic() - began


def wait_for_each(
    places: Iterable[Container], is_so: Callable[[Container], bool], what: str, seconds_max: float
) -> float:
    """Wait until something was so at each of these containers once; return after how many seconds it was."""
    waiting = set(places)

    def were_all() -> bool:
        found = everywhere(sorted(waiting, key=lambda place: place.place), is_so)
        waiting.difference_update(place for place, was_so in found.items() if was_so)
        return not waiting

    return wait_until(were_all, what, seconds_max)


def wait_for_contacts(places: Iterable[Container], count: int) -> float:
    """Wait until each of these daemons answers and knows so many others."""

    def has_them(place: Container) -> bool:
        # It may not have started yet.
        with contextlib.suppress(AssertionError):
            return bool(status(place).get("contacts", 0) >= count)
        return False

    return wait_for_each(places, has_them, f"{count} contacts each", 90.0)


def left_behind(volumes: Iterable[str]) -> list[str]:
    """Return the containers, networks and volumes of our project that are still there, and those of some volumes."""
    found = []
    for kind, label in (
        ("container", BED.label),
        ("container", f"{sidecars.PROJECT}={BED.project}"),
        ("network", BED.label),
        ("volume", BED.label),
    ):
        listed = engine.docker(kind, "ls", *(["--all"] if kind == "container" else []), "-q", f"--filter=label={label}")
        found += [f"{kind} {own_id}" for own_id in listed.split()]
    # One without a name has no label to be found by.
    return found + sorted(set(volumes) & set(engine.docker("volume", "ls", "-q").split()))


def traces(port: int, files_before: frozenset[str]) -> Traces:
    """Return the marks by which everything of our containers can be told from the rest of the machine."""
    networks = engine.docker("network", "ls", "-q", "--no-trunc", f"--filter=label={BED.label}").split()
    return Traces(frozenset(engine.container_ids(BED.label)), frozenset(networks), port, files_before)
