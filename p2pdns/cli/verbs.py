"""The verbs, their groups and synonyms, and the form of their help.

Guarantees: the error for an unknown verb has a true hint: the verb that was meant, or what to do instead; the summary
of a verb is a whole sentence; every help ends in examples. Does not know how a verb does what its summary says: each is
loaded when it is used, so neither `keygen` nor `--help` loads the resolver.
"""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import click

from p2pdns.cli.examples import EXAMPLES
from p2pdns.errors import UsageError, abridged, did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SUMMARY_CHARACTERS_MAX = 1_000  # No summary is cut: it is a sentence, and wraps at the end of the line.

# Each verb with its module, in groups, in the order of a first visit.
GROUPS: dict[str, dict[str, str]] = {
    "Keys and zones": {
        "keygen": "keys",
        "pubkey": "keys",
        "key": "key",
        "check": "zones",
        "diff": "diff",
        "publish": "publish",
        "signer": "signer",
        "unpublish": "unpublish",
        "rotate": "rotate",
        "put": "putting",
    },
    "Moving in and out": {"import": "importing", "export": "exporting"},
    "Names": {"resolve": "resolve", "inspect": "inspect", "name": "name"},
    "The daemon": {
        "serve": "serve",
        "status": "status",
        "zones": "kept",
        "doctor": "doctor",
        "peers": "peers",
        "flush": "upkeep",
        "forget": "upkeep",
        "pin": "upkeep",
        "reload": "upkeep",
    },
    "This program": {"config": "config", "demo": "demo", "sim": "sim", "completion": "completion", "help": "help"},
}
# Each verb's module. The demo has a room of its own, above this one.
VERBS = {
    verb: "p2pdns.demo" if module == "demo" else f"p2pdns.cli.{module}"
    for group in GROUPS.values()
    for verb, module in group.items()
}

# The first sentence of the help of each verb. A list of verbs, in a help or on the Tab key, needs no verb loaded.
SUMMARIES: dict[str, str] = {
    "keygen": "Make a key.",
    "pubkey": 'Print the zone key of KEYFILE ("-" is standard input): the name of its zone.',
    "key": "Take a key over from another program, and write it down as words or read it from them.",
    "check": "Check configurations (*.toml) and zone files (any other name), without sending anything.",
    "diff": "Show what publishing ZONEFILE would change in the zone that the overlay has now.",
    "publish": "Sign ZONEFILE with a key and store it in the overlay.",
    "signer": "Hold a zone's key, take changes by DNS UPDATE, and publish them, until Ctrl-C.",
    "unpublish": "Take a zone down: publish it without any record, and keep it alive no longer.",
    "rotate": "Move a zone to its next key: publish it there, then reveal that key to all readers of the old one.",
    "put": 'Put the signed item in FILE ("-" is standard input), as "inspect -o" saves it, into the overlay once.',
    "import": "Make a zone file of what the name servers of DOMAIN say.",
    "export": "Write the zone of a key as a zone file, or for unbound, dnsmasq or a hosts file.",
    "resolve": "Look up a name: www.KEY, www.KEY.p2p.alt, www.PETNAME, or any other.",
    "inspect": "Show what a zone has published, or what an item FILE holds, with its signature checked.",
    "name": "Give zone keys short names of your own (petnames), which hold on this machine only.",
    "serve": "Run a node of the overlay and answer DNS from what it finds there, until Ctrl-C.",
    "status": (
        "Show whether the running daemon is well, what is wrong with it and what to do, its zones, cache and network."
    ),
    "zones": "Show the zones that the running daemon keeps alive: your own, and those that you have pinned.",
    "doctor": "Find out why a name does not come up here: from the program that asks to the nodes that answer.",
    "peers": 'Show the contacts of the running daemon, as "wg show" does: the one that answered last comes first.',
    "flush": "Drop the cached answers of the zone that NAME is in, so that the next question is looked up again.",
    "forget": "Drop everything known of the zone KEY, and no longer keep it alive.",
    "pin": "Keep the zone KEY alive: put its newest item again and again, as its publisher would.",
    "reload": "Make the daemon read its configuration again, and say what took effect.",
    "config": "Show the configuration that holds here, whichever file and defaults it is made of.",
    "demo": "Start eight nodes on this machine, publish zones, kill the publisher, and look the names up.",
    "sim": "Run a simulated world on this machine: the real code in virtual time, by one seed.",
    "completion": (
        "Print the script that makes a shell complete p2pdns on the Tab key: verbs, flags, petnames, keys and types."
    ),
    "help": "Show how a VERB is called, with examples; without one, the list of all verbs.",
}

# Verbs that people know from other programs. By its spelling alone, `start` would be taken for `status`.
SYNONYMS: dict[str, str] = {
    **dict.fromkeys(("start", "run", "daemon", "up", "server", "listen", "node", "launch"), "serve"),
    **dict.fromkeys(("lookup", "look-up", "query", "dig", "nslookup", "drill", "host", "ask", "get"), "resolve"),
    **dict.fromkeys(("show", "cat", "view", "dump", "fetch", "print"), "inspect"),
    **dict.fromkeys(("upload", "push", "sign", "update", "post", "announce", "deploy"), "publish"),
    **dict.fromkeys(("validate", "lint", "verify", "test", "size"), "check"),
    **dict.fromkeys(("compare", "changes", "cmp", "plan"), "diff"),
    **dict.fromkeys(("genkey", "gen", "keygenerate", "generate", "new", "create", "init", "newkey"), "keygen"),
    **dict.fromkeys(("public-key", "publickey", "whoami", "id", "fingerprint"), "pubkey"),
    **dict.fromkeys(("ddns", "nsupdate", "dynamic", "ixfr", "tsig", "agent", "signd"), "signer"),
    **dict.fromkeys(("stat", "stats", "info", "state", "ps", "top", "health", "screen"), "status"),
    **dict.fromkeys(("contacts", "nodes", "neighbours", "neighbors", "netstat", "wg"), "peers"),
    **dict.fromkeys(("petname", "petnames", "names", "alias", "aliases", "hosts"), "name"),
    **dict.fromkeys(("add", "rename", "nickname"), "name add"),
    **dict.fromkeys(("ls", "list"), "name list"),
    **dict.fromkeys(("rm", "remove", "del"), "name remove"),
    **dict.fromkeys(("load", "transfer", "axfr", "migrate"), "import"),
    **dict.fromkeys(("convert", "zonefile", "unbound", "dnsmasq"), "export"),
    **dict.fromkeys(("words", "mnemonic", "backup", "paper", "bip39"), "key words"),
    **dict.fromkeys(("restore", "recover"), "key restore"),
    **dict.fromkeys(("settings", "conf", "cfg", "configuration", "options"), "config print"),
    **dict.fromkeys(("clear", "purge", "refresh", "clean"), "flush"),
    **dict.fromkeys(("follow", "seed", "mirror", "keep"), "pin"),
    **dict.fromkeys(("unpin", "unfollow", "drop"), "forget"),
    **dict.fromkeys(("store", "republish"), "put"),
    **dict.fromkeys(("hup", "reconfigure"), "reload"),
    **dict.fromkeys(("delete", "retract", "revoke", "withdraw", "takedown", "expire"), "unpublish"),
    **dict.fromkeys(("rekey", "rollover", "roll", "succeed", "move", "stolen", "revoke-key"), "rotate"),
    **dict.fromkeys(("kept", "own", "pins", "copies"), "zones"),
    **dict.fromkeys(("man", "usage", "manual", "?"), "help"),
    **dict.fromkeys(("completions", "complete", "autocomplete"), "completion"),
    **dict.fromkeys(("example", "try", "tour"), "demo"),
    **dict.fromkeys(("simulate", "simulation", "simulator", "world"), "sim"),
    **dict.fromkeys(("diagnose", "debug", "why", "troubleshoot", "trace"), "doctor"),
    "version": "--version",
}

_ENDS = 'Ctrl-C or SIGTERM ends "p2pdns serve"; p2pdns status -v shows its process, supervisor pid'
# Wishes for which there is no verb, each with what to do instead.
WITHOUT_VERB: dict[str, str] = {
    **dict.fromkeys(("stop", "kill", "quit", "exit", "shutdown", "down"), _ENDS),
    "restart": _ENDS + "; p2pdns reload reads most settings again without an end",
    "register": 'nobody registers names here: a key is a name, and "p2pdns keygen -o FILE" makes one',
    "login": 'there are no accounts here: a key file is all, and "p2pdns keygen -o FILE" makes one',
    "log": "the daemon writes its log to standard error; [status] log_level says how much",
    "logs": "the daemon writes its log to standard error; [status] log_level says how much",
}


def unknown_verb(word: str, known: Sequence[str], synonyms: Mapping[str, str], *, place: str = "") -> UsageError:
    """Return the error for an unknown verb, with the verb that was meant or with what to do instead."""
    folded = word.lower().lstrip("-")
    shown = f'"{abridged(f"{place} {word}".strip())}"'
    if not place and folded in WITHOUT_VERB:
        return UsageError("no such verb", place=shown, hint=WITHOUT_VERB[folded])
    if folded in synonyms:
        return UsageError("no such verb", place=shown, hint=f'did you mean "p2pdns {synonyms[folded]}"?')
    hint = did_you_mean(folded, known) or f"the verbs are {', '.join(known)}"
    return UsageError("no such verb", place=shown, hint=hint)


class Verb(click.Command):
    """A command whose help ends in examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_examples(ctx, formatter)


class Family(Verb, click.Group):
    """A verb with verbs of its own, such as `name add`; `aliases` are their short names."""

    command_class = Verb
    aliases: ClassVar[Mapping[str, str]] = {}
    synonyms: ClassVar[Mapping[str, str]] = {}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name or of a short name, or None."""
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb at the beginning of `args`; the error for an unknown one names the verb that was meant."""
        args = [self.aliases.get(args[0], args[0]), *args[1:]]
        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and not args[0].startswith("-") and args[0] not in known:
            place = "" if ctx.parent is None else ctx.info_name or ""
            raise unknown_verb(args[0], known, self.synonyms, place=place)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs with their summaries."""
        summaries = {}
        for verb in self.list_commands(ctx):
            command = self.get_command(ctx, verb)
            assert command is not None, "a listed verb is there"
            names = [verb, *(short for short, long in self.aliases.items() if long == verb)]
            summaries[", ".join(names)] = command.get_short_help_str(SUMMARY_CHARACTERS_MAX)
        write_summaries(formatter, "Verbs", summaries)


class NameFamily(Family):
    """The verbs about petnames."""

    aliases: ClassVar[Mapping[str, str]] = {"ls": "list", "rm": "remove"}
    synonyms: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("set", "new", "create", "assign", "put"), "name add"),
        **dict.fromkeys(("show", "all", "print", "export", "get"), "name list"),
        **dict.fromkeys(("delete", "del", "unset", "forget", "drop"), "name remove"),
        **dict.fromkeys(("load", "read", "merge", "restore"), "name import"),
    }


class KeyFamily(Family):
    """The verbs about the forms of a secret key."""

    synonyms: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("mnemonic", "paper", "show", "print", "backup", "export"), "key words"),
        **dict.fromkeys(("recover", "read"), "key restore"),
        **dict.fromkeys(("load", "convert", "add"), "key import"),
        **dict.fromkeys(("new", "generate", "gen", "make", "create"), "keygen"),
    }


class Verbs(Family):
    """The group of all verbs, each imported when it is first used."""

    synonyms: ClassVar[Mapping[str, str]] = SYNONYMS

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of a first visit."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the verb's command, or None."""
        if cmd_name not in VERBS:
            return None
        # "import" is no name that a function can have.
        attribute = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command = getattr(importlib.import_module(VERBS[cmd_name]), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs in their groups."""
        for title, group in GROUPS.items():
            write_summaries(formatter, title, {verb: SUMMARIES[verb] for verb in group})

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the verbs and flags that begin with some text."""
        # Imported here: only the Tab key needs it.
        from click.shell_completion import CompletionItem

        verbs = [verb for verb in VERBS if verb.startswith(incomplete)]
        # Some shells show a summary beside each verb, cut by click to the length of its own.
        stubs = [click.Command(verb, help=SUMMARIES[verb]) for verb in verbs]
        items = [CompletionItem(stub.name, help=stub.get_short_help_str()) for stub in stubs]
        # The method of the group would load each verb.
        return items + click.Command.shell_complete(self, ctx, incomplete)


def write_summaries(formatter: click.HelpFormatter, title: str, summaries: Mapping[str, str]) -> None:
    """Write one group of verbs, each with its short name, if it has one, and its summary."""
    with formatter.section(title):
        formatter.write_dl(list(summaries.items()))


def write_examples(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the examples of the verb of a context."""
    examples = EXAMPLES.get(ctx.command_path.partition(" ")[2], ())
    if not examples:
        return
    with formatter.section("Examples"):
        # Not `write_text`, which wraps: a wrapped command cannot be copied.
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{example.command}\n")
            formatter.write(f"{'':>{formatter.current_indent}}    {example.what}\n")
