"""The signer with real nodes on loopback and nsupdate: what it acknowledges, other nodes answer."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.front_process import GUARD_S, wait_until
from tests.live.served import KEY, NETWORK, SECRET, Served, assert_refused, p2pdns
from tests.live.signer_process import TSIG_FILE, SignerProcess

ZONE = "; mine\n$TTL 1\nwww A   192.0.2.80 ; stays\n"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """Yield the daemon of the signer, and another node."""
    folder = tmp_path_factory.mktemp("nodes")
    own = Served(folder / "own")
    other = Served(folder / "other", "--bootstrap", own.status()["dht_address"])
    yield own, other
    assert [own.end(), other.end()] == [0, 0]


def signer(folder: Path, daemon: Served, *flags: str | Path, zone: str = ZONE) -> SignerProcess:
    """Return a signer that publishes through a daemon."""
    (folder / "signed.zone").write_text(zone)
    return SignerProcess(folder, "--state", daemon.state, *flags, key_file=daemon.state.parent / "zone.key")


def has_address(node: Served, name: str, address: str) -> bool:
    """Return whether a node answers a name with an address."""
    return [str(rdata) for rrset in node.ask(name).answer for rdata in rrset] == [address]


def test_what_nsupdate_changes_another_node_answers_and_the_file_has(
    nodes: tuple[Served, Served], tmp_path: Path
) -> None:
    own, other = nodes
    process = signer(tmp_path, own)
    process.waits_for("published")
    wait_until(lambda: has_address(other, f"www.{KEY}", "192.0.2.80"), "the zone at another node")
    for zone, address in ((KEY, "192.0.2.1"), (f"{KEY}.p2p.alt", "192.0.2.2")):
        done = process.nsupdate(f"update delete new.{zone}", f"update add new.{zone} 1 A {address}", zone=zone)
        assert (done.returncode, done.stderr) == (0, "")
        # The other node has the zone in its cache: its TTLs are over after a second.
        wait_until(lambda: has_address(other, f"new.{KEY}", address), "the change at another node")  # noqa: B023
    assert process.zone_file.read_text() == ZONE + "new 1 A 192.0.2.2\n"
    assert process.end() == 0
    # No process has the key but the signer: the daemon got signed items.
    secret = SECRET.write(None).splitlines()[-2].decode()
    assert secret not in own.said() + process.said()


def test_what_was_acknowledged_before_a_kill_is_published_after_it(
    nodes: tuple[Served, Served], tmp_path: Path
) -> None:
    own, other = nodes
    # In a file with $GENERATE, which is never written: the journal alone has the change.
    process = signer(tmp_path, own, zone=ZONE + "$GENERATE 1-2 h$ A 192.0.2.$\n")
    process.waits_for("published")
    assert process.nsupdate(f"update add killed.{KEY} 1 A 192.0.2.3").returncode == 0
    process.end(signal.SIGKILL)
    process.start()
    wait_until(lambda: has_address(other, f"killed.{KEY}", "192.0.2.3"), "the change at another node")
    assert process.end() == 0
    assert "killed" not in process.zone_file.read_text()


def test_an_edited_file_is_published_at_sighup(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    own, other = nodes
    process = signer(tmp_path, own)
    process.waits_for("published")
    process.zone_file.write_text(ZONE + "edited A 192.0.2.4\n")
    process.process.send_signal(signal.SIGHUP)
    wait_until(lambda: has_address(other, f"edited.{KEY}", "192.0.2.4"), "the edit at another node")
    process.zone_file.write_text("edited A 192.0.2.444\n")
    process.process.send_signal(signal.SIGHUP)
    process.waits_for("the zone file is not taken")
    assert process.end() == 0


def test_without_a_daemon_a_node_of_its_own_publishes(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    own, other = nodes
    bootstrap = own.status()["dht_address"]
    process = signer(tmp_path, own, "--network", NETWORK, "--bootstrap", bootstrap)
    assert process.nsupdate(f"update add alone.{KEY} 1 A 192.0.2.5").returncode == 0
    wait_until(lambda: has_address(other, f"alone.{KEY}", "192.0.2.5"), "the change at another node")
    assert process.end() == 0


def test_without_any_daemon_changes_are_taken_and_kept_until_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "signed.zone").write_text(ZONE)
    process = SignerProcess(tmp_path, "--state", tmp_path / "nobody")
    process.waits_for("not published yet")
    assert process.nsupdate(f"update add kept.{KEY} 60 A 192.0.2.6").returncode == 0
    wait_until(lambda: "kept 60 A 192.0.2.6" in process.zone_file.read_text(), "the change in the file")
    assert process.end() == 0


def test_a_zone_published_from_elsewhere_is_not_replaced_unless_forced_once(
    nodes: tuple[Served, Served], tmp_path: Path
) -> None:
    own, other = nodes
    key, path = tmp_path / "elsewhere.key", tmp_path / "elsewhere.zone"
    key.touch(0o600)
    key.write_bytes(SECRET.write(None))
    path.write_text("www 1 A 192.0.2.90\n")
    assert p2pdns("publish", "--force", "--yes", "-k", key, path, "--state", own.state).returncode == 0
    process = signer(tmp_path, own)
    process.waits_for("not published yet")
    assert "p2pdns publish --force" in process.said()
    forced = p2pdns("publish", "--force", "-k", process.key_file, process.zone_file, "--state", own.state)
    assert forced.returncode == 0, forced.stderr
    assert process.nsupdate(f"update add forced.{KEY} 1 A 192.0.2.7").returncode == 0
    wait_until(lambda: has_address(other, f"forced.{KEY}", "192.0.2.7"), "the change at another node")
    assert process.end() == 0


def test_a_wrong_or_missing_tsig_is_told_to_nsupdate(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    process = signer(tmp_path, nodes[0])
    unsigned = process.nsupdate(f"update add x.{KEY} 60 A 192.0.2.6", flags=("-d",))
    assert (unsigned.returncode, "REFUSED" in unsigned.stderr) == (2, True)
    key = "hmac-sha256:update:" + "A" * 43 + "="
    wrong = process.nsupdate(f"update add x.{KEY} 60 A 192.0.2.6", flags=("-y", key))
    assert wrong.returncode == 2
    elsewhere = process.nsupdate("update add x.example 60 A 192.0.2.6", zone="example")
    assert (elsewhere.returncode, "NOTAUTH" in elsewhere.stderr) == (2, True)
    assert process.end() == 0
    assert process.zone_file.read_text() == ZONE


def test_dig_transfers_the_zone_with_a_key(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    process = signer(tmp_path, nodes[0])
    words = ["dig", "@127.0.0.1", "-p", str(process.port), KEY, "AXFR", "+noall", "+answer"]
    done = subprocess.run(
        [*words, "-k", process.tsig_file], capture_output=True, text=True, timeout=GUARD_S, check=True
    )
    assert "192.0.2.80" in done.stdout
    assert done.stdout.count("SOA") == 2
    assert "failed" in subprocess.run(words, capture_output=True, text=True, timeout=GUARD_S, check=True).stdout
    assert process.end() == 0


def test_a_zone_of_many_names_takes_updates_and_is_transferred_whole(
    nodes: tuple[Served, Served], tmp_path: Path
) -> None:
    own, other = nodes
    lines = [f"host{number} A 192.0.2.{number % 250}" for number in range(400)]
    process = signer(tmp_path, own, zone="\n".join(["$TTL 1", *lines]) + "\n")
    process.waits_for("published")
    wait_until(lambda: has_address(other, f"host399.{KEY}", "192.0.2.149"), "the zone at another node")
    done = process.nsupdate(f"update delete host7.{KEY}", f"update add new.{KEY} 1 A 192.0.2.1")
    assert (done.returncode, done.stderr) == (0, "")
    wait_until(lambda: has_address(other, f"new.{KEY}", "192.0.2.1"), "the change at another node")
    assert other.ask(f"host7.{KEY}").rcode().name == "NXDOMAIN"
    words = ["dig", "@127.0.0.1", "-p", str(process.port), KEY, "AXFR", "+noall", "+answer"]
    words += ["-k", str(process.tsig_file)]
    transferred = subprocess.run(words, capture_output=True, text=True, timeout=GUARD_S, check=True).stdout
    types = Counter(line.split()[3] for line in transferred.splitlines() if line.startswith(("host", "new", KEY)))
    assert (types["A"], types["SOA"]) == (400, 2)
    assert process.end() == 0


def test_a_second_signer_of_a_zone_file_is_refused(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    process = signer(tmp_path, nodes[0])
    words: list[str | Path] = [
        "signer",
        "-k",
        process.key_file,
        "--zone",
        process.zone_file,
        "--tsig",
        process.tsig_file,
    ]
    done = p2pdns(*words, "--listen", "127.0.0.1:0")
    assert_refused(done, ".*: another signer has this zone file")
    done = p2pdns(*words, "--listen", f"127.0.0.1:{process.port}")
    assert_refused(done, f"127.0.0.1:{process.port}: port is in use")
    assert process.end() == 0


def test_a_tsig_file_that_others_may_open_is_refused(tmp_path: Path) -> None:
    for name, text, mode in (("zone.key", SECRET.write(None), 0o600), ("t", TSIG_FILE.encode(), 0o644)):
        (tmp_path / name).write_bytes(text)
        (tmp_path / name).chmod(mode)
    (tmp_path / "z").write_text(ZONE)
    done = p2pdns("signer", "-k", tmp_path / "zone.key", "--zone", tmp_path / "z", "--tsig", tmp_path / "t")
    assert_refused(done, '".*t": other users may open this key file .mode 0644.')
