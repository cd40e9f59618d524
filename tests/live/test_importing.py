"""`import` with real servers: NSD, which gives a zone away or does not, and servers that break off in every way."""

from __future__ import annotations

import json
import re
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from p2pdns.addresses import Address
from p2pdns.cli import importing, transfer
from p2pdns.cli.main import main
from p2pdns.dns.message import RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.dns.zonefile import reader
from p2pdns.errors import Unavailable
from p2pdns.items.keys import SecretKey
from p2pdns.signer.tsig import read_keys
from tests.live.test_json import findings
from tests.oracle.nsd import running_nsd

KEY = SecretKey.generate(bytes(32)).zone_key
PATIENCE_S = 20.0  # A guard only.
SOA = "example.com. 300 IN SOA ns1.example.com. hostmaster.example.com. 7 7200 3600 1209600 300"
ZONE = f"""
$ORIGIN example.com.
$TTL 300
{SOA}
@ NS ns1
@ A 192.0.2.80
@ MX 10 mx-a
@ TXT "v=spf1 -all"
@ TXT "{"x" * 250}" "{"y" * 250}" "{"z" * 250}"
@ TXT "{"t" * 250}" "{"u" * 250}" "{"v" * 250}"
www CNAME @
mx-a A 192.0.2.25
ns1 A 127.0.0.1
sub NS ns.sub
ns.sub A 192.0.2.54
secret A 192.0.2.99
loop CNAME blog
blog CNAME loop
odd\\032name TXT "a\\"b"
default._domainkey TXT "v=DKIM1; k=rsa; p=AAAA"
"""
WILD = ZONE.replace("example.com", "wild.example") + "* A 192.0.2.200\n"
PLAIN = """
$ORIGIN plain.example.
@ 300 SOA ns hostmaster 1 7200 3600 1209600 300
@ 300 NS ns
ns 300 A 127.0.0.1
www 300 A 192.0.2.1
"""
# Some messages long: the MAC of each covers the one before.
KEYED = PLAIN.replace("plain.example", "keyed.example") + "".join(f"n{at} 300 TXT {'x' * 200}\n" for at in range(400))
MOVER_SECRET = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMgbG9uZw=="


def mover(name: str = "mover", secret: str = MOVER_SECRET, algorithm: str = "hmac-sha256") -> str:
    """Return a file of tsig-keygen."""
    return f'key "{name}" {{\n\talgorithm {algorithm};\n\tsecret "{secret}";\n}};\n'


def tsig_file(text: str) -> str:
    """Write a file of TSIG keys, and return its name."""
    path = Path("some.tsig")
    path.touch(0o600)
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of an NSD that transfers one of its zones."""
    zones = {"example.com": ZONE, "wild.example": WILD, "plain.example": PLAIN, "keyed.example": KEYED}
    with running_nsd(
        zones,
        tmp_path_factory.mktemp("nsd"),
        transferred=["example.com"],
        keyed=["keyed.example"],
        key_secret=MOVER_SECRET,
    ) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P2PDNS_CONFIG", "/dev/null")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path


def read(text: str) -> dict[tuple[str, int], RRset]:
    """Return the records of a zone file by relative owner and type."""
    rrsets = reader.reading(text, apex=KEY.apex, path="zone").rrsets
    return {(rrset.owner.text_in(KEY.apex), rrset.rtype): rrset for rrset in rrsets}


def test_a_transfer_gives_the_whole_zone(nsd: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "Example.COM.", "--server", nsd, "--by", "transfer"]) == 0
    said = capsys.readouterr()
    assert set(read(said.out)) == {
        *(("@", rtype) for rtype in (Type.A, Type.MX, Type.TXT)),
        *((alias, Type.CNAME) for alias in ("www", "loop", "blog")),
        *((host, Type.A) for host in ("mx-a", "ns1", "secret")),
        *((text, Type.TXT) for text in ("odd\\032name", "default._domainkey")),
    }
    assert read(said.out)["odd\\032name", Type.TXT].rdatas == (b'\x03a"b',)
    assert "serial 7, from 127.0.0.1:" in said.out
    assert "; Left out: 1 × SOA (" in said.out
    assert "; Left out: 1 × NS (a zone here is found by its key" in said.out
    assert "1 × A (at or below a delegation" in said.err
    assert "so it takes several" in said.err
    assert "largest: @ TXT (" in said.err


def test_without_a_transfer_the_usual_names_are_asked_for(nsd: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "wild.example", "--server", nsd, "-o", "wild.zone"]) == 0
    said = capsys.readouterr()
    text = Path("wild.zone").read_text()
    assert f"p2pdns: {nsd}: the transfer is refused (REFUSED)\n" in said.err
    assert "the CNAME of blog leads back to itself" in said.err
    assert set(read(text)) == {
        *(("@", rtype) for rtype in (Type.A, Type.MX, Type.TXT)),
        *(("www", Type.CNAME), ("mx-a", Type.A), ("ns1", Type.A), ("*", Type.A), ("default._domainkey", Type.TXT)),
    }
    # What does not fit into UDP came over TCP.
    assert sum(len(rdata) for rdata in read(text)["@", Type.TXT].rdatas) > 1500
    for words in ("; Asked: ", "; Not seen: ", "; Wildcard: ", "; Nothing but the wildcard", "1 × SOA", "1 × NS"):
        assert words in text
    assert "secret" not in text
    assert main(["check", "--size-max", "983", "wild.zone"]) == 0
    assert "wild.zone: ok, 4 items of " in capsys.readouterr().out


def test_the_resolvers_of_the_configuration_are_asked_and_private_name_servers_are_not(
    nsd: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    (home / "p2pdns.toml").write_text(f'[upstream]\nservers = ["{nsd}"]\n')
    assert main(["import", "plain.example", "-c", "p2pdns.toml"]) == 0
    said = capsys.readouterr()
    assert set(read(said.out)) == {("ns", Type.A), ("www", Type.A)}
    assert "127.0.0.1, a name server by its zone, is not public; --server 127.0.0.1 asks it all the same" in said.err


def test_the_document_is_as_the_page_says(nsd: str, capsys: pytest.CaptureFixture[str]) -> None:
    for domain, by in (("example.com", "transfer"), ("plain.example", "questions")):
        assert main(["import", domain, "--server", nsd, "-o", f"{domain}.zone", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert findings(document, "import") == []
        assert document["by"] == by


@pytest.mark.parametrize(
    "name", [str(KEY), f"www.{KEY}.example.com", "www.anna.p2p.alt", "anna.alt", "x.p2pdns.internal"]
)
def test_nobody_is_asked_for_a_name_of_this_network(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[dns.message.Message] = []

    def answers(query: dns.message.Message) -> list[dns.message.Message | bytes | None]:
        asked.append(query)
        return [reply_of(query, [])]

    with serving(answers) as address:
        assert main(["import", name, "--server", shown(address)]) == 2
    assert asked == []
    assert "a name of this network, and an ordinary domain is needed" in capsys.readouterr().err


def test_a_file_that_exists_is_not_overwritten_and_nobody_is_asked(home: Path) -> None:
    (home / "zone").write_text("mine")
    assert main(["import", "example.com", "--server", "127.0.0.1:1", "-o", "zone"]) == 1
    assert (home / "zone").read_text() == "mine"


@pytest.mark.parametrize(
    ("domain", "flags", "code", "what"),
    [
        ("nope.example.com", [], 3, "nope.example.com: no such domain"),
        ("www.example.com", [], 1, "www.example.com: an alias of example.com"),
        ("mx-a.example.com", [], 1, "mx-a.example.com: no zone of its own, but a name in example.com"),
        ("blog.example.com", [], 1, "blog.example.com: its CNAME leads back to itself"),
        ("elsewhere.test", [], 1, "elsewhere.test: 127.0.0.1:"),
        ("wild.example", ["--by", "transfer"], 1, "the transfer is refused (REFUSED)"),
    ],
)
def test_what_cannot_be_imported_is_one_line_with_a_hint_at_most(
    domain: str, flags: list[str], code: int, what: str, nsd: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", domain, "--server", nsd, *flags]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert what in said.err
    assert said.err.count("error: ") == 1
    assert said.err.count("\n") <= 2


def test_a_server_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importing, "FIRST_S_MAX", 0.1)
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        assert main(["import", "example.com", "--server", f"127.0.0.1:{silent.getsockname()[1]}"]) == 1
    assert ": no answer within 0.1 s\n" in capsys.readouterr().err


def test_a_server_that_falls_silent_ends_in_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It answers for the domain, and then for nothing: the file cannot be made of that."""
    monkeypatch.setattr(importing, "QUESTION_S_MAX", 0.001)
    monkeypatch.setattr(importing, "GATHER_S_MAX", 0.0)
    with serving(lambda query: [reply_of(query, [SOA])]) as address:
        assert main(["import", "example.com", "--server", shown(address), "--by", "questions"]) == 1
    assert "no record was found that a zone here could have" in capsys.readouterr().err


Answers = Callable[[dns.message.Message], list[dns.message.Message | bytes | None]]
"""Returns the messages that a server sends over TCP; None closes the connection at once."""


def shown(address: Address) -> str:
    """Return an address as the command line has it."""
    return f"{address[0]}:{address[1]}"


def reply_of(query: dns.message.Message, lines: list[str], *, rcode: int = 0) -> dns.message.Message:
    """Return a response with these records."""
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.Rcode.make(rcode))
    for line in lines:
        owner, ttl, rclass, kind, data = line.split(" ", 4)
        reply.answer.append(dns.rrset.from_text(owner, int(ttl), rclass, kind, data))
    return reply


@contextmanager
def serving(answers: Answers) -> Iterator[Address]:
    """Run a server that answers each question over UDP with its first message, and over TCP with all of them."""

    class Tcp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            (length,) = struct.unpack("!H", self.rfile.read(2))
            for message in answers(dns.message.from_wire(self.rfile.read(length), keyring=False)):
                if message is None:
                    return
                wire = message if isinstance(message, bytes) else message.to_wire()
                self.wfile.write(struct.pack("!H", len(wire)) + wire)

    class Udp(socketserver.DatagramRequestHandler):
        def handle(self) -> None:
            message = answers(dns.message.from_wire(self.rfile.read()))[0]
            if isinstance(message, dns.message.Message):
                self.wfile.write(message.to_wire())

    class TcpServer(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

    with TcpServer(("127.0.0.1", 0), Tcp) as tcp, socketserver.ThreadingUDPServer(tcp.server_address, Udp) as udp:
        threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in (tcp, udp)]
        for thread in threads:
            thread.start()
        try:
            yield ("127.0.0.1", tcp.server_address[1])
        finally:
            for server, thread in zip((tcp, udp), threads, strict=True):
                server.shutdown()
                thread.join()


WWW = "www.example.com. 300 IN A 192.0.2.1"
BROKEN: dict[str, tuple[Answers, str]] = {
    "closes at once": (lambda query: [None], "has closed the connection without an answer to the transfer"),
    "closes in the middle": (
        lambda query: [reply_of(query, [SOA, WWW]), None],
        "has closed the connection in the middle of the transfer, after 2 records",
    ),
    "closes behind the first SOA": (lambda query: [reply_of(query, [SOA]), None], "after 1 record"),
    "gives up in the middle": (
        lambda query: [reply_of(query, [SOA, WWW]), reply_of(query, [], rcode=2)],
        "has given the transfer up in the middle (SERVFAIL)",
    ),
    "does not know the zone": (lambda query: [reply_of(query, [], rcode=9)], "the transfer is refused (NOTAUTH)"),
    "begins with another record": (
        lambda query: [reply_of(query, [WWW, SOA, SOA])],
        "does not begin with the SOA of the zone",
    ),
    "sends another zone": (
        lambda query: [reply_of(query, [SOA.replace("example.com. 300", "example.org. 300")] * 2)],
        "does not begin with the SOA of the zone",
    ),
    "sends no records": (lambda query: [reply_of(query, [])], "a message of the transfer has no records"),
    "sends no DNS": (lambda query: [b"HTTP/1.1 400 Bad Request"], "not a DNS reply"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_transfer_that_is_not_whole_is_an_error(kind: str) -> None:
    answers, what = BROKEN[kind]
    with serving(answers) as address, pytest.raises(Unavailable) as caught:
        transfer.transfer(Name.read("example.com"), address, timeout_s=PATIENCE_S)
    assert what in str(caught.value)
    assert shown(address) in str(caught.value)
    assert caught.value.hint or "begin" in what


def test_an_answer_to_another_query_is_no_transfer() -> None:
    def answers(query: dns.message.Message) -> list[dns.message.Message | bytes | None]:
        query.id ^= 1
        return [reply_of(query, [SOA, WWW, SOA])]

    with serving(answers) as address, pytest.raises(Unavailable, match="an answer to another question"):
        transfer.transfer(Name.read("example.com"), address, timeout_s=PATIENCE_S)


def test_a_transfer_over_many_messages_is_put_together() -> None:
    def answers(query: dns.message.Message) -> list[dns.message.Message | bytes | None]:
        hosts = [reply_of(query, [f"h{number}.example.com. 300 IN A 192.0.2.1"]) for number in range(50)]
        return [reply_of(query, [SOA]), *hosts, reply_of(query, [SOA])]

    with serving(answers) as address:
        records = transfer.transfer(Name.read("example.com"), address, timeout_s=PATIENCE_S)
    assert [record.rtype for record in records] == [Type.SOA, *[Type.A] * 50]


def test_a_transfer_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TRANSFER_RECORDS_MAX", 20)
    endless: Answers = lambda query: [reply_of(query, [SOA]), *[reply_of(query, [WWW])] * 50]  # noqa: E731
    with serving(endless) as address, pytest.raises(Unavailable, match="more than 20 records"):
        transfer.transfer(Name.read("example.com"), address, timeout_s=PATIENCE_S)


def test_a_server_that_accepts_and_says_nothing_is_not_waited_for_without_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = ("127.0.0.1", silent.getsockname()[1])
        with pytest.raises(Unavailable, match="no whole transfer within"):
            transfer.transfer(Name.read("example.com"), address, timeout_s=0.1)


def test_half_a_transfer_is_not_taken_and_the_usual_names_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def answers(query: dns.message.Message) -> list[dns.message.Message | bytes | None]:
        question = query.question[0]
        kind = int(question.rdtype)
        if kind == Type.AXFR:
            return [reply_of(query, [SOA, "half.example.com. 300 IN A 192.0.2.66"]), None]
        if str(question.name) == "www.example.com." and kind == Type.A:
            return [reply_of(query, [WWW])]
        return [reply_of(query, [SOA] if kind == Type.SOA else [])]

    with serving(answers) as address:
        assert main(["import", "example.com", "--server", shown(address)]) == 0
        said = capsys.readouterr()
        assert set(read(said.out)) == {("www", Type.A)}
        assert "in the middle of the transfer, after 2 records\n" in said.err
        assert main(["import", "example.com", "--server", shown(address), "--by", "transfer"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "hint: half a zone is not taken; try again, or another server\n" in said.err


def test_a_transfer_with_a_tsig_gives_the_whole_zone(nsd: str, capsys: pytest.CaptureFixture[str]) -> None:
    # The first of several keys is the one that signs.
    path = tsig_file(mover() + mover("other", secret="b3RoZXIgc2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0"))
    assert main(["import", "keyed.example", "--server", nsd, "--tsig", path, "-o", "keyed.zone"]) == 0
    text = Path("keyed.zone").read_text()
    assert text.count("IN TXT") + text.count(" TXT ") >= 400
    assert "by transfer (AXFR)" in capsys.readouterr().err


WRONG_SECRET = mover(secret="b3RoZXIgc2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (WRONG_SECRET, r"the server refuses the TSIG \(Bad"),
        (mover("nobody"), r"the server refuses the TSIG \(BadKey\)"),
        (mover(algorithm="hmac-sha512"), r"the transfer is refused \(REFUSED\)"),
    ],
)
def test_a_wrong_key_is_one_line_and_no_second_way_is_tried(
    nsd: str, capsys: pytest.CaptureFixture[str], text: str, what: str
) -> None:
    assert main(["import", "keyed.example", "--server", nsd, "--tsig", tsig_file(text)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    error, hint = said.err.splitlines()
    assert re.match(f"p2pdns: error: {re.escape(nsd)}: {what}", error), error
    assert hint.startswith("p2pdns: hint: --tsig FILE: ")


def test_tsig_needs_a_transfer_and_a_file_that_nobody_else_may_open(
    nsd: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tsig_file(mover())
    assert main(["import", "keyed.example", "--server", nsd, "--tsig", path, "--by", "questions"]) == 2
    assert "--tsig is for a transfer" in capsys.readouterr().err
    Path(path).chmod(0o644)
    assert main(["import", "keyed.example", "--server", nsd, "--tsig", path]) == 1
    assert "other users may open this key file" in capsys.readouterr().err


def test_a_server_that_does_not_sign_is_not_believed() -> None:
    key = next(iter(read_keys(mover(), "some.tsig").values()))

    def plain(query: dns.message.Message) -> list[dns.message.Message | bytes | None]:
        return [reply_of(query, [SOA, SOA])]

    with serving(plain) as address, pytest.raises(Unavailable, match="does not sign the transfer"):
        transfer.transfer(Name.read("example.com"), address, timeout_s=PATIENCE_S, key=key)
