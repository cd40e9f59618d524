"""Containers that share the network of another: what needs rights or tools has them there, and the node has none.

Guarantees: a sidecar can be found by its labels and is gone when its fault is; one that impairs is known to have begun
before `start` returns. Does not know why a place is impaired.
"""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

from deploy.testbed import engine
from deploy.testbed.impair import Impairment
from deploy.testbed.places import Container
from p2pdns.errors import Unavailable

TOOLS_IMAGE = engine.IMAGES[1]
KIND, FAULT, OF, WHERE, WHAT = (
    f"org.p2pdns.sidecar{end}" for end in ("", ".fault", ".of", ".where", ".what")
)  # Labels.
PROJECT = "org.p2pdns.project"

BEGIN_SECONDS_MAX = 60.0  # A start takes a third of a second; on a busy machine with many at once some.
STOP_SECONDS = 5  # The engine waits so long for the rules to be taken out before it kills.
AT_ONCE_MAX = 4  # Starting is mostly waiting for the engine, which on two cores gains nothing from more.

# Runs as long as the fault is on, as the other way does, so that both are found and ended alike.
NETEM = """
devices=$(ip -o -4 address show scope global | awk '{ print $2 }' | sort -u)
undo() {
    for device in $devices; do tc qdisc del dev "$device" root; done
    kill "$waiting"
    exit "$1"
}
sleep infinity &
waiting=$!
trap 'undo 0' TERM INT
for device in $devices; do tc qdisc add dev "$device" root netem "$@" || undo 1; done
echo '{"event": "up"}'
wait
"""
_NETEM_TRIAL = """
ip link add trial type veth peer name lairt && tc qdisc add dev trial root netem delay 1ms && echo there
"""


@dataclass(frozen=True)
class Sidecar:
    """One that impairs: where it stands, what it does there, and since which fault."""

    id: str
    of: str
    where: str
    fault: str
    what: dict[str, object]


def command(kind: str, project: str, network: str, *more: str) -> list[str]:
    """Return the words of `docker run` for a sidecar without any right but those that `more` gives it."""
    return [
        "run",
        "--pull=never",
        f"--network={network}",
        f"--label={KIND}={kind}",
        f"--label={PROJECT}={project}",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges:true",
        "--memory=128m",
        "--pids-limit=64",
        *more,
    ]


def netem_words(impairment: Impairment) -> list[str]:
    """Return what `tc qdisc add … netem` calls an impairment.

    >>> netem_words(Impairment(delay_ms=100, jitter_ms=20, loss_percent=10))
    ['delay', '100ms', '20ms', 'loss', '10%']
    """
    words = []
    if impairment.delay_ms or impairment.jitter_ms:
        words += ["delay", f"{impairment.delay_ms:g}ms", f"{impairment.jitter_ms:g}ms"]
    for name in ("loss", "duplicate"):
        if percent := getattr(impairment, f"{name}_percent"):
            words += [name, f"{percent:g}%"]
    return [*words, *(["rate", f"{impairment.rate_kbit:g}kbit"] if impairment.rate_kbit else [])]


def has_netem(project: str) -> bool:
    """Return whether the kernel under the engine has netem, tried on a device that is thrown away."""
    words = command("trial", project, "none", "--rm", "--cap-add=NET_ADMIN", TOOLS_IMAGE, "sh", "-c", _NETEM_TRIAL)
    return engine.docker(*words, check=False).strip() == "there"


@dataclass(frozen=True)
class Plan:
    """A sidecar that shall be: in whose network, under which name, and how it impairs."""

    container: Container
    impairment: Impairment
    method: str
    paths: Sequence[tuple[str, str]]
    seed: int

    def what(self) -> dict[str, object]:
        """Return what this does, for a label."""
        paths = [list(path) for path in self.paths]
        return {"method": self.method, **asdict(self.impairment), "paths": paths, "seed": self.seed}

    def program(self) -> list[str]:
        """Return the command that impairs."""
        if self.method == "netem":
            return ["sh", "-c", NETEM, "sh", *netem_words(self.impairment)]
        flags = [f"--{name.replace('_', '-')}={value:g}" for name, value in asdict(self.impairment).items()]
        return ["impair", *flags, f"--seed={self.seed}", *(w for path in self.paths for w in ("--path", *path))]


def start(project: str, fault: str, plans: Sequence[Plan]) -> None:
    """Start sidecars; return when each has said that it has begun. One that cannot is `Unavailable`."""
    with ThreadPoolExecutor(AT_ONCE_MAX) as pool:
        for _ in pool.map(partial(_start_one, project, fault), plans):
            pass


def _start_one(project: str, fault: str, plan: Plan) -> None:
    rights = ["--cap-add=NET_ADMIN", "--cap-add=NET_RAW", "--device=/dev/net/tun"]
    labels = {OF: plan.container.id, WHERE: plan.container.place, FAULT: fault, WHAT: json.dumps(plan.what())}
    words = [*rights, *(f"--label={key}={value}" for key, value in labels.items()), "--detach", TOOLS_IMAGE]
    network = f"container:{plan.container.id}"
    started = engine.docker(*command("impair", project, network, *words, *plan.program())).strip()
    wait_until_begun(started, plan.container.place)


def wait_until_begun(sidecar: str, where: str) -> None:
    """Return when a sidecar has said its first line since it was last started."""
    since = engine.inspected(sidecar)[0]["State"]["StartedAt"]
    follow = ["docker", "logs", "--follow", "--since", since, sidecar]
    with subprocess.Popen(
        follow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True
    ) as logs:
        assert logs.stdout is not None
        assert logs.stderr is not None
        try:
            # The log ends with the container, so that one which could not begin does not keep us waiting.
            readable, _, _ = select.select([logs.stdout], [], [], BEGIN_SECONDS_MAX)
            line = logs.stdout.readline() if readable else b""
        finally:
            logs.kill()
        if b'"up"' not in line:
            said = logs.stderr.read().decode(errors="replace").strip().splitlines()
            why = said[-1].removeprefix("impair: error: ") if said else f"nothing heard in {BEGIN_SECONDS_MAX:g} s"
            hint = "python -m deploy.testbed unimpair, should it be impaired already"
            raise Unavailable(f"cannot be impaired: {why}", place=where, hint=hint)


def impairing(project: str, *, fault: str | None = None) -> list[Sidecar]:
    """Return the sidecars that impair, or those of one fault, in the order of their places."""
    labels = [f"{KIND}=impair", f"{PROJECT}={project}", *([f"{FAULT}={fault}"] if fault else [])]
    found = []
    for facts in engine.inspected(*engine.container_ids(*labels)):
        label = facts["Config"]["Labels"]
        found.append(Sidecar(facts["Id"], label[OF], label[WHERE], label[FAULT], json.loads(label[WHAT])))
    return sorted(found, key=lambda sidecar: sidecar.where)


def end(sidecars: Sequence[Sidecar]) -> list[dict[str, object]]:
    """End sidecars and remove them; return where each was and what it had counted."""
    if not sidecars:
        return []
    ids = [sidecar.id for sidecar in sidecars]
    engine.docker("stop", f"--time={STOP_SECONDS}", *ids, check=False)
    with ThreadPoolExecutor(AT_ONCE_MAX) as pool:
        counted = list(pool.map(_counters, ids))
    engine.docker("rm", "--force", *ids, check=False)
    return [
        {"where": each.where, "method": each.what["method"], "counters": counters}
        for each, counters in zip(sidecars, counted, strict=True)
    ]


def _counters(sidecar: str) -> object:
    lines = engine.docker("logs", "--tail=1", sidecar, check=False).splitlines()
    try:
        return json.loads(lines[-1]).get("counters") if lines else None
    except ValueError:
        return None


def again(project: str, containers: Sequence[str]) -> None:
    """Start the sidecars of containers that have been started again, whose network is a new one."""
    for sidecar in impairing(project):
        if sidecar.of in containers:
            engine.docker("restart", f"--time={STOP_SECONDS}", sidecar.id)
            wait_until_begun(sidecar.id, sidecar.where)
