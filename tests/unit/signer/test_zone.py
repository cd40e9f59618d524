"""The signer's zone: what was acknowledged outlives every crash, and a person's edits are kept beside it."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from p2pdns.dns.registry import COMMITMENT
from p2pdns.errors import P2pdnsError, Unavailable, ZoneFileError
from p2pdns.items.item import MutableItem
from p2pdns.items.keys import SecretKey
from p2pdns.items.succession import commitment_of, commitment_to
from p2pdns.publishing.editions import LargeZone
from p2pdns.signer import journal as journal_room
from p2pdns.signer import zone as room
from tests.signing import APEX, KEY, SECRET, TEXT, TSIG_KEY, ZONE_NAME, Signing, rcode_of, signed_again, soa_of, update


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    """A signer of the usual zone."""
    return Signing(tmp_path)


def serial(signing: Signing) -> int:
    """Return the serial that a client sees."""
    return int(soa_of(signing.ask(dns.message.make_query(ZONE_NAME, "SOA"), key=None)).serial)


def test_a_change_is_written_back_and_untouched_lines_stay(signing: Signing) -> None:
    signing.add("new", 30, "A", "192.0.2.9")
    assert signing.path.read_text() == TEXT
    signing.zone.write_back()
    assert signing.path.read_text() == TEXT + "new 30 A 192.0.2.9\n"


def test_what_was_acknowledged_is_there_after_a_crash_at_any_moment(signing: Signing) -> None:
    signing.add("one", 60, "A", "192.0.2.11")
    signing.restart()
    assert "one 60 A" in signing.text()
    signing.zone.write_back()
    signing.add("two", 60, "A", "192.0.2.12")
    removal = update()
    removal.delete("one")
    assert signing.rcode(removal) == "NOERROR"
    before = signing.text(), serial(signing)
    signing.restart()
    assert (signing.text(), serial(signing)) == before
    signing.zone.write_back()
    signing.restart()
    assert (signing.text(), serial(signing)) == before


def test_a_journal_torn_at_any_byte_loses_nothing_that_was_acknowledged(signing: Signing) -> None:
    acknowledged = [(signing.journal_path.stat().st_size, signing.text())]
    for number in range(3):
        signing.add(f"n{number}", 60, "A", f"192.0.2.{number + 10}")
        acknowledged.append((signing.journal_path.stat().st_size, signing.text()))
    signing.crash()
    data = signing.journal_path.read_bytes()
    # Each byte is the matter of the journal's own test.
    for cut in [*range(acknowledged[0][0], len(data), 17), *(size for size, _ in acknowledged)]:
        signing.journal_path.write_bytes(data[:cut])
        signing.start()
        assert signing.text() == [text for size, text in acknowledged if size <= cut][-1]
        signing.crash()


def test_a_crash_between_the_file_and_its_entry_in_the_journal_changes_nothing(signing: Signing) -> None:
    signing.add("new", 60, "A", "192.0.2.9")
    removal = update()
    removal.delete("mail")
    signing.ask(removal)
    before = signing.text()
    journal = signing.journal_path.read_bytes()
    signing.zone.write_back()
    signing.crash()
    signing.journal_path.write_bytes(journal)
    signing.start()
    assert signing.text() == before


def test_a_file_that_was_edited_while_no_signer_ran_keeps_the_edit_and_what_it_lacked(signing: Signing) -> None:
    signing.add("new", 60, "A", "192.0.2.9")
    old = serial(signing)
    signing.crash()
    signing.path.write_text(TEXT.replace("192.0.2.2", "192.0.2.22"))
    signing.start()
    assert {"new 60 A 192.0.2.9", "www 60 A 192.0.2.22"} <= set(signing.text().splitlines())
    assert serial(signing) > old


def test_a_file_that_is_edited_while_the_signer_runs_is_read_before_it_is_written(signing: Signing) -> None:
    signing.add("new", 60, "A", "192.0.2.9")
    old = serial(signing)
    signing.path.write_text(TEXT + "mine A 192.0.2.99\n")
    signing.zone.write_back()
    assert {"new 60 A 192.0.2.9", "mine 60 A 192.0.2.99"} <= set(signing.text().splitlines())
    assert signing.path.read_text() == TEXT + "mine A 192.0.2.99\nnew 60 A 192.0.2.9\n"
    assert serial(signing) > old
    before = signing.text()
    signing.restart()
    assert signing.text() == before


def test_a_file_with_a_mistake_is_not_taken_nor_overwritten_and_the_zone_stays(signing: Signing) -> None:
    signing.add("new", 60, "A", "192.0.2.9")
    before = signing.text()
    signing.path.write_text("www A 192.0.2.999\n")
    with pytest.raises(ZoneFileError):
        signing.zone.write_back()
    assert (signing.text(), signing.path.read_text()) == (before, "www A 192.0.2.999\n")
    signing.path.write_text(TEXT)
    signing.zone.write_back()
    assert signing.path.read_text() == TEXT + "new 60 A 192.0.2.9\n"


def test_a_file_with_generate_is_never_written_and_the_journal_alone_has_the_changes(tmp_path: Path) -> None:
    text = "$TTL 60\n$GENERATE 1-3 h$ A 192.0.2.$\n"
    signing = Signing(tmp_path, text)
    removal = update()
    removal.delete("h2")
    signing.ask(removal)
    signing.add("new", 60, "A", "192.0.2.9")
    for _ in range(2):
        signing.zone.write_back()
        assert signing.path.read_text() == text
        assert signing.text() == "h1 60 A 192.0.2.1\nh3 60 A 192.0.2.3\nnew 60 A 192.0.2.9\n"
        signing.restart()
    assert sum("journal has the changes" in line[1] for line in signing.lines.kept) == 2


def test_a_serial_of_the_file_is_raised_in_its_place(tmp_path: Path) -> None:
    text = f"@ 300 SOA ns.{KEY}. hostmaster ( 41 ; serial\n 3600 600 2592000 60 )\nwww 60 A 192.0.2.1\n"
    signing = Signing(tmp_path, text)
    signing.add("www", 60, "A", "192.0.2.2")
    signing.zone.write_back()
    assert signing.path.read_text() == text.replace("41", "42") + "www 60 A 192.0.2.2\n"
    # A person edits without a thought for the serial.
    signing.path.write_text(signing.path.read_text().replace("192.0.2.1", "192.0.2.7"))
    signing.zone.write_back()
    assert serial(signing) == 43
    assert "( 43 ; serial" in signing.path.read_text()
    signing.restart()
    assert serial(signing) == 43


def test_an_update_that_does_not_fit_is_refused_with_the_reason_in_log_and_ede(signing: Signing) -> None:
    before = signing.text()
    message = update()
    message.add("big", 60, "TXT", " ".join([f'"{"x" * 250}"'] * 100))
    message.use_edns(payload=65000)
    response = signing.ask(message)
    assert dns.rcode.to_text(response.rcode()) == "REFUSED"
    assert "bytes, and 23278 fit 25 items" in str(response.options[0])
    assert any("bytes, and 23278 fit 25 items" in reason for reason in signing.lines.reasons())
    assert (signing.text(), signing.changes) == (before, 0)
    message = update()
    message.add("big", 60, "TXT", " ".join([f'"{"x" * 250}"'] * 100))
    assert signing.ask(message).opt is None


def test_an_update_may_make_a_zone_larger_than_one_item(signing: Signing) -> None:
    message = update()
    message.add("big", 60, "TXT", " ".join([f'"{"x" * 200}"'] * 5))
    assert dns.rcode.to_text(signing.ask(message).rcode()) == "NOERROR"
    assert isinstance(signing.zone.value(), LargeZone)


def test_a_commitment_goes_into_the_value_counts_and_is_seen_by_no_client(tmp_path: Path) -> None:
    key = SECRET.zone_key
    commitment = commitment_to(key, SecretKey.generate(bytes(range(32))))
    signing = Signing(tmp_path, made=(commitment.record_of(key),))
    value = signing.zone.value()
    assert isinstance(value, bytes)
    item = MutableItem.signed(SECRET, 1, value)
    assert commitment_of(item) == commitment
    assert all(record.rtype != COMMITMENT for record in signing.zone.records)
    # What fits one item without the commitment alone is divided.
    room = 940 - len(value)
    message = update()
    message.add("big", 60, "TXT", " ".join([f'"{"x" * (room // 4)}"'] * 4))
    assert dns.rcode.to_text(signing.ask(message).rcode()) == "NOERROR"
    large = signing.zone.value()
    assert isinstance(large, LargeZone)
    assert large.made == (commitment.record_of(key),)


def test_an_update_that_the_disk_does_not_take_is_servfail_and_changes_nothing(
    signing: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signing.text()

    def full(_descriptor: int, _data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert signing.add("new", 60, "A", "192.0.2.9") == "SERVFAIL"
    assert (signing.text(), signing.changes) == (before, 0)
    assert signing.add("new", 60, "A", "192.0.2.9") == "NOERROR"
    signing.restart()
    assert "new 60 A" in signing.text()


def test_a_file_that_cannot_be_written_leaves_the_change_in_the_journal(
    signing: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.add("new", 60, "A", "192.0.2.9")

    def full(_old: object, _new: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(Unavailable):
            signing.zone.write_back()
    assert signing.path.read_text() == TEXT
    assert [path.name for path in sorted(signing.path.parent.iterdir())] == ["alice.zone", "alice.zone.journal"]
    signing.restart()
    signing.zone.write_back()
    assert "new 30" not in signing.path.read_text()
    assert "new 60 A 192.0.2.9" in signing.path.read_text()


def test_mode_and_link_of_the_file_stay(tmp_path: Path) -> None:
    real = tmp_path / "real.zone"
    real.write_text(TEXT)
    real.chmod(0o640)
    (tmp_path / "alice.zone").symlink_to(real)
    signing = Signing(tmp_path, None)
    signing.add("new", 60, "A", "192.0.2.9")
    signing.zone.write_back()
    assert signing.path.is_symlink()
    assert (real.stat().st_mode & 0o777, "new 60 A" in real.read_text()) == (0o640, True)


def test_a_large_journal_is_written_anew_with_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "JOURNAL_BYTES_MAX", 5_000)
    signing = Signing(tmp_path, "$TTL 60\n$GENERATE 1-3 h$ A 192.0.2.$\n")
    sizes = []
    last = b""
    for number in range(20):
        message = update()
        message.add("www", 60 + number, "A", "192.0.2.9")
        message.use_tsig(TSIG_KEY)
        last = message.to_wire()
        signing.send(last)
        sizes.append(signing.journal_path.stat().st_size)
    assert any(after < before for before, after in itertools.pairwise(sizes))
    before = signing.text(), serial(signing)
    signing.restart()
    assert (signing.text(), serial(signing)) == before
    assert signing.send(last)[0][3] & 15 == 5


def test_the_history_forgets_its_oldest_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "HISTORY_STEPS_MAX", 3)
    signing = Signing(tmp_path)
    serials = [serial(signing)]
    for number in range(5):
        signing.add("www", 61 + number, "A", "192.0.2.2")
        serials.append(serial(signing))
    assert [signing.zone.steps_since(number) is not None for number in serials] == [False] * 2 + [True] * 3 + [False]


def test_all_records_can_go_and_the_zone_starts_again(signing: Signing) -> None:
    message = update()
    for owner in ("@", "www", "mail"):
        message.delete(owner)
    assert signing.rcode(message) == "NOERROR"
    signing.zone.write_back()
    assert signing.path.read_text() == "; the zone of alice\n$TTL 60\n"
    signing.restart()
    assert signing.text() == ""
    assert signing.add("www", 60, "A", "192.0.2.2") == "NOERROR"


def test_owners_of_any_bytes_types_without_a_name_and_any_data_go_through_journal_and_file(signing: Signing) -> None:
    message = update()
    owners = [b'a.b"', b"\\;(", b"\0\xff ", b"@", b"$ORIGIN", b"*", b"IN", b"60", b"\xc3\xa4"]
    for label in owners:
        message.add(dns.name.Name([label, *dns.name.from_text(ZONE_NAME).labels]), 60, "TYPE65280", "\\# 2 00ff")
    message.add("txt", 60, "TXT", '"\\"quotes\\" \\; \\000\\255" ""')
    ech = b"\0\1\0\0\5\0\3\1\2\3"
    message.add("https", 60, dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.HTTPS, ech))
    message.add("www", 60, "NULL", "\\# 0")
    assert signing.rcode(message) == "NOERROR"
    before = signing.text()
    assert before.count("TYPE65280") == len(owners)
    signing.restart()
    assert signing.text() == before
    signing.zone.write_back()
    assert "TYPE65280" in signing.path.read_text()
    signing.journal_path.unlink()
    signing.restart()
    assert signing.text() == before


def test_a_ttl_with_its_top_bit_set_counts_as_0(signing: Signing) -> None:
    message = update()
    message.add("new", 2**31 - 1, "A", "192.0.2.9")
    wire = message.to_wire().replace((2**31 - 1).to_bytes(4), (2**31).to_bytes(4))
    assert rcode_of(signing.send(signed_again(wire))[0]) == "NOERROR"
    assert "new 0 A 192.0.2.9" in signing.text()
    signing.zone.write_back()
    assert "new 0 A 192.0.2.9" in signing.path.read_text()


def test_a_missing_file_is_an_error_and_the_reserved_types_are_one_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no such file"):
        Signing(tmp_path, None)
    for rtype in ("TYPE65310", "TYPE65311"):
        with pytest.raises(ZoneFileError, match=f"alice.zone:1: {rtype} is a record that p2pdns alone makes"):
            Signing(tmp_path, f"www {rtype} \\# 1 00\n")


def test_an_edit_that_excludes_what_the_journal_has_is_one_clear_error(signing: Signing) -> None:
    signing.add("new", 60, "A", "192.0.2.9")
    signing.crash()
    signing.path.write_text(TEXT + "new CNAME www\n")
    with pytest.raises(P2pdnsError) as trouble:
        signing.start()
    assert "changes of the journal" in trouble.value.what
    assert trouble.value.hint is not None
    assert os.path.exists(signing.journal_path)


def test_an_entry_of_another_version_is_one_clear_error(signing: Signing) -> None:
    signing.crash()
    journal = journal_room.Journal(signing.journal_path, str(signing.zone.apex))
    journal.append({"to": "something"})
    journal.close()
    with pytest.raises(Unavailable, match="an entry cannot be read"):
        signing.start()


def test_as_many_macs_as_are_remembered_and_no_more_pass(tmp_path: Path) -> None:
    signing = Signing(tmp_path, macs_max=2)
    assert [signing.add("new", 60 + number, "A", "192.0.2.9") for number in range(3)] == [
        "NOERROR",
        "NOERROR",
        "SERVFAIL",
    ]
    # A transfer would need room too; a query does not.
    assert signing.rcode(dns.message.make_query(ZONE_NAME, "AXFR")) == "SERVFAIL"
    assert signing.rcode(dns.message.make_query(ZONE_NAME, "SOA")) == "NOERROR"
    signing.clock_off_s = 250
    assert signing.add("new", 99, "A", "192.0.2.9") == "SERVFAIL"


def test_a_pipe_in_the_place_of_the_zone_file_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "alice.zone")
    with pytest.raises(Unavailable, match="not a file"):
        Signing(tmp_path, None)


def test_a_journal_that_cannot_be_made_shorter_takes_changes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "JOURNAL_BYTES_MAX", 0)
    signing = Signing(tmp_path)
    (tmp_path / "alice.zone.journal.new").mkdir()
    assert signing.add("n1", 60, "A", "192.0.2.9") == "NOERROR"
    assert any("cannot be made shorter" in line for line in map(str, signing.lines.kept))
    signing.restart()
    assert "192.0.2.9" in signing.text()


@pytest.mark.parametrize(
    "entry",
    [
        {"file": "x", "serial": float("inf")},
        {"mac": "00", "at": float("inf")},
        {"to": ["@", 6, 60, "00"], "added": [], "removed": []},
        {"to": 7},
    ],
)
def test_an_entry_that_no_signer_has_written_is_an_error_in_words(tmp_path: Path, entry: dict[str, object]) -> None:
    signing = Signing(tmp_path)
    signing.crash()
    journal = journal_room.Journal(signing.journal_path, str(APEX))
    journal.append(entry)
    journal.close()
    with pytest.raises(Unavailable, match=r"an entry cannot be read"):
        signing.start()


def test_an_owner_that_looks_like_a_placeholder_is_written_back(signing: Signing) -> None:
    assert signing.add("{zone:bob}", 60, "A", "192.0.2.9") == "NOERROR"
    signing.zone.write_back()
    assert signing.path.read_text().endswith("\\{zone:bob} 60 A 192.0.2.9\n")
    assert not signing.zone.reload()
    signing.restart()
    assert "{zone:bob}" in signing.text()
