"""A private root on loopback and the resolvers over it, for bench/conformance.py: NSD, unbound, BIND and ours.

Guarantees: every process started here is ended by its own pid; each resolver sends from 127.0.0.1, which the kernel
lets go nowhere else, and knows no server but the one it is given. Does not know what they are asked.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

# Commands, and the Debian packages they come in. Their services need not run, and are not touched.
PROGRAMS = {"unbound": "unbound", "named": "bind9", "nsd": "nsd"}
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
HOST = "127.0.0.1"
READY_TRY_S = 0.5
READY_TRIES_MAX = 60
END_S_MAX = 10.0

ZONE = (
    """$TTL 300
@             SOA   a.root. host.root. 1 3600 600 86400 60
@             NS    a.root.
a.root.       A     127.0.0.1
www.example.  A     192.0.2.80
www.example.  AAAA  2001:db8::80
many.example. A     192.0.2.1
many.example. A     192.0.2.2
many.example. A     192.0.2.3
example.      MX    10 www.example.
example.      TXT   "an example"
alias.example. CNAME www.example.
chain.example. CNAME alias.example.
dead.example. CNAME nowhere.example.
loop.example. CNAME back.example.
back.example. CNAME loop.example.
*.wild.example. A   192.0.2.7
x.ent.example. TXT  "below"
tree.example. DNAME target.example.
www.target.example. A 192.0.2.8
_s._tcp.example. SRV 0 1 443 www.example.
unknown.example. TYPE65280 \\# 5 C00C00FF41
web.example.  HTTPS 1 . alpn=h2 ipv4hint=192.0.2.80
zero.example. 0 A   192.0.2.9
a\\.b.example. A     192.0.2.10
\\000\\255.example. A 192.0.2.11
svcalias.example. TYPE65 \\# 22 000003777777076578616d706c650000010003026832
echform.example. TYPE65 \\# 10 00010000050003ffffff
loc1.example. TYPE29 \\# 16 01121613800000008000000080000000
amt4.example. TYPE260 \\# 5 0a0478797a
"""
    + f"zonemd0.example. TYPE63 \\# 54 000000010001{'00' * 48}\n"
    + "".join(f'long.example. TXT "{letter * 200}"\n' for letter in "abc")
    + "".join(f'big.example. TXT "{number:0200d}"\n' for number in range(20))
)

UNBOUND = """
server:
    interface: 127.0.0.1@{port}
    outgoing-interface: 127.0.0.1
    access-control: 127.0.0.0/8 allow
    do-ip6: no
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    logfile: "{folder}/unbound.log"
    num-threads: 1
    module-config: "iterator"
    do-not-query-localhost: no
    hide-identity: no
    hide-version: no
    ede: yes
    edns-tcp-keepalive: yes
stub-zone:
    name: "."
    stub-addr: 127.0.0.1@{root}
remote-control:
    control-enable: no
"""

NAMED = """
options {{
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    lock-file none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    query-source address 127.0.0.1;
    allow-query {{ 127.0.0.1; }};
    recursion yes;
    dnssec-validation no;
    forward only;
    forwarders {{ 127.0.0.1 port {root}; }};
}};
controls {{ }};
"""


@dataclass(frozen=True)
class Resolver:
    """A running resolver: what it is called in the table, which version it is, and where it answers."""

    name: str
    version: str
    port: int

    @property
    def address(self) -> tuple[str, int]:
        """Where it answers."""
        return HOST, self.port


def missing_packages() -> list[str]:
    """Return the Debian packages that the bench needs and this machine lacks."""
    return [package for program, package in PROGRAMS.items() if shutil.which(program, path=SYSTEM_PATH) is None]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[list[Resolver]]:
    """Start everything and yield ours, unbound and BIND, in this order."""
    from tests.oracle.nsd import running_nsd

    places = {name: folder / name for name in ("nsd", "unbound", "named", "ours")}
    for place in places.values():
        place.mkdir()
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(running_nsd({".": ZONE}, places["nsd"]))
        unbound = stack.enter_context(_served("unbound", UNBOUND, places["unbound"], root, ["-d", "-p", "-c"]))
        named = stack.enter_context(_served("named", NAMED, places["named"], root, ["-f", "-c"]))
        yield [
            Resolver("p2pdns", "this checkout", stack.enter_context(_ours(places["ours"], unbound))),
            Resolver("unbound", _version("unbound", "-V"), unbound),
            Resolver("BIND", _version("named", "-v"), named),
        ]


@contextlib.contextmanager
def _served(program: str, conf: str, folder: Path, root: int, flags: list[str]) -> Iterator[int]:
    port = _free_port()
    path = folder / f"{program}.conf"
    path.write_text(conf.format(port=port, folder=folder, root=root))
    with (folder / f"{program}.err").open("wb") as errors:
        process = subprocess.Popen([_path(program), *flags, str(path)], stdin=subprocess.DEVNULL, stderr=errors)
    try:
        _wait_until_ready(process, port, folder)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _ours(folder: Path, upstream: int) -> Iterator[int]:
    from p2pdns.cli.demo.swarm import Swarm
    from p2pdns.config import read_address

    with Swarm(folder, "conformance bench") as swarm:
        node = swarm.start("ours", "--dns", f"{HOST}:0", "--upstream", f"{HOST}:{upstream}")
        addresses = swarm.wait_until_ready(node)["dns_addresses"]
        yield read_address(addresses[0])[1]


def _path(program: str) -> str:
    path = shutil.which(program, path=SYSTEM_PATH)
    assert path, program
    return path


def _version(program: str, flag: str) -> str:
    done = subprocess.run([_path(program), flag], capture_output=True, text=True, check=False)
    return next((word for word in done.stdout.split() if word[:1].isdigit()), "?")


def _free_port() -> int:
    """Return a port that is free for UDP and TCP now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((HOST, 0))
            with contextlib.suppress(OSError):
                tcp.bind(udp.getsockname())
                return int(udp.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    query = dns.message.make_query("www.example", "A")
    for _ in range(READY_TRIES_MAX):
        assert process.poll() is None, _said(folder)
        with contextlib.suppress(dns.exception.Timeout, OSError):
            reply = dns.query.udp(query, HOST, port=port, timeout=READY_TRY_S)
            if reply.answer:
                return
    raise AssertionError(f"no answer: {_said(folder)}")


def _said(folder: Path) -> str:
    logs = [path.read_text(errors="replace") for path in folder.iterdir() if path.suffix in (".err", ".log")]
    return "\n".join(logs)[-2000:]
