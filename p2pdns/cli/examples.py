"""The examples of every verb, for its help and its manual page. A test parses each example with its verb."""

from __future__ import annotations

from dataclasses import dataclass

KEY = "o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy"


@dataclass(frozen=True)
class Example:
    """A command line as it can be typed, and what it does."""

    command: str
    what: str


EXAMPLES: dict[str, tuple[Example, ...]] = {
    "": (
        Example("p2pdns keygen -o alice.key", "make a key: its public half is the name of a zone"),
        Example("p2pdns demo", "see all of it at work on this machine"),
    ),
    "keygen": (
        Example("p2pdns keygen -o alice.key", "write a new key to alice.key and tell the name of its zone"),
        Example("p2pdns keygen -p -o alice.key", "the same, protected by a passphrase that is asked for"),
        Example("p2pdns keygen --next alice.key -o next.key", "make the key that takes over if alice.key is stolen"),
    ),
    "pubkey": (
        Example("p2pdns pubkey alice.key", "print the name of the zone that alice.key signs"),
        Example("dig @127.0.0.1 -p 5300 www.$(p2pdns pubkey alice.key)", "ask for a name in that zone"),
    ),
    "key": (
        Example("p2pdns key words -k alice.key", "print the key as 24 words for paper"),
        Example("p2pdns key import pkarr.secret -o alice.key", "take a key over from another program"),
    ),
    "key words": (
        Example("p2pdns key words -k alice.key", "print 24 words, each with its number; write them down"),
        Example("p2pdns key words -k alice.key | lpr", "the same on paper, if you trust the printer"),
    ),
    "key restore": (
        Example("p2pdns key restore -o alice.key", "type the words that are on the paper"),
        Example("p2pdns key restore -p -o alice.key", "the same, with a passphrase for the new key file"),
    ),
    "key import": (
        Example("p2pdns key import pkarr.secret -o alice.key", "read hexadecimal, z-base-32 or 32 raw bytes"),
        Example("pass show pkdns | p2pdns key import - -o alice.key", "the same from another program"),
    ),
    "import": (
        Example(
            "p2pdns import example.com -o example.zone",
            "get the whole zone if its servers allow it, else the usual names",
        ),
        Example(
            "p2pdns import example.com --server 192.0.2.53 --tsig transfer.tsig",
            "one transfer from this server, signed with a key of tsig-keygen, or an error",
        ),
    ),
    "export": (
        Example("p2pdns export alice -o alice.zone", "write a zone file that p2pdns publish takes"),
        Example(
            "p2pdns export alice --format unbound --suffix alice.lan", "write it for unbound, below a name of your own"
        ),
        Example(
            "p2pdns export -k alice.key --from alice.zone --format hosts",
            "write a zone file of your own as a hosts file",
        ),
    ),
    "check": (
        Example("p2pdns check example.zone", "tell every mistake with its line, and how large the zone is"),
        Example("p2pdns check --origin example.com. bind.zone", "read a zone file that was written for example.com"),
    ),
    "diff": (
        Example("p2pdns diff -k alice.key example.zone", "show which records publishing would add, remove and change"),
        Example("p2pdns diff --key alice example.zone", "hold a file against the zone with the petname alice"),
    ),
    "publish": (
        Example("p2pdns publish -k alice.key example.zone", "sign the zone and let the running daemon keep it alive"),
        Example(
            "p2pdns publish -k alice.key --bootstrap 192.0.2.7:6881 example.zone",
            "put it once by a node of its own, which begins with the one at 192.0.2.7",
        ),
        Example("p2pdns publish -k alice.key --dry-run example.zone", "only show which RRsets would change"),
        Example(
            "p2pdns publish -k alice.key --watch --hook 'systemctl reload caddy' example.zone",
            "stay, publish again what is saved, and run a command after each publication",
        ),
        Example("p2pdns publish", "publish all zones that the configuration names"),
    ),
    "signer": (
        Example(
            "p2pdns signer -k alice.key --zone alice.zone --tsig update.tsig",
            "publish alice.zone, and take changes of it on 127.0.0.1:5354",
        ),
        Example(
            "p2pdns signer -k alice.key --zone alice.zone --tsig update.tsig --primary 127.0.0.1:53",
            "take the zone from a primary by AXFR, at each NOTIFY",
        ),
    ),
    "unpublish": (
        Example("p2pdns unpublish -k alice.key", "take a zone down, after a question"),
        Example("p2pdns unpublish -k alice.key --yes", "the same in a script"),
        Example("p2pdns unpublish -k alice.key --force", "the same where another copy of the key has published"),
    ),
    "rotate": (
        Example("p2pdns rotate alice.key --next next.key", "move the zone, as the overlay has it, to the next key"),
        Example(f"p2pdns rotate {KEY} --next next.key alice.zone", "the same without the old key, from a zone file"),
    ),
    "put": (
        Example("p2pdns put alice.item", "put again what p2pdns inspect KEY -o alice.item has saved"),
        Example("p2pdns put --bootstrap 192.0.2.7:6881 alice.item", "the same without a daemon"),
    ),
    "resolve": (
        Example(f"p2pdns resolve www.{KEY}", "look the addresses up"),
        Example("p2pdns resolve --trace www.alice AAAA", "say each step of the way to a name below a petname"),
        Example("p2pdns resolve example.com MX @192.0.2.53", "ask another server"),
        Example("p2pdns resolve www.alice --holders", "which node near the zone has which edition of it"),
    ),
    "inspect": (
        Example("p2pdns inspect alice", "show what the zone with the petname alice has published"),
        Example(f"p2pdns inspect {KEY} -o alice.item", "keep the signed item in a file"),
    ),
    "name": (
        Example(f"p2pdns name add alice {KEY}", "let alice stand for this zone"),
        Example("p2pdns name ls", "print all petnames"),
    ),
    "name add": (
        Example(f"p2pdns name add alice {KEY}", "www.alice.p2pdns.internal is the name www in that zone from now on"),
        Example("p2pdns name add me $(p2pdns pubkey alice.key)", "a name for a zone of your own"),
    ),
    "name list": (
        Example("p2pdns name list", "print every petname with its key"),
        Example("p2pdns name list > names.txt", "keep them in a file that name import reads"),
    ),
    "name remove": (
        Example("p2pdns name remove alice", "let alice stand for nothing"),
        Example("p2pdns name rm alice --json", "the same, and say so in JSON"),
    ),
    "name import": (
        Example("p2pdns name import names.txt", "take over all petnames of a file, or none"),
        Example("ssh laptop p2pdns name list | p2pdns name import -", "take over those of another machine"),
    ),
    "serve": (
        Example("p2pdns serve", "answer DNS on 127.0.0.1:5300 and be a node of the overlay"),
        Example("p2pdns serve --dns 192.168.1.2:53 --upstream 192.168.1.1", "answer for a home network"),
        Example("p2pdns serve --network mine --bootstrap 192.0.2.7:6881", "join a swarm of your own"),
    ),
    "status": (
        Example("p2pdns status", "show network, contacts, addresses, warnings and counters"),
        Example("p2pdns status --json | jq .contacts", "print how many contacts there are"),
    ),
    "zones": (
        Example("p2pdns zones", "show your zones: records, copies elsewhere, last and next put"),
        Example("p2pdns zones --watch", "the same, again every two seconds"),
    ),
    "doctor": (
        Example("p2pdns doctor", "find out why names do not come up on this machine"),
        Example("p2pdns doctor --name www.alice.p2pdns.internal", "find out why this name does not come up"),
    ),
    "peers": (
        Example("p2pdns peers", "show each contact: its address, round-trip time and when it last answered"),
        Example("p2pdns peers --json | jq '.peers | length'", "print how many there are"),
    ),
    "sim": (
        Example("p2pdns sim", "look zones up in a simulated world of a hundred machines, by a seed that is drawn"),
        Example(
            "p2pdns sim --seed 7 --figure world.png",
            "draw what came of it: one look-up on the circle of ids, and how long all took",
        ),
        Example(
            "p2pdns sim --scenario history --minutes 30",
            "crashes, partitions and liars for half an hour, all rules checked",
        ),
        Example("p2pdns sim --seed 7 --nodes 1000 --json", "a thousand machines by this seed, as JSON"),
    ),
    "flush": (
        Example("p2pdns flush www.alice", "look the zone of this name up again at the next question"),
        Example("p2pdns flush --all", "drop every cached answer"),
    ),
    "forget": (
        Example("p2pdns forget alice", "drop all that is known of a zone, and put it no more"),
        Example("p2pdns forget --ahead", "drop all zones dated ahead of this machine's clock"),
    ),
    "pin": (
        Example("p2pdns pin alice", "keep somebody's zone alive, as its publisher would"),
        Example(f"p2pdns pin {KEY}", "the same by its key"),
    ),
    "reload": (
        Example("p2pdns reload", "make the daemon read its configuration again"),
        Example("p2pdns reload --json", "the same, with the changed settings as JSON"),
    ),
    "config": (
        Example("p2pdns config print", "show every setting with its value and where that comes from"),
        Example("p2pdns config print -c p2pdns.toml", "the same for one file"),
    ),
    "config print": (
        Example("p2pdns config print", "show every setting with its value and where that comes from"),
        Example("p2pdns config print > p2pdns.toml", "begin a configuration of your own"),
    ),
    "demo": (
        Example("p2pdns demo", "run a swarm, publish zones, kill the publisher, look names up; until Ctrl-C"),
        Example("p2pdns demo --once", "end after the table; exit 0 only if every row is as expected"),
    ),
    "completion": (
        Example("p2pdns completion bash > ~/.local/share/bash-completion/completions/p2pdns", "for bash, from now on"),
        Example("source <(p2pdns completion zsh)", "for this zsh only"),
        Example("p2pdns completion fish > ~/.config/fish/completions/p2pdns.fish", "for fish"),
    ),
    "help": (
        Example("p2pdns help publish", "the same as p2pdns publish --help"),
        Example("p2pdns help name add", "the help of a verb of a verb"),
    ),
}
