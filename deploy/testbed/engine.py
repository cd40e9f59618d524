"""The container engine and compose, through their command lines, and their errors in the words of this tool.

Guarantees: every failure is an `Unavailable` with what to do next; no command, nor what it has started, outlives its
limit or an exception here; Ctrl-C reaches this program and not its commands, so that it never stops the undoing of a
fault half way. Containers are found by labels, because their names differ between the generations of compose. Does not
know what the containers are for.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

from p2pdns.errors import Unavailable

FOLDER = Path(__file__).resolve().parents[1]
COMPOSE_FILE = FOLDER / "docker-compose.yml"
PROFILES = ("--profile", "story", "--profile", "tools")
IMAGES = ("p2pdns-node:local", "p2pdns-tools:local")

COMMAND_S_MAX = 180.0  # Every command but a build takes seconds; on a busy machine a stop of many takes longest.
BUILD_S_MAX = 1_800.0  # A first build downloads two images' worth of packages.
END_S_MAX = 5.0  # For a command that was told to end; then it is killed.
TROUBLE_LINES_MAX = 3  # The last lines of a failed command say why; the lines before them are progress.

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
ONE_OFF = "com.docker.compose.oneoff"

# What clients of any generation say, its meaning, and a remedy.
TROUBLES = (
    ("permission denied.*docker.*sock", "the engine does not let you in", "run this as root, or in the group docker"),
    ("(cannot|couldn't) connect to (the )?docker daemon", "no engine answers", "start it, or set DOCKER_HOST"),
    ("(no such|unable to find) image|pull access denied", "an image is missing", "python -m deploy.testbed up --build"),
    ("address already in use", "the port is taken", "P2PDNS_TESTBED_PORT=5399, or any other that is free"),
)


def run(command: Sequence[str], *, seconds_max: float = COMMAND_S_MAX, check: bool = True) -> str:
    """Return the output of a command; a failure is `Unavailable` with its last error messages.

    Without `check` a failed command's output is returned as any other's.
    """
    place = " ".join(command[:3])
    try:
        with subprocess.Popen(
            command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True, errors="replace", start_new_session=True
        ) as process:
            try:
                printed, said = process.communicate(timeout=seconds_max)
            except BaseException:
                _end(process)
                raise
    except FileNotFoundError:
        hint = "install Docker Engine and compose (Debian: docker.io docker-compose)"
        raise Unavailable("no such command", place=command[0], hint=hint) from None
    except subprocess.TimeoutExpired:
        hint = "the engine's own log says more"
        raise Unavailable(f"no end within {seconds_max:g} s", place=place, hint=hint) from None
    if process.returncode and check:
        raise _trouble_of(place, said or printed)
    return printed


def _end(process: subprocess.Popen[str]) -> None:
    # With all that it has started: a build, or the plugin behind `docker compose`, would go on without it.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(END_S_MAX)


def _trouble_of(place: str, said: str) -> Unavailable:
    for words, what, hint in TROUBLES:
        if re.search(words, said, re.IGNORECASE):
            return Unavailable(what, place=place, hint=hint)
    lines = [line.strip() for line in said.splitlines() if line.strip()][-TROUBLE_LINES_MAX:]
    why = " / ".join(lines) or "it failed and did not say why"
    return Unavailable(why.rstrip("."), place=place, hint="python -m deploy.testbed status")


def docker(*arguments: str, check: bool = True) -> str:
    """Run the engine's client; return its output."""
    return run(["docker", *arguments], check=check)


def inspected(*ids: str) -> list[dict[str, Any]]:
    """Return the facts about containers as `docker inspect` has them; those that are gone by now are left out."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", *ids, check=False) or "[]") if ids else []
    return found


def container_ids(*labels: str) -> list[str]:
    """Return the ids of the containers, running or not, with all these labels ("KEY" or "KEY=VALUE")."""
    return docker("ps", "--quiet", "--no-trunc", "--all", *(f"--filter=label={label}" for label in labels)).split()


def volumes_of(label: str) -> set[str]:
    """Return the volumes of the containers with a label."""
    mounts = [mount for facts in inspected(*container_ids(label)) for mount in facts.get("Mounts", [])]
    return {mount["Name"] for mount in mounts if mount["Type"] == "volume"}


def remove_volumes(names: Iterable[str]) -> None:
    """Remove volumes; those that are gone or in use are passed over."""
    if words := sorted(names):
        docker("volume", "rm", "--force", *words, check=False)


def compose(project: str, *arguments: str) -> str:
    """Run compose on our file, the plugin or else the older program, with all profiles; return its output."""
    command = ["docker", "compose"] if docker("compose", "version", check=False) else ["docker-compose"]
    if not shutil.which(command[0]):
        hint = "install the plugin, or docker-compose (Debian: docker-compose)"
        raise Unavailable("there is no compose", place="docker", hint=hint)
    return run([*command, "--file", str(COMPOSE_FILE), "--project-name", project, *PROFILES, *arguments])


def build_images() -> str:
    """Build the images from this checkout and return the name of their base; the second time it takes seconds."""
    return run([str(FOLDER / "images.sh")], seconds_max=BUILD_S_MAX).strip()


def are_images_there() -> bool:
    """Return whether both images have been built."""
    return docker("image", "inspect", "--format=there", *IMAGES, check=False).split() == ["there"] * len(IMAGES)
