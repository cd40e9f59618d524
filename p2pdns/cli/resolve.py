"""`resolve`: asks for a name over DNS, through the daemon's resolver, or by a node of its own.

Guarantees: exit 3 if and only if a server said that the name or the type does not exist; any other question without an
answer is exit 1; a name that ends in a petname is asked below the suffix for petnames, unless it has a final dot. Does
not know how a name is resolved.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from p2pdns.addresses import Address, read_address
from p2pdns.admin.control import ControlClient
from p2pdns.cli import completion, dnsclient, petnames, settings, ui
from p2pdns.cli.dnsclient import DnsReply, ExtendedError, Record
from p2pdns.cli.holders import show as show_holders
from p2pdns.cli.holders import zone_in
from p2pdns.cli.names import read_name
from p2pdns.cli.petnames import Book
from p2pdns.cli.settings import Given
from p2pdns.cli.verbs import Verb
from p2pdns.config import Config
from p2pdns.dns.registry import DNS_PORT
from p2pdns.errors import ConfigError, P2pdnsError, Unavailable, UsageError

HOLDERS_HINT = "p2pdns resolve NAME --holders"
TROUBLE_S_MAX = 2.0  # For additions to an answer: a daemon that hangs must not keep the answer back.


class DoesNotExist(P2pdnsError):
    """A server said that there is no such name, or no such type at it."""

    exit_code = 3


@dataclass(frozen=True)
class TypedQuestion:
    """The question of the command line: a name, a type, and the server if one is named."""

    name: str
    type: str
    server: Address | None


def _is_address(text: str) -> bool:
    try:
        return bool(read_address(text, DNS_PORT))
    except ConfigError:
        return False


def read_words(words: tuple[str, ...]) -> TypedQuestion:
    """Return the question of `NAME [TYPE] [@ADDR[:PORT]]`; the server may come first, too."""
    servers = [word[1:] for word in words if word.startswith("@")]
    others = [word for word in words if not word.startswith("@")]
    if not others or len(others) > 2 or len(servers) > 1:
        hint = "p2pdns resolve NAME [TYPE] [@ADDR:PORT]"
        if len(others) == 3 and not servers and _is_address(others[2]):
            hint = f"p2pdns resolve {others[0]} {others[1]} @{others[2]}"
        raise UsageError("one name, at most one type and at most one server", place="resolve", hint=hint)
    server = None
    if servers:
        try:
            server = read_address(servers[0], DNS_PORT)
        except ConfigError as trouble:
            raise UsageError(trouble.what, place=f"@{servers[0]}", hint="@127.0.0.1:5300") from None
    name, rtype = others[0], others[1] if len(others) == 2 else "A"
    if not dnsclient.is_type(rtype) and dnsclient.is_type(name):
        raise UsageError("the NAME comes first, then the TYPE", place="resolve", hint=f"p2pdns resolve {rtype} {name}")
    return TypedQuestion(read_name(name), dnsclient.read_type(rtype), server)


def _with_petname(asked: TypedQuestion, book: Book, *, is_short: bool) -> TypedQuestion:
    """Return the question with the full form of a name that ends in a petname."""
    # A named server does not know the petnames of this machine, so it is asked by the key.
    name = book.full_name(asked.name, by_key=asked.server is not None)
    if name != asked.name and not is_short:
        petname = book.petname_in(asked.name)
        assert petname is not None, "only petnames change a name"
        ui.note(f"the petname {petname} stands for {book.names[petname].key}: asking for {name}")
    return replace(asked, name=name)


def _book_of_anybody(config: Config, state_flag: str | None) -> Book:
    """Return the petnames for a question to a named server; a problem with the local state must not prevent it."""
    try:
        return petnames.load(config, settings.state_dir(state_flag), timeout_s=TROUBLE_S_MAX)
    except (P2pdnsError, OSError):
        return petnames.configured(config)


def _server_of(config: Config, client: ControlClient) -> Address:
    if not config.dns.listen:
        raise UsageError("the configuration has no DNS address", hint="name a server: @127.0.0.1:5300")
    host, port = read_address(config.dns.listen[0], DNS_PORT)
    if port == 0:
        # The daemon picked the port, so only the daemon knows it.
        addresses = client.call("status")["status"].get("dns_addresses") or []
        if not addresses:
            raise Unavailable("the running daemon answers no DNS", hint="resolve --direct asks the overlay itself")
        host, port = read_address(addresses[0], DNS_PORT)
    return dnsclient.ANY_ADDRESS.get(host, host), port


def _show_reply(reply: DnsReply, *, is_short: bool) -> None:
    for record in reply.answer:
        ui.result(record.data if is_short else str(record))
    if is_short:
        return
    for record in reply.authority:
        ui.note(f"authority: {record}")
    flags = f", flags {' '.join(reply.flags)}" if reply.flags else ""
    ui.note(f"{reply.rcode} from {reply.server} over {reply.transport} in {reply.ms:.1f} ms{flags}")
    if reply.rcode == "NOERROR":
        for reason in reply.extended_errors:
            ui.note(str(reason))


def _petname_hint(name: str, book: Book) -> str | None:
    """Return the hint for a name without an answer: a near petname, or the same name without its final dot."""
    bare = book.without_suffix(name)
    last = bare.rpartition(".")[2].lower()
    if last in book.names:
        return f'without its final dot {name} ends in the petname "{last}"' if bare == name else None
    return book.hint_for(last)


def _raise_unless_answered(reply: DnsReply, book: Book) -> None:
    name = reply.name.removesuffix(".") or "."
    hint = _petname_hint(name, book)
    reasons = "; ".join(str(reason) for reason in reply.extended_errors)
    if reply.rcode == "NXDOMAIN":
        raise DoesNotExist(": ".join(filter(None, ["no such name (NXDOMAIN)", reasons])), place=name, hint=hint)
    if reply.rcode != "NOERROR":
        raise Unavailable(": ".join(filter(None, [f"no answer ({reply.rcode})", reasons])), place=name, hint=hint)
    # An answer with nothing but a chain of aliases is NODATA.
    if not any(record.type == reply.type for record in reply.answer) and reply.type != "ANY":
        raise DoesNotExist(f"the name has no {reply.type} records (NODATA)", place=name)


def _traced(client: ControlClient, asked: TypedQuestion) -> tuple[DnsReply, list[str]]:
    began = time.perf_counter()
    found: dict[str, Any] = client.call("trace", name=asked.name, type=asked.type)
    answer = found["answer"]
    reply = DnsReply(
        name=asked.name,
        type=asked.type,
        server="the running daemon",
        transport="control",
        rcode=answer["rcode"],
        flags=("provisional",) if answer.get("provisional") else (),
        answer=tuple(Record(**record) for record in answer["answer"]),
        authority=tuple(Record(**record) for record in answer["authority"]),
        extended_errors=tuple(
            ExtendedError(entry["code"], dnsclient.meaning_of(entry["code"]), entry["text"]) for entry in answer["ede"]
        ),
        ms=(time.perf_counter() - began) * 1000,
    )
    return reply, list(found["trace"])


def _troubles(state: Path, reply: DnsReply) -> dict[str, str]:
    """Return the zones of an answer that too few other nodes hold, with the reason; only the daemon's own zones."""
    names = dict.fromkeys([reply.name, *(record.owner for record in reply.answer)])
    try:
        client = ControlClient(state, timeout_s=TROUBLE_S_MAX)
        troubles: dict[str, str] = client.call("copies", names=list(names))["troubles"]
    except P2pdnsError:
        # No daemon, another user's, or an older one: the answer is shown without a warning.
        return {}
    return troubles


@click.command(cls=Verb)
@click.argument(
    "words", nargs=-1, required=True, metavar="NAME [TYPE] [@ADDR:PORT]", shell_complete=completion.a_question
)
@click.option("--trace", is_flag=True, help="Show every step of the daemon's resolver.")
@click.option("--direct", is_flag=True, help="Ask the overlay by a node of its own, not a daemon.")
@click.option("--short", is_flag=True, help="Print the data only.")
@click.option("--holders", is_flag=True, help="Show which node near the zone of NAME has which edition of it.")
@settings.overlay_options
def resolve(words: tuple[str, ...], trace: bool, direct: bool, short: bool, holders: bool, given: Given) -> int:
    """Look up a name: www.KEY, www.KEY.p2p.alt, www.PETNAME, or any other. TYPE is A unless given.

    It asks the DNS server of the configuration, or the one after the "@".
    """
    asked = read_words(words)
    is_direct = direct or given.names_an_overlay
    if trace + is_direct + (asked.server is not None) > 1:
        raise UsageError("--trace, --direct and @ADDR:PORT exclude each other", place="resolve")
    config = given.config()
    if holders:
        if trace or direct or short or asked.server is not None:
            raise UsageError("--holders goes with no other way to ask", place="resolve", hint=HOLDERS_HINT)
        book = petnames.load(config, given.state())
        show_holders(zone_in(asked.name, book), book, config, given)
        return 0
    if asked.server is None:
        # Only the daemon has a trace, so a daemon that refuses to be asked is an error.
        client = settings.daemon(given.state_flag) if trace else ControlClient(given.state())
        state = client.path.parent
        book = petnames.load(config, state)
    else:
        book = _book_of_anybody(config, given.state_flag)
    asked = _with_petname(asked, book, is_short=short)
    steps: list[str] = []
    if trace:
        reply, steps = _traced(client, asked)
    elif is_direct:
        # Loaded late: a question over DNS needs neither an event loop nor a node.
        import asyncio

        from p2pdns.cli.node import resolve_directly

        reply = asyncio.run(resolve_directly(replace(config, names=book.keys), asked.name, asked.type))
    else:
        reply = dnsclient.ask(asked.name, asked.type, asked.server or _server_of(config, client))
    troubles = {} if is_direct or trace or asked.server is not None else _troubles(state, reply)
    for key, trouble in troubles.items():
        ui.warning(f"zone {key}: {trouble}")
    if given.as_json:
        more: dict[str, Any] = {"trace": steps} if trace else {}
        ui.json_result(more | asdict(reply) | ({"troubles": troubles} if troubles else {}))
    else:
        for number, step in enumerate(steps, 1):
            ui.result(f"{number:2}  {step}")
        _show_reply(reply, is_short=short)
    _raise_unless_answered(reply, book)
    return 0
