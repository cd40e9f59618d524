"""`import`: makes a zone file of an ordinary domain, by transfer from its servers or by asking for the usual names.

Guarantees: exit 0 only if the file has a record; half a transfer is never taken; only the server of `--server`, or the
upstream resolvers and the domain's own public name servers are asked, within a minute. Does not know the key that will
sign the zone, and publishes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pdns.addresses import Address, is_non_public, read_address, write_address
from p2pdns.cli import completion, files, settings, ui
from p2pdns.cli.names import read_name
from p2pdns.cli.resolve import DoesNotExist
from p2pdns.cli.settings import Given
from p2pdns.cli.verbs import Verb
from p2pdns.clock import unix_now
from p2pdns.config import Config
from p2pdns.dns.message import RR, Question
from p2pdns.dns.message.rdata import names_in
from p2pdns.dns.name import Name
from p2pdns.dns.registry import DNS_PORT, Rcode, Type
from p2pdns.errors import ConfigError, Unavailable, UsageError, abridged, counted
from p2pdns.items.item import SEQ_PER_SECOND
from p2pdns.moving import imported
from p2pdns.moving.gathering import ServerReply, gather
from p2pdns.naming import is_zone_key_label

if TYPE_CHECKING:
    from p2pdns.signer.tsig import Key
from p2pdns.publishing.dates import date_of

FIRST_S_MAX = 6.0  # For the first question to each server. A resolver says SERVFAIL after some seconds.
QUESTION_S_MAX = 3.0  # For each of some 200 questions. A resolver that knows nothing says so within this time.
GATHER_S_MAX = 60.0  # For all of them; what is left then is named in the file as not answered.
TRANSFER_S_MAX = 20.0  # For one transfer. An item holds some 60 records, so a zone that takes longer is of no use.
AT_ONCE_MAX = 8  # Questions on their way; more look like an attack to some resolvers.
TRANSFERS_MAX = 6  # Addresses of name servers that are tried; a zone that the first ones refuse is refused by all.
PROBE_BYTES = 10
ZONE_FILE_MODE = 0o644
STANDARD_OUTPUT = "-"

_SERVER_HINT = "--server 192.0.2.53, or with a port --server 192.0.2.53:5353"
_RESOLVERS_HINT = "name one of its name servers with --server ADDR, or a resolver in [upstream] servers"


@dataclass(frozen=True)
class _FoundZone:
    """The records of a domain, where they are from, and the comments about them."""

    records: Sequence[RR]
    how: str
    remarks: Sequence[str] = ()
    unanswered_count: int = 0
    circles: Sequence[Name] = ()


class _Servers:
    """The servers that are asked: `--server`, or the upstream resolvers, of which the first that replies stays."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = tuple(addresses)
        self._deadline = time.monotonic() + GATHER_S_MAX

    @property
    def shown(self) -> str:
        return write_address(self._addresses[0])

    def first(self, question: Question) -> ServerReply:
        """Return the reply of the first server that has one, and ask that one from now on; Unavailable without one."""
        # Loaded late: a list of verbs needs no DNS library.
        from p2pdns.cli.dnsclient import ask_for_records

        trouble: Unavailable | None = None
        for address in self._addresses:
            try:
                reply = ask_for_records(question, address, timeout_s=FIRST_S_MAX)
            except Unavailable as error:
                trouble = trouble or error
                continue
            self._addresses = (address,)
            return reply
        assert trouble is not None, "there is a server"
        raise Unavailable(trouble.what, place=trouble.place, hint=_RESOLVERS_HINT)

    def each(self, questions: Sequence[Question]) -> list[ServerReply | None]:
        """Return the reply to each question, None where there was none in time."""
        with ThreadPoolExecutor(AT_ONCE_MAX) as pool:
            return list(pool.map(self._one, questions))

    def _one(self, question: Question) -> ServerReply | None:
        from p2pdns.cli.dnsclient import ask_for_records

        if time.monotonic() > self._deadline:
            return None
        try:
            return ask_for_records(question, self._addresses[0], timeout_s=QUESTION_S_MAX)
        except Unavailable:
            return None


def _read_domain(text: str, suffixes: Sequence[str]) -> Name:
    """Return the domain; UsageError for a word that means something else, so that nobody is asked for it."""
    place = files.quoted(abridged(text))
    if os.path.exists(text):
        hint = "p2pdns name import reads petnames of a file, p2pdns key import a key, p2pdns publish a zone file"
        raise UsageError("a file, and the name of an ordinary domain is needed", place=place, hint=hint)
    domain = Name.read(read_name(text)).folded()
    if not domain.labels:
        raise UsageError("the root is no domain to import", place=place, hint="p2pdns import example.com")
    ours = [Name.read(suffix).folded() for suffix in (*suffixes, "alt")]
    if any(map(is_zone_key_label, domain.labels)) or any(domain.is_at_or_below(suffix) for suffix in ours):
        hint = f"p2pdns export {abridged(text)} writes the zone of a key or petname"
        raise UsageError("a name of this network, and an ordinary domain is needed", place=place, hint=hint)
    return domain


def _servers_of(server: str | None, config: Config) -> list[Address]:
    if server is not None:
        try:
            return [read_address(server, DNS_PORT)]
        except ConfigError as trouble:
            raise UsageError(trouble.what, place=f"--server {server}", hint=_SERVER_HINT) from None
    configured = config.upstream.servers
    if configured == "system":
        from p2pdns.net.upstream.system import FILES, system_servers

        # A daemon of ours is no exception here: it forwards these questions.
        found = list(system_servers((), FILES)[0])
    else:
        found = [] if isinstance(configured, str) else [read_address(text, DNS_PORT) for text in configured]
    if not found:
        raise Unavailable("this machine has no resolver to ask", place="import", hint=_RESOLVERS_HINT)
    return found


def _check_domain(domain: Name, reply: ServerReply, shown: str) -> None:
    """Raise an error for a name that is no domain with a zone of its own."""
    place = str(domain).removesuffix(".")
    if reply.rcode == Rcode.NXDOMAIN:
        raise DoesNotExist(f"no such domain, says {shown}", place=place)
    if reply.rcode == Rcode.REFUSED:
        raise Unavailable(f"{shown} refuses to answer for this domain", place=place, hint=_RESOLVERS_HINT)
    aliases = {r.owner: names_in(r.rtype, r.rdata)[0] for r in reply.answer if r.rtype == Type.CNAME}
    name, walked = domain, {domain}
    while name in aliases:
        name = aliases[name]
        if name in walked:
            raise Unavailable("its CNAME leads back to itself", place=place, hint="there is nothing to import")
        walked.add(name)
    if reply.rcode != Rcode.NOERROR:
        word = Rcode(reply.rcode).name if reply.rcode in list(Rcode) else str(reply.rcode)
        raise Unavailable(f"{shown} has no answer ({word})", place=place, hint=_RESOLVERS_HINT)
    if name != domain:
        target = str(name).removesuffix(".")
        raise Unavailable(f"an alias of {target}", place=place, hint=f"p2pdns import {target}")
    if any(record.rtype == Type.SOA and record.owner == domain for record in reply.answer):
        return
    for record in reply.authority:
        if record.rtype == Type.SOA and domain.is_at_or_below(record.owner) and record.owner.labels:
            zone = str(record.owner).removesuffix(".")
            raise Unavailable(f"no zone of its own, but a name in {zone}", place=place, hint=f"p2pdns import {zone}")


def _name_servers(domain: Name, servers: _Servers) -> Iterator[Address]:
    """Yield the public addresses of the domain's name servers."""
    (reply,) = servers.each([Question(domain, Type.NS)])
    hosts = [names_in(r.rtype, r.rdata)[0] for r in (reply.answer if reply else ()) if r.rtype == Type.NS]
    questions = [Question(host, rtype) for host in hosts[:TRANSFERS_MAX] for rtype in (Type.A, Type.AAAA)]
    for question, found in zip(questions, servers.each(questions), strict=True):
        for record in found.answer if found else ():
            if record.rtype != question.rtype or record.owner != question.name:
                continue
            host = _host_of(record.rdata)
            # A stranger's zone must not make this machine connect to its neighbours.
            if is_non_public(host):
                ui.note(f"{host}, a name server by its zone, is not public; --server {host} asks it all the same")
            else:
                yield host, DNS_PORT


def _host_of(packed: bytes) -> str:
    import ipaddress

    return str(ipaddress.ip_address(packed))


def _by_transfer(
    domain: Name, addresses: Sequence[Address], *, is_only_way: bool, key: Key | None = None
) -> _FoundZone | None:
    from p2pdns.cli.transfer import transfer

    trouble: Unavailable | None = None
    for address in addresses[:TRANSFERS_MAX]:
        try:
            records = transfer(domain, address, timeout_s=TRANSFER_S_MAX, key=key)
        except Unavailable as error:
            trouble = error
            if not is_only_way:
                ui.note(str(error))
            continue
        return _FoundZone(records, f"{write_address(address)} by transfer (AXFR), which is the whole zone")
    if is_only_way:
        raise trouble or Unavailable(
            "no public name server is known", place=str(domain).removesuffix("."), hint="--server ADDR names one"
        )
    return None


def _read_tsig(path: str, by: str | None) -> Key:
    """Return the first key of a file, as tsig-keygen writes it."""
    from p2pdns.signer.tsig import read_keys

    if by == "questions":
        raise UsageError("--tsig is for a transfer", place="import", hint="leave out --tsig, or --by questions")
    keys = read_keys(files.read_text(path), path)
    files.refuse_if_others_may_read(path)
    return next(iter(keys.values()))


def _by_questions(domain: Name, servers: _Servers, soa: Sequence[RR]) -> _FoundZone:
    with ui.progress() as line:
        line.update("asking for the usual names")
        probe = f"p2pdns-{os.urandom(PROBE_BYTES).hex()}".encode()
        found = gather(domain, servers.each, probe)
    how = f"{servers.shown} by questions for the usual names, so it may miss some"
    remarks = imported.remarks_of(found, domain)
    return _FoundZone([*soa, *found.records], how, remarks, len(found.unanswered), found.circles)


@click.command("import", cls=Verb)
@click.argument("domain", metavar="DOMAIN")
@click.option("--server", metavar="ADDR[:PORT]", help="Ask this name server only, for a transfer and for names.")
@click.option(
    "--by", type=click.Choice(["transfer", "questions"]), help="Take this way only; without it, the second if need be."
)
@click.option(
    "--tsig",
    "tsig_file",
    metavar="FILE",
    help="Sign the transfer with the first key of FILE, as tsig-keygen writes it; there is no second way then.",
    shell_complete=completion.a_file,
)
@click.option("-o", "--output", metavar="FILE", help="Write the zone file to FILE, which must not exist yet.")
@settings.usual_options
def import_(
    domain: str, server: str | None, by: str | None, tsig_file: str | None, output: str | None, given: Given
) -> None:
    """Make a zone file of what the name servers of DOMAIN say.

    A transfer (AXFR) from its name servers gives the whole zone, but few allow it. Otherwise the usual names are asked
    for, of web, mail, chat and others, through the resolvers of this machine. The file says in comments what was asked,
    what cannot be seen and what was left out. Nothing is published.
    """
    config = given.config()
    name = _read_domain(domain, config.dns.suffixes)
    output = None if output == STANDARD_OUTPUT else output
    if output is not None:
        files.refuse_existing(output)
    if given.as_json and output is None:
        hint = f"p2pdns import --json {domain} -o FILE"
        raise UsageError("with --json the zone file needs a file", place="import", hint=hint)
    key = None if tsig_file is None else _read_tsig(tsig_file, by)
    servers = _Servers(_servers_of(server, config))
    reply = servers.first(Question(name, Type.SOA))
    _check_domain(name, reply, servers.shown)
    found: _FoundZone | None = None
    if by != "questions":
        addresses = [read_address(server, DNS_PORT)] if server is not None else list(_name_servers(name, servers))
        found = _by_transfer(name, addresses, is_only_way=by == "transfer" or key is not None, key=key)
    if found is None:
        found = _by_questions(name, servers, [record for record in reply.answer if record.rtype == Type.SOA])
    _write(name, found, output, given)


def _write(domain: Name, found: _FoundZone, output: str | None, given: Given) -> None:
    shown = str(domain).removesuffix(".")
    serials = [int.from_bytes(record.rdata[-20:-16]) for record in found.records if record.rtype == Type.SOA]
    serial = f", serial {serials[0]}" if serials else ""
    head = f"The zone {shown}{serial}, from {found.how}; read {date_of(int(unix_now()) * SEQ_PER_SECOND)}."
    use = f"Names are relative, so p2pdns publish -k KEYFILE {output or 'FILE'} makes them names below the key."
    made = imported.zone_file(domain, found.records, [head, use, *found.remarks])
    if not made.record_count:
        hint = "the domain may have other names: its owner knows them, and a transfer shows them"
        raise Unavailable("no record was found that a zone here could have", place=shown, hint=hint)
    if output is None:
        for line in made.text.splitlines():
            ui.result(line)
    else:
        hint = "choose another name, or move the old file away"
        files.write_new(str(Path(output)), made.text.encode(), mode=ZONE_FILE_MODE, place_hint=hint)
    for words, count in made.left_out:
        ui.note(f"left out: {count} × {words}")
    for name in found.circles:
        ui.warning(f"left out: the CNAME of {name.text_in(domain)} leads back to itself")
    if found.unanswered_count:
        ui.warning(f"no answer about {counted(found.unanswered_count, 'name')}: the file says which")
    if made.size.over_bytes:
        size = f"{made.size.size_bytes} of {made.size.size_bytes_max} bytes"
        largest = ", ".join(f"{owner} {rtype} ({count} bytes)" for owner, rtype, count in made.size.largest)
        ui.note(f"more than one item: {size}, so it takes several; largest: {largest}")
    if given.as_json:
        facts = {
            "domain": shown,
            "file": output,
            "by": "transfer" if "by transfer" in found.how else "questions",
            "records": made.record_count,
            "size_bytes": made.size.size_bytes,
            "size_bytes_max": made.size.size_bytes_max,
            "left_out": dict(made.left_out),
            "unanswered": found.unanswered_count,
        }
        ui.json_result(facts)
    else:
        ui.note(f"{counted(made.record_count, 'record')} from {found.how}")
