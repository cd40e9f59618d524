"""Containers that share the network of another, and have the rights and tools that a node has not.

Guarantees: a sidecar can be found by its labels and is gone when its fault is; one that impairs is known to have begun
before `start` returns. Does not know why a place is impaired.
"""

from __future__ import annotations

import functools
import itertools
import json
import select
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

from deploy.testbed import engine
from deploy.testbed.impair import Impairment
from deploy.testbed.places import Container
from p2pdns.errors import Unavailable

TOOLS_IMAGE = engine.IMAGES[1]
PROJECT, KIND = "org.p2pdns.project", "org.p2pdns.sidecar"
FAULT, OF, WHERE, WHAT = (f"{KIND}.{label}" for label in ("fault", "of", "where", "what"))

BEGIN_S_MAX = 60.0  # A start takes a third of a second; on a busy machine with many at once some.
STOP_S = 5  # The engine waits so long for the rules to be taken out before it kills.
AT_ONCE_MAX = 4  # Starting is mostly waiting for the engine, which on two cores gains nothing from more.


@dataclass(frozen=True)
class Sidecar:
    """A sidecar that impairs: the container beside which it runs, the place of that, and the settings."""

    id: str
    of: str
    where: str
    what: dict[str, object]


def command(kind: str, project: str, network: str, *more: str) -> list[str]:
    """Return the words of `docker run` for a sidecar without any right but those that `more` gives it."""
    bounds = "--read-only --cap-drop=ALL --security-opt=no-new-privileges:true --memory=128m --pids-limit=64"
    labels = (f"--label={KIND}={kind}", f"--label={PROJECT}={project}")
    return ["run", "--pull=never", f"--network={network}", *labels, *bounds.split(), *more]


def netem_words(impairment: Impairment) -> list[str]:
    """Return the words of `tc qdisc add … netem` for an impairment."""
    words = []
    if impairment.delay_ms or impairment.jitter_ms:
        words += ["delay", f"{impairment.delay_ms:g}ms", f"{impairment.jitter_ms:g}ms"]
    for name in ("loss", "duplicate"):
        if percent := getattr(impairment, f"{name}_percent"):
            words += [name, f"{percent:g}%"]
    return [*words, *(["rate", f"{impairment.rate_kbit:g}kbit"] if impairment.rate_kbit else [])]


@functools.cache
def has_netem(project: str) -> bool:
    """Return whether the kernel under the engine has netem, tried on a device that is thrown away."""
    words = command("trial", project, "none", "--rm", "--cap-add=NET_ADMIN", TOOLS_IMAGE, "netem")
    return engine.docker(*words, check=False).strip() == "there"


def program(method: str, impairment: Impairment, paths: Sequence[tuple[str, str]], seed: int) -> list[str]:
    """Return the command that impairs, by "netem" or by "tun"."""
    if method == "netem":
        return ["netem", *netem_words(impairment)]
    flags = [f"--{name.replace('_', '-')}={value:g}" for name, value in asdict(impairment).items()]
    return ["impair", *flags, f"--seed={seed}", *(word for path in paths for word in ("--path", *path))]


def start(
    project: str,
    fault: str,
    containers: Sequence[Container],
    method: str,
    impairment: Impairment,
    paths: Sequence[tuple[str, str]],
    seed: int,
) -> None:
    """Start a sidecar beside each container, the first with this seed, the next with the one after it, and so on.

    Returns when each has said that it has begun; `Unavailable` if one cannot.
    """
    rights = ("--cap-add=NET_ADMIN", "--cap-add=NET_RAW", "--device=/dev/net/tun", "--detach")

    def start_one(container: Container, seed: int) -> None:
        what = {"method": method, **asdict(impairment), "paths": paths, "seed": seed}
        labels = {OF: container.id, WHERE: container.place, FAULT: fault, WHAT: json.dumps(what)}
        flags = (*rights, *(f"--label={key}={value}" for key, value in labels.items()))
        words = (*flags, TOOLS_IMAGE, *program(method, impairment, paths, seed))
        started = engine.docker(*command("impair", project, f"container:{container.id}", *words))
        wait_until_begun(started.strip(), container.place)

    with ThreadPoolExecutor(AT_ONCE_MAX) as pool:
        list(pool.map(start_one, containers, itertools.count(seed)))


def wait_until_begun(sidecar: str, where: str) -> None:
    """Return when a sidecar has said its first line since it was last started."""
    since = engine.inspected(sidecar)[0]["State"]["StartedAt"]
    follow = ["docker", "logs", "--follow", "--since", since, sidecar]
    with subprocess.Popen(follow, stdout=PIPE, stderr=STDOUT, stdin=DEVNULL, text=True, start_new_session=True) as logs:
        assert logs.stdout is not None
        # The log ends with the container, so that one which could not begin does not keep us waiting.
        line = logs.stdout.readline() if select.select([logs.stdout], [], [], BEGIN_S_MAX)[0] else ""
        logs.kill()
    if '"up"' not in line:
        why = line.strip().removeprefix("impair: error: ") or "it said nothing"
        hint = "python -m deploy.testbed unimpair, should it be impaired already"
        raise Unavailable(f"cannot be impaired: {why}", place=where, hint=hint)


def impairing(project: str, *, fault: str = "") -> list[Sidecar]:
    """Return the sidecars that impair, or those of one fault, in the order of their places."""
    labels = [f"{KIND}=impair", f"{PROJECT}={project}", *([f"{FAULT}={fault}"] if fault else [])]
    found = [(facts["Id"], facts["Config"]["Labels"]) for facts in engine.inspected(*engine.container_ids(*labels))]
    sidecars = [Sidecar(own_id, label[OF], label[WHERE], json.loads(label[WHAT])) for own_id, label in found]
    return sorted(sidecars, key=lambda sidecar: sidecar.where)


def end(sidecars: Sequence[Sidecar]) -> list[dict[str, Any]]:
    """End sidecars and remove them; return the place and the counters of each."""
    ids = [sidecar.id for sidecar in sidecars]
    if not ids:
        return []
    engine.docker("stop", f"--time={STOP_S}", *ids, check=False)
    ended = [{"where": each.where, "method": each.what["method"], "counters": _counters(each.id)} for each in sidecars]
    engine.docker("rm", "--force", *ids, check=False)
    return ended


def _counters(sidecar: str) -> object:
    # A sidecar that was killed leaves no counters, nor does netem.
    last = engine.docker("logs", "--tail=1", sidecar, check=False)
    return json.loads(last).get("counters") if last.startswith("{") else None


def remove(project: str) -> None:
    """Remove every sidecar at once, those that impair and others, with their counters."""
    if ids := engine.container_ids(f"{PROJECT}={project}"):
        engine.docker("rm", "--force", *ids, check=False)


def again(project: str, containers: Sequence[str]) -> None:
    """Start the sidecars of containers that have been started again, whose network is a new one."""
    for sidecar in impairing(project):
        if sidecar.of in containers:
            engine.docker("restart", f"--time={STOP_S}", sidecar.id)
            wait_until_begun(sidecar.id, sidecar.where)
