"""A server that publishes the zones of its configuration: its signer, and what the other processes cannot read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from p2pdns.items.keys import SecretKey
from tests.live.front_process import GUARD_S, wait_until
from tests.live.served import NOBODY, ROOT, Served, p2pdns
from tests.live.test_supervisor import children_of, is_alive

ADDRESSES = {"alice": "192.0.2.10", "bob": "192.0.2.11"}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield another node of the overlay."""
    node = Served(tmp_path_factory.mktemp("other") / "state")
    yield node
    assert node.end() == 0


Start = Callable[..., "TablesServer"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Yield a folder below /var/lib: those of the other tests are closed to other users."""
    folder = Path(tempfile.mkdtemp(dir="/var/lib", prefix="p2pdns-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def start(other: Served) -> Iterator[Start]:
    """Yield a function that starts a server; all of them are ended, whatever the test has found."""
    started: list[TablesServer] = []

    def begin(folder: Path, *flags: str, more: str = "", within: Sequence[str] = ()) -> TablesServer:
        started.append(TablesServer(folder, other, *flags, more=more, within=within))
        started[-1].served.ready()
        return started[-1]

    yield begin
    for server in started:
        server.served.end()


class TablesServer:
    """The files of a server with two tables, of which the second is watched, and the server."""

    def __init__(self, folder: Path, other: Served, *flags: str, more: str = "", within: Sequence[str] = ()) -> None:
        self.folder = folder
        self.flags = ("-c", str(folder / "p2pdns.toml"), "--bootstrap", other.status()["dht_address"], *flags)
        # Keys of its own: what another test has published is another publisher's to this server.
        self.secrets = {name: SecretKey.generate(os.urandom(32)) for name in ADDRESSES}
        self.keys = {name: str(secret.zone_key) for name, secret in self.secrets.items()}
        text = more
        for name, secret in self.secrets.items():
            key, zone = folder / f"{name}.key", folder / f"{name}.zone"
            key.touch(0o600)
            key.write_bytes(secret.write(None))
            zone.write_text(f"$TTL 1\nwww A {ADDRESSES[name]}\n")
            watch = "watch = true\n" if name == "bob" else ""
            text += f'[[publish]]\nzone = "{zone}"\nkey = "{key}"\n{watch}'
        (folder / "p2pdns.toml").write_text(text)
        # Not waited for here: what has been started must be known to the fixture that ends it.
        self.served = Served(folder / "state", *self.flags, within=within, is_ready=False)

    @property
    def tables(self) -> dict[str, dict[str, Any]]:
        """What the server says of its tables, by the name of the zone file."""
        rows = self.served.control.call("zones")["tables"]
        return {Path(row["file"]).stem: row for row in rows}

    def waits_for(self, what: Callable[[dict[str, dict[str, Any]]], bool], words: str) -> dict[str, dict[str, Any]]:
        """Wait until the tables are so, and return them."""
        wait_until(lambda: what(self.tables), words)
        return self.tables

    def pid_of(self, name: str) -> int:
        """Return the process id of a child, once there is one."""
        found: list[int] = []

        def is_there() -> bool:
            # It may end between two looks.
            found.extend(pid for child, pid in children_of(self.served.process.pid).items() if child == name)
            return bool(found)

        wait_until(is_there, f"a running {name}")
        return found[0]


def are_published(tables: dict[str, dict[str, Any]]) -> bool:
    """Return whether each table has a publication and no trouble."""
    return len(tables) == 2 and all(row["seq"] and row["trouble"] is None for row in tables.values())


def has_address(node: Served, name: str, address: str) -> bool:
    """Return whether a node answers a name with an address."""
    return [str(rdata) for rrset in node.ask(name).answer for rdata in rrset] == [address]


def test_both_zones_of_a_server_are_answered_by_another_node_and_survive_a_killed_signer(
    other: Served, start: Start, tmp_path: Path
) -> None:
    server = start(tmp_path)
    before = server.waits_for(are_published, "two published tables")
    for name, address in ADDRESSES.items():
        wait_until(lambda: has_address(other, f"www.{server.keys[name]}", address), f"{name} at another node")  # noqa: B023
    pid = server.pid_of("signer")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.pid_of("signer") != pid, "another signer")
    # The zones are kept alive as they are: a signer that ends again and again must not sign them again and again.
    wait_until(lambda: server.served.said().count("kept alive as it is") == 2, "the word of the new signer")
    after = server.waits_for(are_published, "two tables in the report of the new signer")
    assert {name: row["seq"] for name, row in after.items()} == {name: row["seq"] for name, row in before.items()}
    # The watched file alone is published when it is saved; the other one at a reload.
    for name in ADDRESSES:
        (tmp_path / f"{name}.zone").write_text("$TTL 1\nwww A 192.0.2.77\n")
    server.waits_for(lambda rows: rows["bob"]["seq"] > before["bob"]["seq"], "the saved zone")
    assert server.tables["alice"]["seq"] == before["alice"]["seq"]
    assert server.served.control.call("reload")["needs_restart"] == []
    server.waits_for(lambda rows: rows["alice"]["seq"] > before["alice"]["seq"], "the zone after a reload")
    wait_until(lambda: has_address(other, f"www.{server.keys['alice']}", "192.0.2.77"), "the change at another node")
    # Who takes a zone down hears that the table publishes it again.
    down = p2pdns("unpublish", "-k", str(tmp_path / "alice.key"), "--yes", "--state", server.served.state)
    assert "alice.zone: a [[publish]] table of the running server publishes this zone again: take it out" in down.stderr
    assert server.served.end() == 0
    assert not is_alive(pid)


def test_a_table_without_its_files_stops_neither_the_others_nor_the_server(start: Start, tmp_path: Path) -> None:
    server = start(
        tmp_path,
        more=f'[[publish]]\nzone = "{tmp_path}/carol.zone"\nkey = "{tmp_path}/carol.key"\n'
        f'[[publish]]\nzone = "{tmp_path}/dave.zone"\nkey = "{tmp_path}/dave.key"\nwatch = true\n',
    )
    dave = SecretKey.generate(b"\x0d" * 32)
    rows = server.waits_for(lambda rows: {"alice", "bob"} <= {name for name in rows if rows[name]["seq"]}, "the others")
    assert "no such file" in rows["carol"]["trouble"]
    status = server.served.status()
    causes = {problem["about"]: problem["cause"] for problem in status["problems"]}
    assert "carol.zone" in causes["publish"]
    shown = p2pdns("zones", "--state", server.served.state)
    assert shown.returncode == 0
    assert f"{tmp_path}/carol.zone" in shown.stdout
    assert f"p2pdns: warning: {tmp_path}/carol.zone: " in shown.stderr
    assert server.served.end() == 0
    # At the next start its key is there and its zone has a mistake, and then not.
    (tmp_path / "dave.key").touch(0o600)
    (tmp_path / "dave.key").write_bytes(dave.write(None))
    (tmp_path / "dave.zone").write_text("www A 192.0.2.444\n")
    server.served = Served(tmp_path / "state", *server.flags)
    server.waits_for(lambda rows: "dave.zone:1" in (rows.get("dave", {}).get("trouble") or ""), "the mistake")
    (tmp_path / "dave.zone").write_text("www A 192.0.2.44\n")
    server.waits_for(lambda rows: rows["dave"]["trouble"] is None and bool(rows["dave"]["seq"]), "the mended zone")
    assert server.served.end() == 0


def has_open(pid: int, path: Path) -> Path | None:
    """Return the descriptor by which a process has a file open; None where it has none."""
    wanted = path.stat()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.path.samestat(link.stat(), wanted):
                return link
        except FileNotFoundError:
            continue
    return None


def opened_to_all(folder: Path) -> list[str]:
    """Return the command that runs others where every user may read this Python: in mounts of its own.

    A folder that only root may enter is covered there by one that has what is needed of it.
    """
    steps = []
    for number, needed in enumerate(sorted({Path(sys.base_prefix), Path(sys.prefix), ROOT})):
        closed = next((above for above in reversed(needed.parents) if not above.stat().st_mode & stat.S_IXOTH), None)
        if closed is not None:
            kept = folder / f"kept{number}"
            steps.append(
                f"mkdir {kept}; mount --rbind {needed} {kept}; mount -t tmpfs -o mode=755 none {closed};"
                f" mkdir -p {needed}; mount --rbind {kept} {needed}; umount -l {kept}; rmdir {kept}"
            )
    script = "; ".join(["set -e", *steps, 'exec "$@"'])
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]


def status_of(pid: int, word: str) -> list[str]:
    """Return the words of a line in the status of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{word}:"))


READ_AS_NOBODY = f"""
import os, sys
os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
for path in sys.argv[1:]:
    try:
        open(path, "rb").read()
        print("read", path)
    except OSError as trouble:
        print(type(trouble).__name__, path)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_processes_that_meet_strangers_cannot_read_a_key_that_root_owns(
    other: Served, open_folder: Path, start: Start
) -> None:
    folder = open_folder
    state = folder / "state"
    state.mkdir(0o700)
    os.chown(state, NOBODY, NOBODY)
    server = start(folder, within=opened_to_all(folder))
    server.waits_for(are_published, "two published tables")
    pids = {name: server.pid_of(name) for name in ("engine", "front", "signer")}
    key = folder / "alice.key"
    for name, pid in pids.items():
        assert status_of(pid, "Uid") == [str(NOBODY)] * 4, name
        assert status_of(pid, "CapEff") == ["0" * 16], name
        assert status_of(pid, "NoNewPrivs") == ["1"], name
        assert has_open(pid, key) is None, name
        environ = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        assert server.secrets["alice"].write(None).splitlines()[1] not in environ
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    # The supervisor holds the descriptor for the next signer, and the user of the others gets at neither.
    supervisor = server.served.process.pid
    descriptor = has_open(supervisor, key)
    assert descriptor is not None
    memory = [f"/proc/{pid}/{what}" for pid in (supervisor, pids["signer"]) for what in ("mem", "environ")]
    asked = [str(key), str(descriptor), *memory]
    done = subprocess.run(
        [sys.executable, "-c", READ_AS_NOBODY, *asked], capture_output=True, text=True, check=True, timeout=GUARD_S
    )
    assert done.stdout == "".join(f"PermissionError {path}\n" for path in asked)
    # After a restart the signer has the keys again, by the descriptors.
    os.kill(pids["signer"], signal.SIGKILL)
    wait_until(lambda: server.served.said().count("kept alive as it is") == 2, "the word of the new signer")
    # What was published by hand is no stranger's to the server, nor the other way round.
    command = ["publish", "-c", str(folder / "p2pdns.toml"), "--state", str(state)]
    done_by_hand = p2pdns(*command)
    assert done_by_hand.returncode == 0, done_by_hand.stderr
    (folder / "bob.zone").write_text("$TTL 1\nwww A 192.0.2.78\n")
    wait_until(lambda: has_address(other, f"www.{server.keys['bob']}", "192.0.2.78"), "the saved zone")
    again = p2pdns(*command)
    assert again.returncode == 0, again.stderr
    assert server.served.end() == 0
    owners = {path.name: path.stat().st_uid for path in state.iterdir()}
    assert set(owners.values()) == {NOBODY}, owners


def test_publish_without_files_publishes_all_tables_and_tells_of_each(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path)
    server.waits_for(are_published, "two published tables")
    command = ["publish", "-c", str(tmp_path / "p2pdns.toml"), "--state", str(server.served.state)]
    done = p2pdns(*command)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["zone", "file", "seq", "stored", "outcome"]
    assert [row.split()[0] for row in rows] == list(server.keys.values())
    assert all(row.endswith("1 of 1  ok") for row in rows)
    # One of them has a mistake: the other is published all the same, and the exit status tells.
    (tmp_path / "alice.zone").write_text("www A 192.0.2.444\n")
    half = p2pdns(*command, "--json")
    assert half.returncode == 1
    document = json.loads(half.stdout)
    assert [row["ok"] for row in document["tables"]] == [False, True]
    assert document["tables"][0]["error"].startswith(f"{tmp_path}/alice.zone:1: ")
    assert document["exit"] == 1
    # One zone alone, by its file.
    one = p2pdns(*command, str(tmp_path / "bob.zone"))
    assert one.returncode == 0, one.stderr
    assert [row.split()[0] for row in one.stdout.splitlines()[1:]] == [server.keys["bob"]]
    # Most of a zone goes only with --yes, and --dry-run puts nothing.
    (tmp_path / "alice.zone").write_text("other A 192.0.2.1\n")
    gone = p2pdns(*command)
    assert gone.returncode == 1
    assert "1 of 1 RRset of the published zone would go" in gone.stderr
    dry = p2pdns(*command, "--dry-run")
    assert dry.returncode == 0
    assert "1 RRset added, 1 RRset removed" in dry.stdout
    agreed = p2pdns(*command, "--yes")
    assert agreed.returncode == 0, agreed.stderr
    assert server.served.end() == 0


def test_a_node_without_dns_publishes_its_tables_and_has_no_front(other: Served, start: Start, tmp_path: Path) -> None:
    server = start(tmp_path, "--no-dns")
    server.waits_for(are_published, "two published tables")
    assert set(children_of(server.served.process.pid)) == {"engine", "signer"}
    wait_until(lambda: has_address(other, f"www.{server.keys['bob']}", "192.0.2.11"), "the zone at another node")
    assert server.served.end() == 0
