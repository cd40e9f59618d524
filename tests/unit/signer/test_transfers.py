"""NOTIFY to secondaries, and AXFR from a primary, between signers on loopback and primaries of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import dns.message
import dns.opcode
import dns.rcode
import pytest

from p2pdns.dns.name import Name
from p2pdns.net.sockets import open_dns, open_udp
from p2pdns.signer import primary as room
from p2pdns.signer.notify import Notifier
from p2pdns.signer.primary import Primary
from p2pdns.signer.server import Doors
from tests.signing import HOST, KEY, OTHER_KEY, TSIG_KEY, ZONE_NAME, Signing, update
from tests.waiting import until

SOA = "@ 300 SOA ns hostmaster {} 3600 600 2592000 60\n"
PRIMARY_TEXT = SOA.format(5) + f"@ 60 NS ns.{KEY}.\nns 60 A 192.0.2.53\nwww 60 A 192.0.2.2\n"


def both(tmp_path: Path) -> tuple[Signing, Signing]:
    """Return a signer that is a primary, and one that takes its zone from there, without a file yet."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    return Signing(tmp_path / "first", PRIMARY_TEXT), Signing(tmp_path / "second", None, primary_host=HOST)


async def with_doors(signing: Signing, story: Callable[[int], Awaitable[None]]) -> None:
    """Tell a story while the doors of a signer are open."""
    sockets = open_dns((HOST, 0))
    doors = Doors(signing.answers, tell=signing.lines)
    await doors.open(sockets)
    try:
        await story(sockets.address[1])
    finally:
        doors.close()


def primary_of(second: Signing, port: int, changed: list[int], key: Any = TSIG_KEY) -> Primary:
    """Return the primary of a signer."""
    return Primary((HOST, port), key, second.zone, lambda: changed.append(1), tell=second.lines)


def test_the_zone_of_the_primary_comes_with_its_serial_and_is_written(tmp_path: Path) -> None:
    first, second = both(tmp_path)
    changed: list[int] = []

    async def story(port: int) -> None:
        primary = primary_of(second, port, changed)
        assert await primary.check()
        assert (second.text(), second.zone.serial, changed) == (first.text(), 5, [1])
        # The same serial is not transferred again.
        assert await primary.check()
        assert changed == [1]
        removal = update()
        removal.delete("www")
        first.ask(removal)
        assert await primary.check()
        assert (second.text(), second.zone.serial, changed) == (first.text(), 6, [1, 1])

    asyncio.run(with_doors(first, story))
    second.zone.write_back()
    assert "@ 300 SOA ns hostmaster 6 3600 600 2592000 60\n" in second.path.read_text()
    second.restart()
    assert (second.text(), second.zone.serial) == (first.text(), 6)


def test_a_notify_has_the_primary_asked(tmp_path: Path) -> None:
    first, second = both(tmp_path)
    changed: list[int] = []

    async def story(port: int) -> None:
        primary = primary_of(second, port, changed)
        task = asyncio.ensure_future(primary.run())
        await until(lambda: changed)
        first.add("new", 60, "A", "192.0.2.9")
        primary.notified()
        await until(lambda: len(changed) == 2)
        task.cancel()
        assert second.text() == first.text()

    asyncio.run(with_doors(first, story))


def test_a_wrong_tsig_transfers_nothing_and_is_one_line(tmp_path: Path) -> None:
    first, second = both(tmp_path)
    changed: list[int] = []

    async def story(port: int) -> None:
        assert not await primary_of(second, port, changed, OTHER_KEY).check()

    asyncio.run(with_doors(first, story))
    assert (second.text(), changed) == ("", [])
    assert [event for _, event, _ in second.lines.kept] == ["no transfer"]


class FakePrimary:
    """A primary that says what a test wants, signed as it must be."""

    def __init__(self, answers: Callable[[dns.message.Message], list[bytes] | None]) -> None:
        self._answers = answers

    async def run(self, story: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Tell a story while this primary answers at a port."""
        server = await asyncio.start_server(self._serve, HOST, 0)
        try:
            await story(server.sockets[0].getsockname()[1])
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                query = dns.message.from_wire(wire, keyring=TSIG_KEY)
                responses = self._answers(query)
                for response in responses or []:
                    writer.write(len(response).to_bytes(2) + response)
                if responses is None or query.question[0].rdtype == 252:
                    break
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


def response(query: dns.message.Message, *records: str, key: Any = TSIG_KEY) -> bytes:
    """Return a response with these records."""
    made = dns.message.make_response(query)
    for text in records:
        owner, ttl, rtype, data = text.split(" ", 3)
        made.answer.append(dns.rrset.from_text(owner.replace("@", ZONE_NAME), int(ttl), "IN", rtype, data))
    if key is None:
        made.tsig = None
    else:
        made.use_tsig(key)
    return made.to_wire()


SOA_RECORD = "@ 300 SOA . . 9 3600 600 2592000 60"
A_RECORD = "@ 60 A 192.0.2.7"


@pytest.mark.parametrize(
    ("transfer", "why"),
    [
        ([SOA_RECORD, A_RECORD], "halfway"),
        ([A_RECORD, SOA_RECORD], "first rrset is not an soa"),
        ([SOA_RECORD, A_RECORD, "@ 60 TYPE65311 \\# 1 00", SOA_RECORD], "TYPE65311, which p2pdns alone makes"),
        ([SOA_RECORD, A_RECORD, "@ 60 DNSKEY 257 3 15 AAAA", SOA_RECORD], "1 records that no zone here can have"),
        (
            [SOA_RECORD, f"www.{KEY}. 60 A 192.0.2.1", f"www.{KEY}. 60 CNAME mail.{KEY}.", SOA_RECORD],
            "1 records that no zone here can have",
        ),
        (
            [SOA_RECORD, f"www.{KEY}. 60 CNAME mail.{KEY}.", f"www.{KEY}. 60 A 192.0.2.1", SOA_RECORD],
            "1 records that no zone here can have",
        ),
        ([SOA_RECORD, *[f"@ 60 TXT {'x' * 250}{number}" for number in range(110)], SOA_RECORD], "23278 fit 25 items"),
    ],
)
def test_half_a_transfer_and_one_with_what_no_zone_can_have_change_nothing(
    tmp_path: Path, transfer: list[str], why: str
) -> None:
    signing = Signing(tmp_path, primary_host=HOST)
    before = signing.text()

    def answers(query: dns.message.Message) -> list[bytes]:
        return [response(query, *(transfer if query.question[0].rdtype == 252 else [SOA_RECORD]))]

    async def story(port: int) -> None:
        assert not await primary_of(signing, port, []).check()

    asyncio.run(FakePrimary(answers).run(story))
    assert signing.text() == before
    ((level, event, fields),) = signing.lines.kept
    assert (level, event) == ("warning", "no transfer")
    assert why in str(fields["why"]).lower() or why in str(fields["why"])


def test_a_transfer_without_a_tsig_changes_nothing(tmp_path: Path) -> None:
    signing = Signing(tmp_path, primary_host=HOST)
    before = signing.text()

    def answers(query: dns.message.Message) -> list[bytes]:
        if query.question[0].rdtype != 252:
            return [response(query, SOA_RECORD)]
        return [response(query, SOA_RECORD, A_RECORD, SOA_RECORD, key=None)]

    async def story(port: int) -> None:
        assert not await primary_of(signing, port, []).check()

    asyncio.run(FakePrimary(answers).run(story))
    assert (signing.text(), len(signing.lines.kept)) == (before, 1)


def test_a_primary_without_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TRANSFER_BYTES_MAX", 2_000)
    signing = Signing(tmp_path, primary_host=HOST)

    def answers(query: dns.message.Message) -> list[bytes]:
        if query.question[0].rdtype != 252:
            return [response(query, SOA_RECORD)]
        return [response(query, SOA_RECORD, *[f"n{number}.{ZONE_NAME} 60 TXT {'x' * 200}" for number in range(20)])]

    async def story(port: int) -> None:
        assert not await primary_of(signing, port, []).check()

    asyncio.run(FakePrimary(answers).run(story))
    assert signing.lines.reasons() == ["a transfer of more than 2000 bytes"]


@pytest.mark.parametrize("says", ["nothing", "SERVFAIL", "ends"])
def test_a_primary_that_is_silent_or_refuses_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    monkeypatch.setattr(room, "TRANSFER_S_MAX", 0.2)
    signing = Signing(tmp_path, primary_host=HOST)
    before = signing.text()

    def answers(query: dns.message.Message) -> list[bytes] | None:
        if says == "ends":
            return None
        if says == "nothing":
            return []
        made = dns.message.make_response(query)
        made.set_rcode(dns.rcode.SERVFAIL)
        return [made.to_wire()]

    async def story(port: int) -> None:
        assert not await primary_of(signing, port, []).check()

    asyncio.run(FakePrimary(answers).run(story))
    assert [event for _, event, _ in signing.lines.kept] == ["no transfer"]
    assert signing.text() == before


def test_nobody_at_the_primarys_address_is_one_line(tmp_path: Path) -> None:
    signing = Signing(tmp_path, primary_host=HOST)
    sockets = open_dns((HOST, 0))
    port = sockets.address[1]
    sockets.close()
    asyncio.run(one_check(signing, port))
    assert [event for _, event, _ in signing.lines.kept] == ["no transfer"]


async def one_check(signing: Signing, port: int) -> None:
    """Ask the primary once, in vain."""
    assert not await primary_of(signing, port, []).check()


def test_a_zone_of_another_name_at_the_primary_is_moved_to_the_key(tmp_path: Path) -> None:
    signing = Signing(tmp_path, None, primary_host=HOST)
    soa = "example.com. 300 SOA ns.example.com. . 9 3600 600 2592000 60"

    def answers(query: dns.message.Message) -> list[bytes]:
        assert str(query.question[0].name) == "example.com."
        more = ["www.example.com. 60 CNAME host.example.com.", soa] if query.question[0].rdtype == 252 else []
        return [response(query, soa, *more)]

    async def story(port: int) -> None:
        primary = Primary(
            (HOST, port), TSIG_KEY, signing.zone, lambda: None, tell=signing.lines, name=Name.read("example.com")
        )
        assert await primary.check(), signing.lines.kept

    asyncio.run(FakePrimary(answers).run(story))
    assert signing.text() == "www 60 CNAME host\n"


def test_secondaries_are_told_the_soa_with_a_tsig_until_they_answer(tmp_path: Path) -> None:
    signing = Signing(tmp_path)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        sock = open_udp((HOST, 0))
        notifier = Notifier(
            signing.zone, [(HOST, sock.getsockname()[1])], TSIG_KEY, unix_clock=signing.now, tell=signing.lines
        )
        notifier.notify()
        wire, address = await loop.sock_recvfrom(sock, 2_000)
        message = dns.message.from_wire(wire, keyring=TSIG_KEY)
        assert (message.opcode(), message.had_tsig) == (dns.opcode.NOTIFY, True)
        assert (str(message.question[0].name), message.answer[0][0].serial) == (ZONE_NAME, signing.zone.serial)
        # A response to something else is none; then it is asked again.
        await loop.sock_sendto(sock, b"\0\0\xa0\0" + bytes(8), address)
        again, _ = await loop.sock_recvfrom(sock, 2_000)
        assert again[:2] == wire[:2]
        await loop.sock_sendto(sock, dns.message.make_response(message).to_wire(), address)
        await until(lambda: notifier.is_done)
        sock.close()

    asyncio.run(story())
    assert signing.lines.kept == []


def test_a_secondary_that_refuses_is_named_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    first, second = Signing(tmp_path), Signing(tmp_path / "second")

    async def story(port: int) -> None:
        notifier = Notifier(first.zone, [(HOST, port)], TSIG_KEY, unix_clock=first.now, tell=first.lines)
        notifier.notify()
        await until(lambda: notifier.is_done)

    asyncio.run(with_doors(second, story))
    assert [(event, fields["rcode"]) for _, event, fields in first.lines.kept] == [
        ("a secondary refuses NOTIFY", dns.rcode.REFUSED)
    ]
