"""Forwarders of others on loopback, each told to ask one address for everything.

Guarantees: a process that is started here listens on loopback, asks nobody but the address it was given, and is ended
by its own pid; a port that somebody took in the meantime is replaced by another. Does not know what is asked.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from p2pdns.addresses import Address
from p2pdns.net.sockets import open_dns

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
STARTS_MAX = 5
READY_TRIES_MAX = 100
READY_TRY_S = 0.3
END_S_MAX = 20.0  # A guard only.

UNBOUND_SERVER = """
server:
    interface: 127.0.0.1@{port}
    access-control: 127.0.0.0/8 allow
    do-ip6: no
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    num-threads: 1
remote-control:
    control-enable: no
"""
UNBOUND = f"""{UNBOUND_SERVER}
server:
    do-not-query-localhost: no
{{options}}
forward-zone:
    name: "."
    forward-addr: {{host}}@{{upstream}}
"""

NAMED = """
options {{
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    lock-file none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    allow-query {{ 127.0.0.1; }};
    recursion yes;
    dnssec-validation no;
    forward only;
    forwarders {{ {host} port {upstream}; }};
{options}
}};
controls {{ }};
"""

KRESD = """
net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})
net.ipv6 = false
cache.size = 10 * MB
modules = {{ 'policy' }}
trust_anchors.remove('.')
policy.add(policy.all(policy.STUB({{'{host}@{upstream}'}})))
{options}
"""

DNSMASQ = """
port={port}
listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
no-daemon
server={host}#{upstream}
{options}
"""


@dataclass(frozen=True)
class Program:
    """A forwarder: its command, its configuration, and how that is handed to it."""

    command: str
    config: str
    arguments: tuple[str, ...]
    file: str = "forwarder.conf"


PROGRAMS = {
    "unbound": Program("unbound", UNBOUND, ("-d", "-p", "-c", "{config}")),
    "BIND": Program("named", NAMED, ("-g", "-c", "{config}")),
    "kresd": Program("kresd", KRESD, ("-n", "-c", "{config}", "{folder}")),
    "dnsmasq": Program("dnsmasq", DNSMASQ, ("--conf-file={config}",)),
}


def free_port() -> int:
    """Return a port that is free for UDP and TCP right now."""
    sockets = open_dns(("127.0.0.1", 0))
    port = sockets.address[1]
    sockets.close()
    return port


@contextlib.contextmanager
def forwarding(
    name: str,
    upstream: Address,
    folder: Path,
    *,
    port: int | None = None,
    options: str = "",
    program: Program | None = None,
) -> Iterator[Address]:
    """Run a forwarder that asks `upstream`, and yield where it answers; `options` are further lines of its own.

    `program` stands in for the one of that name in `PROGRAMS`.
    """
    program = program or PROGRAMS[name]
    path = shutil.which(program.command, path=SYSTEM_PATH)
    assert path, f"{name} is not installed; `make outside` installs it"
    folder.mkdir(exist_ok=True)
    config = folder / program.file
    for _ in range(STARTS_MAX):
        chosen = port or free_port()
        host, upstream_port = upstream
        config.write_text(
            program.config.format(port=chosen, folder=folder, host=host, upstream=upstream_port, options=options)
        )
        words = [word.format(config=config, folder=folder) for word in program.arguments]
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen([path, *words], stdout=output, stderr=output, cwd=folder)
        try:
            if _answers(process, chosen):
                yield "127.0.0.1", chosen
                return
        finally:
            process.terminate()
            process.wait(END_S_MAX)
        assert port is None, f"{name} did not start: {log.read_text()}"
    raise AssertionError(f"{name} did not start: {log.read_text()}")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    # What it answers itself, so that nothing is asked of its upstream yet.
    query = dns.message.make_query("localhost", "A")
    for _ in range(READY_TRIES_MAX):
        if process.poll() is not None:
            return False
        with contextlib.suppress(dns.exception.Timeout, OSError):
            dns.query.udp(query, "127.0.0.1", port=port, timeout=READY_TRY_S)
            return True
    return False
