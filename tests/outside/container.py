"""A container with programs that want a machine of their own, and p2pdns in it: systemd-resolved, ssh, a browser.

Guarantees: it has no network but its own loopback and a cable to nowhere; it goes with the block that made it. Nothing
of it runs on the machine of the tests. Does not know what is asked.
"""

from __future__ import annotations

import contextlib
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD_S_MAX = 900  # Packages are fetched; a guard only.
RUN_S_MAX = 120  # A guard only.
DOCKERFILE = """
FROM p2pdns-node:local
USER 0
RUN apt-get update && apt-get install -y --no-install-recommends {packages} && rm -rf /var/lib/apt/lists/*
HEALTHCHECK NONE
CMD ["sleep", "infinity"]
"""
# systemd-resolved asks nobody on a machine that has only loopback.
CABLE = "ip link add v0 type veth peer name v1; ip addr add 192.0.2.1/24 dev v0; ip link set v0 up; ip link set v1 up"


@dataclass(frozen=True)
class Container:
    """A running container."""

    name: str

    def run(self, script: str, *, may_fail: bool = False) -> str:
        """Run a shell script in it and return what it printed, on both outputs."""
        done = subprocess.run(
            ["docker", "exec", "-i", self.name, "sh", "-eu"],
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S_MAX,
            check=False,
        )
        assert may_fail or done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def put(self, files: Mapping[str, str]) -> None:
        """Write files, by their absolute paths; folders are made."""
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "files.tar"
            with tarfile.open(archive, "w") as tar:
                for number, (path, text) in enumerate(files.items()):
                    source = Path(folder) / str(number)
                    source.write_text(text)
                    source.chmod(0o644)
                    tar.add(source, arcname=path.lstrip("/"))
            with archive.open("rb") as lines:
                subprocess.run(["docker", "cp", "-", f"{self.name}:/"], stdin=lines, check=True, timeout=RUN_S_MAX)


@contextlib.contextmanager
def container(name: str, *packages: str) -> Iterator[Container]:
    """Build an image of this checkout with these packages, run a container of it, and take that away afterwards."""
    subprocess.run([ROOT / "deploy" / "images.sh"], check=True, timeout=BUILD_S_MAX, stdout=subprocess.DEVNULL)
    image = f"p2pdns-outside-{packages[0]}:local"
    build = ["docker", "build", "-q", "-t", image, "-"]
    text = DOCKERFILE.replace("{packages}", " ".join(["iproute2", "nsd", *packages]))
    subprocess.run(build, input=text, text=True, check=True, timeout=BUILD_S_MAX, capture_output=True)
    start = ["docker", "run", "-d", "--rm", "--init", "--name", name, "--network", "none", "--cap-add", "NET_ADMIN"]
    # A browser wants more shared memory than a container has by itself.
    start += ["--shm-size", "256m", image]
    subprocess.run(start, check=True, timeout=RUN_S_MAX, stdout=subprocess.DEVNULL)
    try:
        found = Container(name)
        found.run(CABLE)
        yield found
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=True, timeout=RUN_S_MAX, stdout=subprocess.DEVNULL)
