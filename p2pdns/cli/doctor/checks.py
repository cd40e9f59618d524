"""The checks of `doctor`, one function each: the settings of this machine that names of keys depend on.

Guarantees: a check changes nothing; a check that cannot see its subject says "cannot tell", and does not guess. Does
not know how verdicts are shown.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from p2pdns.addresses import write_address
from p2pdns.cli.dnsclient import DnsReply
from p2pdns.cli.doctor.machine import Machine, is_here
from p2pdns.dns.registry import DNS_PORT
from p2pdns.errors import counted, words_of

MEBIBYTE = 1_048_576
DISK_BYTES_MIN = 16 * MEBIBYTE  # A full store of the default size takes some 20 MB.
DISK_BYTES_FEW = 128 * MEBIBYTE  # Below that other programs' logs may fill it overnight.
CONTACTS_FEW = 5  # With fewer, one bad night of the others takes a zone away.
DROP_IN = "/etc/systemd/resolved.conf.d/p2pdns.conf"
RESOLVED_STUBS = ("127.0.0.53", "127.0.0.54")
RESOLVED_FILES = ("/etc/systemd/resolved.conf", "/run/systemd/resolved.conf", "/usr/lib/systemd/resolved.conf")
RESOLVED_FOLDERS = tuple(f"{folder}/systemd/resolved.conf.d" for folder in ("/usr/lib", "/run", "/etc"))
TRUST_ANCHORS = "/etc/dnssec-trust-anchors.d"
NO_DAEMON = ("no daemon answers, and only a daemon knows this", "start it, then ask again", "p2pdns serve")

Level = Literal["ok", "warning", "problem", "cannot tell"]
Said = tuple[Level, *tuple[str, ...]]
"""A verdict without the name of its check: the level, the cause, the remedy, the command."""


@dataclass(frozen=True)
class Finding:
    """A check's verdict. All but "ok" have a cause and a remedy; a problem has a command to type as well."""

    check: str
    level: Level
    cause: str = ""
    remedy: str = ""
    command: str = ""


SaidBy = Callable[[Machine], Said]
Check = Callable[[Machine], Finding]


def _check(name: str, *, needs_daemon: bool = False, told_as: Sequence[str] = ()) -> Callable[[SaidBy], Check]:
    """Make a check of a function; a problem that the daemon itself reports under `told_as` comes first."""

    def made(judge: SaidBy) -> Check:
        @functools.wraps(judge)
        def check(machine: Machine) -> Finding:
            if needs_daemon and not machine.facts:
                return Finding(name, "cannot tell", *NO_DAEMON)
            for problem in (problem for about in told_as for problem in _told(machine, about)):
                return Finding(name, "problem", problem["cause"], problem["remedy"], problem["command"])
            return Finding(name, *judge(machine))

        return check

    return made


@_check("daemon")
def daemon(machine: Machine) -> Said:
    """Is there a daemon, and does its front answer?"""
    if not machine.facts:
        return "problem", "no daemon answers", "start one", "p2pdns serve"
    if not machine.own_servers:
        return "ok", "answers no DNS, as it was started"
    for server in machine.own_servers:
        if not is_here(server[0]):
            continue
        reply = machine.ask("localhost", "A", server)
        if isinstance(reply, str):
            cause = f"{write_address(server)}: the daemon runs, and its DNS port gives no answer: {reply}"
            return "problem", cause, "its log says why", "journalctl -u p2pdns -n 50"
        if reply.rcode == "REFUSED":
            cause = f"{write_address(server)}: this machine is not allowed to ask"
            return "problem", cause, "add its network to [dns] allow, then reload", "p2pdns reload"
    return ("ok",)


@_check("port 53")
def port_53(machine: Machine) -> Said:
    """Do the programs of this machine ask the daemon? They ask port 53 of the servers in /etc/resolv.conf only."""
    hosts = machine.nameservers
    if machine.read("/etc/resolv.conf") is None:
        remedy = "make it, with the line: nameserver 127.0.0.1"
        return "problem", "/etc/resolv.conf: cannot be read", remedy, "ls -lL /etc/resolv.conf"
    # Without a nameserver line the C library asks this machine (resolv.conf(5)).
    first = hosts[0] if hosts else "127.0.0.1"
    if machine.leads_here(first):
        return "ok", f"{first} leads to the daemon"
    if not is_here(first) and names_of_keys(machine).level == "ok":
        # A router may ask this daemon for all machines of its network.
        return "ok", f"{first} finds names of keys"
    own = [server for server in machine.own_servers if server[1] == DNS_PORT]
    if machine.leads_here(first) is None:
        cause = f"/etc/resolv.conf names {first}, and nobody answers there"
    else:
        cause = f"programs ask {first} (/etc/resolv.conf), which does not lead to the daemon"
    if own:
        remedy = f"name the daemon there instead: nameserver {own[0][0]}"
        return "problem", cause, remedy, f"p2pdns resolve localhost @{write_address(own[0])}"
    if machine.facts and not machine.own_servers:
        return "warning", cause, "this daemon answers no DNS, so nothing can", "p2pdns status"
    where = ", ".join(map(write_address, machine.own_servers)) or "another port"
    cause = f"{cause}; it answers at {where}"
    remedy = 'let it answer at port 53, [dns] listen = ["127.0.0.1:53"], and name it in /etc/resolv.conf'
    return "problem", cause, remedy, "ss -lnup sport = :53"


@_check("second nameserver")
def second_nameserver(machine: Machine) -> Said:
    """Is another name server asked beside the daemon? It denies all names of keys, and its answer may come first."""
    hosts = machine.nameservers
    if any(host in RESOLVED_STUBS for host in hosts):
        return _second_in_resolved(machine)
    ours = [host for host in hosts if machine.leads_here(host)]
    others = [host for host in hosts if not machine.leads_here(host)]
    if not ours or not others:
        return ("ok",)
    cause = (
        f"/etc/resolv.conf names {', '.join(others)} beside {', '.join(ours)}: a program that asks both, or the next "
        "one after a lost packet, hears from it that no key exists"
    )
    remedy = "leave the daemon alone there; it asks the others itself for ordinary names"
    return "problem", cause, remedy, "grep -n ^nameserver /etc/resolv.conf"


def _second_in_resolved(machine: Machine) -> Said:
    done, domains = machine.run("resolvectl", "dns"), machine.run("resolvectl", "domain")
    if done is None or done.status or domains is None:
        cause = "systemd-resolved is asked, and resolvectl does not tell which servers it asks"
        return "cannot tell", cause, f"DNS= with the daemon alone and Domains=~. in {DROP_IN}"
    servers: dict[str, list[str]] = {}
    for line in done.output.splitlines():
        scope, _, words = line.partition(":")
        servers[scope.strip()] = words.split()
    total = servers.pop("Global", [])
    links = [word for words in servers.values() for word in words]
    is_routed = any(
        line.startswith("Global") and "~." in line.partition(":")[2].split() for line in domains.output.splitlines()
    )
    own = {write_address(server) for server in machine.own_servers}
    own |= {host for host, port in machine.own_servers if port == DNS_PORT}
    foreign = [word for word in total if word.partition("#")[0] not in own] if own & set(total) else []
    if foreign or (own & set(total) and links and not is_routed):
        cause = f"systemd-resolved asks {', '.join(foreign or links)} beside the daemon, and takes what comes first"
        remedy = f"DNS= with the daemon alone and Domains=~. below [Resolve] in {DROP_IN}"
        return "problem", cause, remedy, "systemctl restart systemd-resolved"
    return ("ok",)


@_check("upstream", needs_daemon=True)
def upstream(machine: Machine) -> Said:
    """Which servers answer ordinary names, and do they?"""
    facts = machine.facts.get("upstream") or {}
    servers = ", ".join(facts.get("servers") or [])
    if facts.get("setting") == "none":
        return "ok", "none, as configured"
    asked = [server for server in machine.own_servers if is_here(server[0])]
    if not servers:
        for problem in _told(machine, "upstream"):
            return "problem", problem["cause"], problem["remedy"], problem["command"]
    if not asked:
        return "cannot tell", "the daemon answers no DNS on this machine", "see p2pdns status"
    name = machine.unknown_name()
    reply = machine.ask(name, "A", asked[0])
    if isinstance(reply, DnsReply) and reply.rcode in ("NOERROR", "NXDOMAIN"):
        return "ok", servers
    if isinstance(reply, str):
        words = reply
    else:
        words = "; ".join([reply.rcode, *(str(reason) for reason in reply.extended_errors)])
    cause = f"{servers or 'nobody'} gives the daemon no answer for {name}: {words}"
    remedy = "see whether the network is up; else name another server in [upstream] servers, then reload"
    return "problem", cause, remedy, "p2pdns reload"


@_check("getent", needs_daemon=True)
def names_of_keys(machine: Machine) -> Said:
    """Does the C library find a name of a key? getent asks it as every program does."""
    known = _known_name(machine)
    if known is None:
        cause = "no zone with an address is known here to look for"
        return "cannot tell", cause, "name one", "p2pdns doctor --name www.KEY"
    name, addresses = known
    done = machine.run("getent", "ahosts", name)
    if done is None:
        return "cannot tell", "there is no getent, or it does not end", "ask with another program"
    seen = {line.split()[0] for line in done.output.splitlines() if line.split()}
    if seen & addresses:
        return "ok", name
    what = f"sees {', '.join(sorted(seen))}" if seen else "does not find it"
    cause = f"{name}: the daemon answers {', '.join(sorted(addresses))}, and getent {what}"
    remedy = "mend what the checks port 53, second nameserver and nsswitch say; programs that ran before may remember"
    return "problem", cause, remedy, f"getent ahosts {name}"


def _known_name(machine: Machine) -> tuple[str, set[str]] | None:
    """Return a name of a key with the addresses that the daemon answers for it."""
    asked = [server for server in machine.own_servers if is_here(server[0])]
    if not asked:
        return None
    zones = [str(zone.get("key")) for zone in machine.facts.get("zones") or []][:3]
    for name in [machine.name] if machine.name else [name for key in zones for name in (f"www.{key}", key)]:
        replies = [machine.ask(name, rtype, asked[0]) for rtype in ("A", "AAAA")]
        found = {
            record.data
            for reply in replies
            if isinstance(reply, DnsReply)
            for record in reply.answer
            if record.type in ("A", "AAAA")
        }
        if found:
            return name, found
    return None


@_check("nsswitch")
def nsswitch(machine: Machine) -> Said:
    """Does the C library ask DNS at all?"""
    lines = [line.partition("#")[0].split() for line in (machine.read("/etc/nsswitch.conf") or "").splitlines()]
    words = next((line[1:] for line in lines if line[:1] == ["hosts:"]), ["dns", "files"])
    if "dns" in words or "resolve" in words:
        return ("ok",)
    cause = f"/etc/nsswitch.conf: hosts: {' '.join(words)}: the C library asks no name server"
    return "problem", cause, "add dns to that line", "grep -n ^hosts: /etc/nsswitch.conf"


@_check("resolved")
def resolved(machine: Machine) -> Said:
    """Does systemd-resolved check DNSSEC? No chain of signatures leads to a key, so it would refuse the answers."""
    hosts_line = machine.read("/etc/nsswitch.conf") or ""
    is_asked = any(host in RESOLVED_STUBS for host in machine.nameservers)
    if not is_asked and not any(
        "resolve" in line.split() for line in hosts_line.splitlines() if line.startswith("hosts:")
    ):
        return "ok", "not used"
    setting, place = _dnssec_setting(machine)
    if setting is None:
        cause = "systemd-resolved is asked, and neither resolvectl nor its files say whether it checks DNSSEC"
        return "cannot tell", cause, f"DNSSEC=no below [Resolve] in {DROP_IN}"
    if setting in ("no", "false", "0", "off"):
        return "ok", f"DNSSEC={setting}"
    cause = f"systemd-resolved checks DNSSEC ({place}: {setting}), and no chain of signatures leads to a key"
    remedy = f"DNSSEC=no below [Resolve] in {DROP_IN}; the daemon still passes on what its upstream has checked"
    anchors = "\n".join(machine.read(path) or "" for path in machine.files(TRUST_ANCHORS, ".negative")).split()
    level: Level = "problem"
    if machine.suffixes and all(suffix in anchors for suffix in machine.suffixes):
        level, cause = "warning", f"{cause}; below {', '.join(machine.suffixes)} it does not, keys alone it refuses"
    return level, cause, remedy, "systemctl restart systemd-resolved"


def _dnssec_setting(machine: Machine) -> tuple[str | None, str]:
    done = machine.run("resolvectl", "dnssec")
    if done is not None and done.status == 0:
        words = [line.partition(":")[2].strip() for line in done.output.splitlines()]
        checking = [word for word in words if word and word != "no"]
        return (checking or words or ["no"])[0], "resolvectl dnssec"
    # systemd reads the first main file, then the files of all folders by name; the last setting counts.
    paths = [path for path in RESOLVED_FILES if machine.read(path) is not None][:1]
    by_name = {path.rpartition("/")[2]: path for folder in RESOLVED_FOLDERS for path in machine.files(folder, ".conf")}
    found: tuple[str | None, str] = (None, "")
    for path in [*paths, *(by_name[name] for name in sorted(by_name))]:
        for line in (machine.read(path) or "").splitlines():
            key, _, value = line.strip().partition("=")
            if key.strip() == "DNSSEC" and value.strip():
                found = value.strip().lower(), path
    return found


@_check("reachability", needs_daemon=True)
def reachability(machine: Machine) -> Said:
    """Can other nodes reach this one, or is a NAT in between?"""
    families: dict[str, Any] = machine.facts.get("families") or {}
    if not machine.facts.get("contacts"):
        return "cannot tell", "no other node says how it sees this one", "see the check contacts"
    closed = {name: family for name, family in families.items() if family.get("read_only")}
    if not families or len(closed) < len(families):
        return "ok", "; ".join(str(family.get("read_only_reason")) for family in families.values())
    name, family = next(iter(closed.items()))
    reason = str(family.get("read_only_reason"))
    if reason == "the settings say so":
        return "ok", "read-only, as configured"
    port = str(family.get("address")).rpartition(":")[2]
    cause = f"{name}: this node looks names up, and keeps nothing for others: {reason}"
    if reason.startswith("bound to"):
        remedy = "let it listen at 0.0.0.0 below [dht], if others are to reach it"
        return "warning", cause, remedy, "p2pdns status"
    seen = family.get("address_seen")
    where = "" if seen is None or is_here(str(seen).rpartition(":")[0].strip("[]")) else "in the router, "
    remedy = f"{where}let UDP port {port} through to this machine"
    return "warning", cause, remedy, "p2pdns status"


@_check("clock", told_as=("clock",))
def clock(machine: Machine) -> Said:
    """Is the clock right? Signatures are dated and judged by it."""
    done = machine.run("timedatectl", "show", "-p", "NTPSynchronized", "--value")
    if done is not None and done.status == 0 and done.output.strip() == "no":
        cause = "timedatectl says that nobody keeps this clock right"
        return "warning", cause, "turn time synchronization on", "timedatectl set-ntp true"
    return ("ok",)


@_check("contacts", needs_daemon=True)
def contacts(machine: Machine) -> Said:
    """Are there other nodes?"""
    for problem in _told(machine, "contacts"):
        # The daemon names `doctor` as the command, and this is `doctor`.
        command = "p2pdns status" if problem["command"] == "p2pdns doctor" else problem["command"]
        return "problem", problem["cause"], problem["remedy"], command
    count = int(machine.facts.get("contacts") or 0)
    if count < CONTACTS_FEW:
        cause = f"{counted(count, 'other node')} known: a zone is lost when they are off at once"
        return "warning", cause, "let more nodes join this network", "p2pdns status"
    return "ok", str(count)


@_check("copies", needs_daemon=True, told_as=("copies",))
def copies(machine: Machine) -> Said:
    """Do enough other nodes keep the zones of this daemon?"""
    return ("ok",)


@_check("disk", needs_daemon=True, told_as=("state",))
def disk(machine: Machine) -> Said:
    """Has the disk room for the state?"""
    place = machine.facts.get("state")
    if not place:
        return "cannot tell", *NO_DAEMON
    try:
        free = shutil.disk_usage(place).free
        inodes = os.statvfs(place)
    except OSError as error:
        words = words_of(error)
        return "cannot tell", f"{place}: {words}", "ask as root, or as the user of the daemon"
    # A file system without a limit of inodes reports 0 of them.
    is_out_of_inodes = bool(inodes.f_files) and inodes.f_favail == 0
    if free >= DISK_BYTES_FEW and not is_out_of_inodes:
        return "ok", f"{free // MEBIBYTE} MiB free"
    what = "no inode is left" if is_out_of_inodes else f"{free / MEBIBYTE:.1f} MiB are left"
    level: Level = "problem" if is_out_of_inodes or free < DISK_BYTES_MIN else "warning"
    cause = f"{place}: {what}; when the disk is full, nothing new survives a restart"
    return level, cause, "make room on that disk", f"df -h {place}"


@_check("daemon's own", needs_daemon=True, told_as=("configuration", "block"))
def told(machine: Machine) -> Said:
    """Does the daemon report a problem that no other check asks about?"""
    return ("ok",)


def _told(machine: Machine, about: str) -> list[dict[str, str]]:
    return [problem for problem in machine.facts.get("problems") or [] if problem.get("about") == about]


CHECKS: tuple[Check, ...] = (
    *(daemon, port_53, second_nameserver, resolved, nsswitch, names_of_keys, upstream),
    *(contacts, reachability, copies, clock, disk, told),
)
"""In the order of a question's way: from the program to the daemon, and on to other nodes."""
