"""The container engine and compose, through their command lines, and what they answer when something is missing.

Guarantees: every failure is an `Unavailable` with what to do next; no command, nor what it has started, outlives its
limit or an exception here; Ctrl-C reaches this program and not its commands, so that what undoes a fault is not
interrupted half way. Containers are found by labels, for their names differ between the generations of compose. Does
not know what the containers are for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from p2pdns.errors import Unavailable

FOLDER = Path(__file__).resolve().parents[1]
COMPOSE_FILE = FOLDER / "docker-compose.yml"
PROFILES = ("story", "tools")
IMAGES = ("p2pdns-node:local", "p2pdns-tools:local")

COMMAND_SECONDS_MAX = 120.0  # Every command but a build takes seconds; on a busy machine a stop of many takes longest.
BUILD_SECONDS_MAX = 1_800.0  # A first build downloads two images' worth of packages.
END_SECONDS_MAX = 5.0  # For a command that was told to end; then it is killed.
TROUBLE_LINES_MAX = 3  # The last lines of a failed command say why; what is before them is progress.

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
ONE_OFF = "com.docker.compose.oneoff"
NETWORK = "com.docker.compose.network"


def run(
    command: Sequence[str],
    *,
    seconds_max: float = COMMAND_SECONDS_MAX,
    check: bool = True,
) -> str:
    """Return what a command printed; a failure is `Unavailable` with the last lines that it said.

    Without `check` a failed command's output is returned as any other's.
    """
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
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
        raise Unavailable(f"no end within {seconds_max:g} s", place=shown(command), hint=hint) from None
    if process.returncode and check:
        raise trouble_of(command, said or printed)
    return printed


def _end(process: subprocess.Popen[str]) -> None:
    # With all that it has started: a build, or the plugin behind `docker compose`, would go on without it.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS_MAX)


def trouble_of(command: Sequence[str], said: str) -> Unavailable:
    """Return the error for a failed command, by what it said."""
    lowered = said.lower()
    if "permission denied" in lowered and "docker" in lowered and "sock" in lowered:
        hint = "run this as root, or as a member of the group docker"
        return Unavailable("the engine does not let you in", place=command[0], hint=hint)
    if "cannot connect to the docker daemon" in lowered or "couldn't connect to docker daemon" in lowered:
        return Unavailable("no engine answers", place=command[0], hint="start it, or set DOCKER_HOST")
    if "no such image" in lowered or "unable to find image" in lowered or "pull access denied" in lowered:
        what = "an image is missing"
        return Unavailable(what, place=shown(command), hint="python -m deploy.testbed up --build")
    if "address already in use" in lowered:
        hint = "P2PDNS_TESTBED_PORT=5399, or any other that is free"
        return Unavailable("the port is taken", place=shown(command), hint=hint)
    lines = [line.strip() for line in said.splitlines() if line.strip()][-TROUBLE_LINES_MAX:]
    why = " / ".join(lines) or "it failed and did not say why"
    return Unavailable(why.rstrip("."), place=shown(command), hint="python -m deploy.testbed status")


def shown(command: Sequence[str]) -> str:
    """Return the first words of a command, as the place of an error."""
    return " ".join(command[:3])


def docker(*arguments: str, check: bool = True) -> str:
    """Run the engine's client; return what it printed."""
    return run(["docker", *arguments], check=check)


def inspected(*ids: str) -> list[dict[str, Any]]:
    """Return what the engine knows of containers; those that are gone meanwhile are left out."""
    if not ids:
        return []
    found = json.loads(docker("inspect", *ids, check=False) or "[]")
    assert isinstance(found, list)
    return found


def container_ids(*labels: str, all_states: bool = True) -> list[str]:
    """Return the ids of the containers with all these labels ("KEY" or "KEY=VALUE")."""
    filters = [word for label in labels for word in ("--filter", f"label={label}")]
    state = ["--all"] if all_states else []
    return docker("ps", "--quiet", "--no-trunc", *state, *filters).split()


def volumes_of(*labels: str) -> set[str]:
    """Return the volumes of the containers with all these labels."""
    return {
        mount["Name"]
        for facts in inspected(*container_ids(*labels))
        for mount in facts.get("Mounts", [])
        if mount["Type"] == "volume"
    }


def remove_volumes(names: Iterable[str]) -> None:
    """Remove volumes that nobody uses; those that are gone or in use are passed over."""
    if words := sorted(names):
        docker("volume", "rm", "--force", *words, check=False)


def compose_command() -> list[str]:
    """Return how compose is called here: the plugin, else the program of its own."""
    try:
        run(["docker", "compose", "version"])
    except Unavailable as trouble:
        if trouble.what == "no such command":
            raise
    else:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    hint = "install the plugin, or docker-compose (Debian: docker-compose)"
    raise Unavailable("there is no compose", place="docker", hint=hint)


def compose(project: str, *arguments: str) -> str:
    """Run compose on our file, with all profiles; return what it printed."""
    profiles = [word for profile in PROFILES for word in ("--profile", profile)]
    command = [*compose_command(), "--file", str(COMPOSE_FILE), "--project-name", project, *profiles, *arguments]
    return run(command)


def build_images() -> None:
    """Build the images from this checkout; what is built already costs seconds."""
    run([str(FOLDER / "images.sh")], seconds_max=BUILD_SECONDS_MAX)


def are_images_there() -> bool:
    """Return whether both images have been built."""
    try:
        docker("image", "inspect", *IMAGES)
    except Unavailable:
        return False
    return True
