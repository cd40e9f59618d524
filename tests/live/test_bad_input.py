"""What a user or an attacker can hand to the real program: each ends in an error line and a hint, or in nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from p2pdns.cli.main import main
from p2pdns.dht import bencode, krpc
from p2pdns.items.keys import SecretKey
from tests.live.front_process import GUARD_S, wait_until
from tests.live.served import KEY, NETWORK, NOBODY, OTHER_ADDRESS, SECRET, WWW_ADDRESS, Served, assert_refused, p2pdns
from tests.live.test_supervisor import children_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
DATAGRAM_COUNT = 50_000
GROWTH_KB_MAX = 64_000  # What caches and counters may take during that; one leak a datagram would be five times more.


# Files and words


def _key_files() -> None:
    """Write every kind of file that is not the key asked for."""
    rsa_key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files = {
        "good.key": SECRET.write(None),
        "locked.key": SECRET.write(b"right"),
        "rsa.key": rsa_key,
        "garbage.key": random.Random(1).randbytes(400),
        "empty.key": b"",
        "public.key": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "cut.key": SECRET.write(None)[:70],
        "huge.key": bytes(70_000),
        "wrong.txt": b"wrong\n",
        "binary.zone": b"\xff\xfe\x00",
        "large.zone": b"$TTL 300\n" + b"".join(b'h TXT "%0250d"\n' % i for i in range(100)),
        "broken.zone": b"www A not-an-address\n",
        "foreign.zone": b"$ORIGIN example.com.\n@ A 192.0.2.1\n",
        "none.zone": b"; nothing\n",
        "typo.toml": b'[dns]\nlisen = ["127.0.0.1:0"]\n',
        "table.toml": b"[dsn]\n",
        "type.toml": b"[dns]\nlisten = 3\n",
        "syntax.toml": b"[dns\n",
        "bytes.toml": b"\xff\n",
    }
    for name, content in files.items():
        Path(name).write_bytes(content)
        Path(name).chmod(0o600)
    Path("open.key").write_bytes(SECRET.write(None))
    Path("open.key").chmod(0o644)
    Path("folder.key").mkdir(0o700)


MISTAKES = {
    "a key that others may read": (
        "pubkey open.key",
        1,
        r'"open.key": other users may open this key file \(mode 0644\)',
    ),
    "a key of another kind": ("pubkey rsa.key", 1, '"rsa.key": the key is not Ed25519'),
    "no key at all": ("pubkey garbage.key", 1, '"garbage.key": not a PEM key file'),
    "an empty key": ("pubkey empty.key", 1, '"empty.key": not a PEM key file'),
    "a public key": ("pubkey public.key", 1, '"public.key": a public key, the secret one is needed'),
    "a damaged key": ("pubkey cut.key", 1, '"cut.key": a damaged PKCS#8 PEM file'),
    "a huge key": ("pubkey huge.key", 1, '"huge.key": more than 65536 bytes, .*'),
    "a folder for a key": ("pubkey folder.key", 1, '"folder.key": is a directory'),
    "a missing key": ("pubkey nothing-like-it", 1, '"nothing-like-it": no such file'),
    "a path through a file": ("pubkey good.key/x", 1, '"good.key/x": not a directory'),
    "a path too long": ("pubkey " + "k" * 300, 1, '"k+": file name too long'),
    "a passphrase needed": ("pubkey locked.key", 1, '"locked.key": the key needs a passphrase'),
    "a wrong passphrase": ("pubkey locked.key --passphrase-file wrong.txt", 1, '"locked.key": wrong passphrase, .*'),
    "an empty passphrase": (
        "pubkey locked.key --passphrase-file empty.key",
        1,
        '"empty.key": the first line is empty.*',
    ),
    "both from standard input": ("pubkey - --passphrase-file -", 2, "--passphrase-file -: standard input can be .*"),
    "a key file there already": ("keygen -o good.key", 1, '"good.key": the file exists and is not overwritten'),
    "a key for no folder": ("keygen -o no/such.key", 1, '"no": no such folder'),
    "a bad key to publish with": ("publish -k open.key large.zone", 1, '"open.key": other users may .*'),
    "a zone too large": (
        "publish -k good.key large.zone",
        1,
        r"large\.zone: h has \d+ bytes, and 23278 fit 25 items",
    ),
    "a zone of no text": ("check binary.zone", 1, r"binary\.zone:1: not a text file \(UTF-8\)"),
    "a zone with a mistake": ("check broken.zone", 1, r"broken\.zone:1: .*"),
    "a zone of another name": ("check foreign.zone", 1, r"foreign\.zone:2: .*"),
    "a zone of nothing": ("check none.zone", 1, r"none\.zone: no records"),
    "an unknown setting": ("serve -c typo.toml", 2, r"typo\.toml:2: \[dns\] lisen: unknown setting"),
    "an unknown table": ("serve -c table.toml", 2, r"table\.toml:1: \[dsn\]: unknown table or setting"),
    "a setting of another type": ("serve -c type.toml", 2, r"type\.toml:2: \[dns\] listen: must be a list, .*"),
    "no TOML": ("check syntax.toml", 2, r"syntax\.toml:1: .*"),
    "no text": ("check bytes.toml", 2, r"bytes\.toml:1: not UTF-8"),
    "a folder for a configuration": ("serve -c folder.key", 2, r"folder\.key: is a directory"),
    "no configuration": ("serve -c nothing.toml", 2, r"nothing\.toml: no such file"),
    "an unknown verb": ("srve", 2, '"srve": no such verb'),
    "an unknown flag": ("serve --dnss 127.0.0.1:0", 2, "serve --dnss: no such flag"),
    "a port that is none": ("serve --dns 127.0.0.1:99999", 2, '--dns: "127.0.0.1:99999": "99999" is not a port'),
    "a host for an address": ("serve --dht localhost:1", 2, '--dht: "localhost:1" is not an address'),
    "a network that is none": ("serve --network ü", 2, '--network: "ü" is not a network'),
    "an upstream that is none": ("serve --upstream 999.1.1.1", 2, "--upstream: .*"),
    "flags that exclude each other": ("serve --dns 127.0.0.1:0 --no-dns", 2, "serve: --dns and --no-dns exclude .*"),
    "a state directory that is a file": (
        "serve --no-dns --state good.key --dht 127.0.0.1:0",
        1,
        "good.key: file exists, and is no directory",
    ),
    "a state path too long": ("status --state " + "s" * 300, 1, "s+/control.sock: file name too long"),
    "no daemon": ("status --state nowhere", 1, "nowhere: no daemon runs here"),
    "a name that is none": ("resolve a..b @127.0.0.1:9", 2, r'"a\.\.b": not a name: .*'),
    "a key that is no point": ("inspect " + "y" * 52, 2, '"y+": not a zone key .*'),
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder full of bad files."""
    folder = tmp_path_factory.mktemp("mistakes")
    with contextlib.chdir(folder):
        _key_files()
    return folder


@pytest.mark.parametrize(("command", "code", "error"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_says_where_and_what_and_a_hint(
    mistakes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
    code: int,
    error: str,
) -> None:
    monkeypatch.chdir(mistakes)
    monkeypatch.setenv("P2PDNS_CONFIG", os.devnull)
    # In this process: forty interpreters would say the same.
    status = main(command.split(" "))
    said = capfd.readouterr()
    assert_refused(subprocess.CompletedProcess(command, status, said.out, said.err), error, code)


def test_no_error_shows_a_secret(mistakes: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret = SECRET.write(None).splitlines()[1].decode()
    for name in ("open.key", "cut.key", "locked.key"):
        main(["pubkey", str(mistakes / name)])
    said = "".join(capfd.readouterr())
    assert secret[-20:] not in said


@needs_root
def test_a_key_file_of_another_user_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "their.key").write_bytes(SECRET.write(None))
    (tmp_path / "their.key").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    assert_refused(p2pdns("pubkey", "their.key", user=True), '"their.key": permission denied')


# Standard streams, locale, clock


@pytest.mark.parametrize(
    ("shell", "error"),
    [
        (">&-", "standard output: bad file descriptor"),
        (">/dev/full", "standard output: no space left on device"),
    ],
)
def test_a_result_that_cannot_be_written_is_an_error(mistakes: Path, shell: str, error: str) -> None:
    assert_refused(p2pdns("pubkey", mistakes / "good.key", shell=shell), error)


def test_a_closed_standard_input_is_an_error_for_who_reads_it() -> None:
    assert_refused(p2pdns("pubkey", "-", shell="<&-"), '"-": bad file descriptor')


def test_a_daemon_without_any_standard_stream_serves(tmp_path: Path) -> None:
    # The numbers 0, 1 and 2 are free at its start; none of its sockets may get them.
    served = Served(tmp_path / "state", shell="<&- >&- 2>&-")
    assert served.ask("p2p.alt").rcode() == dns.rcode.NOERROR
    assert served.end() == 0


def test_an_ascii_locale_is_no_obstacle_to_other_letters(tmp_path: Path) -> None:
    folder = tmp_path / "zoné-ü"
    folder.mkdir()
    plain = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    served = Served(folder / "staté", extra=plain)
    served.publish_here(folder)
    assert served.address_of(f"www.{KEY}") == WWW_ADDRESS
    assert_refused(p2pdns("pubkey", folder / "clé", extra=plain), '".*cl.*": no such file')
    assert served.end() == 0


def _clock(tmp_path: Path, unix: float) -> dict[str, str]:
    """Return an environment in which Python's wall clock says something else."""
    folder = tmp_path / f"clock{unix:g}"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"import time\n_real = time.time\n_ahead = {unix} - _real()\ntime.time = lambda: _real() + _ahead\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).parents[2])])}


def test_with_the_clock_of_1970_names_resolve_and_nothing_is_signed(tmp_path: Path) -> None:
    early = _clock(tmp_path, 60.0)
    served = Served(tmp_path / "state", extra=early)
    served.publish_here(tmp_path)
    # Signed half a century ahead of this node's clock, and yet believed: it is the clock that is wrong.
    assert served.address_of(f"www.{KEY}") == WWW_ADDRESS
    words = [
        "publish",
        "-k",
        str(tmp_path / "zone.key"),
        str(tmp_path / "published.zone"),
        "--state",
        str(served.state),
    ]
    assert_refused(p2pdns(*words, extra=early), "clock: the clock says 1970-01-01 .* before this program was made")
    assert served.end() == 0


# Ports, state directories


@pytest.mark.parametrize("kind", ["udp", "tcp", "dht"])
def test_a_port_in_use_is_told_with_its_number(tmp_path: Path, kind: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        if kind == "tcp":
            held.listen()
        busy = f"127.0.0.1:{held.getsockname()[1]}"
        dns_at, dht_at = ("127.0.0.1:0", busy) if kind == "dht" else (busy, "127.0.0.1:0")
        words = ["--dns", dns_at, "--dht", dht_at, "--network", NETWORK, "--state", str(tmp_path / "state")]
        assert_refused(p2pdns("serve", *words), f"{re.escape(busy)}: port is in use")
    assert not list((tmp_path / "state").glob("*.sock"))


def test_a_second_daemon_says_who_has_the_directory_and_never_listens(tmp_path: Path) -> None:
    first = Served(tmp_path / "state")
    words = ["serve", "--state", str(first.state), "--network", NETWORK, "--dht", "127.0.0.1:0"]
    pid = children_of(first.process.pid)["engine"]
    for flags in (["--dns", "127.0.0.1:0"], ["--no-dns"]):
        done = p2pdns(*words, *flags)
        assert_refused(done, rf".*/state: another p2pdns runs in this state directory \(pid {pid}\)")
    assert first.status()["pid"] == pid
    assert first.end() == 0


def _lock_is_a_folder(state: Path) -> None:
    (state / "lock").mkdir()


def _reader_is_a_folder(state: Path) -> None:
    (state / "reader.sqlite").mkdir()


def _reader_leads_nowhere(state: Path) -> None:
    (state / "reader.sqlite").symlink_to("/nonexistent/reader")


def _control_is_a_folder(state: Path) -> None:
    (state / "control.sock").mkdir()


def _link_is_a_folder(state: Path) -> None:
    (state / "link.sock").mkdir()


@pytest.mark.parametrize(
    "spoil",
    [_lock_is_a_folder, _reader_is_a_folder, _reader_leads_nowhere, _control_is_a_folder, _link_is_a_folder],
)
def test_a_state_directory_that_cannot_be_used_ends_the_start(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    state = tmp_path / "state"
    state.mkdir()
    spoil(state)
    done = p2pdns("serve", "--no-dns", "--state", state, "--network", NETWORK, "--dht", "127.0.0.1:0")
    # Without contacts, which is said as well.
    done.stderr = "".join(line for line in done.stderr.splitlines(True) if ": warning: 0 contacts" not in line)
    assert_refused(done, f"{re.escape(str(state))}.*: .*")


def _open_to_all(folder: Path) -> None:
    """Let every user into a folder for tests; how many of those above it are private is pytest's affair."""
    top = Path(tempfile.gettempdir())
    for level in (folder, *folder.parents):
        if level == top or not level.is_relative_to(top):
            return
        level.chmod(0o755)


@needs_root
def test_a_read_only_state_directory_is_told_so(tmp_path: Path) -> None:
    state = tmp_path / "state"
    _open_to_all(tmp_path)
    state.mkdir(0o755)
    words = ["serve", "--no-dns", "--network", NETWORK, "--dht", "127.0.0.1:0", "--state"]
    assert_refused(p2pdns(*words, state, user=True), ".*/state: belongs to root, and this is .*")
    assert_refused(p2pdns(*words, state / "below", user=True), ".*/below: permission denied")


def test_a_state_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    served = Served(tmp_path / "/".join("x" * 60 for _ in range(4)), log=tmp_path / "log")
    served.publish_here(tmp_path)
    assert served.address_of(f"any.{KEY}") == OTHER_ADDRESS
    assert served.end() == 0


def test_a_full_disk_is_told_and_service_goes_on(tmp_path: Path) -> None:
    served = Served(tmp_path / "state")
    served.publish_here(tmp_path)
    engine = children_of(served.process.pid)["engine"]
    before = resource.prlimit(engine, resource.RLIMIT_FSIZE)
    # The log is full as well, as it is where both are on one disk.
    resource.prlimit(engine, resource.RLIMIT_FSIZE, (0, before[1]))
    refused = served.publish(tmp_path)
    # What would change was said before.
    error, hint = refused.stderr.splitlines()[-2:]
    assert re.fullmatch(r"p2pdns: error: reader\.sqlite: cannot be written: .*", error), refused.stderr
    assert (hint.startswith("p2pdns: hint: "), refused.returncode, refused.stdout) == (True, 1, "")
    assert served.address_of(f"new.{KEY}") == OTHER_ADDRESS
    resource.prlimit(engine, resource.RLIMIT_FSIZE, before)
    served.publish_here(tmp_path)
    assert served.end() == 0


# The sockets of the state directory


@needs_root
def test_the_daemon_of_another_user_is_not_ours_to_ask(tmp_path: Path) -> None:
    _open_to_all(tmp_path)
    served = Served(tmp_path / "state")
    theirs = r".*/control\.sock: the control socket belongs to root"
    assert_refused(p2pdns("status", "--state", served.state, user=True), theirs)
    # Even when its owner has opened every door by mistake.
    served.state.chmod(0o755)
    (served.state / "control.sock").chmod(0o666)
    done = p2pdns("status", "--state", served.state, user=True)
    assert_refused(done, "control socket: this daemon belongs to root, you are .*")
    assert served.end() == 0


@pytest.mark.parametrize("name", ["control.sock", "link.sock"])
@pytest.mark.parametrize("kind", ["file", "their socket"])
def test_what_lies_where_a_socket_belongs_is_replaced(tmp_path: Path, name: str, kind: str) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    if kind == "file":
        (state / name).write_text("left by somebody")
    else:
        with socket.socket(socket.AF_UNIX) as leftover:
            leftover.bind(str(state / name))
    if kind == "their socket" and os.geteuid() == 0:
        os.chown(state / name, NOBODY, NOBODY)
    assert_refused(p2pdns("status", "--state", state), ".*/state: no daemon runs here")
    served = Served(state, "--no-dns")
    assert served.status()["pid"] == served.process.pid
    assert (state / name).stat().st_uid == os.geteuid()
    assert served.end() == 0


@pytest.mark.parametrize("reply", [{"ok": True}, {"ok": True, "status": {}}])
def test_a_daemon_that_leaves_things_out_is_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], reply: dict[str, object]
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(json.dumps(reply).encode() + b"\n")

        thread = threading.Thread(target=answer)
        thread.start()
        status = main(["status", "--state", str(tmp_path)])
        thread.join(GUARD_S)
    said = capfd.readouterr()
    if "status" in reply:
        assert (status, said.err) == (0, "")
        return
    done = subprocess.CompletedProcess("status", status, said.out, said.err)
    assert_refused(done, r""".*/control\.sock: the daemon's reply has no "status\"""")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Return a daemon that holds the zone, for everything that must not hurt it."""
    folder = tmp_path_factory.mktemp("served")
    daemon = Served(folder / "state")
    daemon.publish_here(folder)
    yield daemon
    assert daemon.end() == 0


HOSTILE_LINES = [
    b"\x00" * 100 + b"\n",
    b"[" * 100_000 + b"\n",
    b'{"verb": 1}\n',
    b'{"verb": "status"',
    b'{"verb": "nonsense\\u0000\\n"}\n',
    b'{"verb": "publish", "item": ' + b"9" * 5000 + b"}\n",
    b'{"verb": "publish", "item": "' + b"00" * 1000 + b'"}\n',
    b'{"verb": "trace", "name": "' + b"a." * 4000 + b'", "type": []}\n',
    b'{"verb": "item", "key": {"a": [null]}}\n',
    b'{"verb": "seq", "key": "\\ud800"}\n',
    b'{"verb": "name-add", "name": "\\u0007", "key": "x"}\n',
    b"x" * 2_000_000,
    b'{"verb":"status"}\n' * 200,
]
HOSTILE_FRAMES = [
    b"\xff" * 64,
    bytes(64),
    (70_001).to_bytes(4, "big") + b"x",
    (5).to_bytes(4, "big") + b"\xffabcd",
    random.Random(3).randbytes(5000),
    b"",
]


@pytest.mark.parametrize(("name", "hostile"), [("control.sock", HOSTILE_LINES), ("link.sock", HOSTILE_FRAMES)])
def test_hostile_bytes_on_the_unix_sockets_cost_their_connection_and_nothing_else(
    served: Served, name: str, hostile: list[bytes]
) -> None:
    children = children_of(served.process.pid)
    for data in hostile:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(GUARD_S)
            sock.connect(str(served.state / name))
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except ConnectionError:
                continue
    assert served.address_of(f"www.{KEY}") == WWW_ADDRESS
    assert children_of(served.process.pid) == children
    assert "Traceback" not in served.said()
    assert "internal error" not in served.said()


def _memory_kb(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def _mutated(chance: random.Random, samples: list[bytes]) -> bytes:
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(0, 600))
    raw = bytearray(chance.choice(samples))
    for _ in range(chance.randint(1, 4)):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    return bytes(raw[: chance.randrange(len(raw)) + 1] if chance.random() < 0.2 else raw)


def _samples() -> tuple[list[bytes], list[bytes]]:
    questions = [dns.message.make_query(f"www.{KEY}", "A", use_edns=True), dns.message.make_query("x.p2p.alt", "AAAA")]
    envelope: dict[bytes, bencode.Encodable] = {b"t": b"aaaa", b"nw": krpc.network_of(NETWORK)}
    own: dict[bytes, bencode.Encodable] = {b"id": b"n" * 20}
    item: dict[bytes, bencode.Encodable] = {
        b"k": SecretKey.generate(bytes(32)).zone_key.raw,
        b"seq": 1,
        b"sig": bytes(64),
        b"v": b"x",
        b"token": b"t",
    }
    queries: list[tuple[bytes, dict[bytes, bencode.Encodable]]] = [
        (b"ping", {}),
        (b"get", {b"target": b"x" * 20}),
        (b"find_node", {b"target": b"x" * 20}),
        (b"put", item),
    ]
    messages = [
        bencode.encode({**envelope, b"y": b"q", b"q": method, b"a": {**own, **arguments}})
        for method, arguments in queries
    ]
    messages.append(bencode.encode({**envelope, b"y": b"r", b"r": {**own, b"nodes": b"z" * 52}}))
    return [question.to_wire() for question in questions], messages


def test_fifty_thousand_hostile_datagrams_a_port_leave_service_memory_and_log_as_they_were(served: Served) -> None:
    chance = random.Random(20_261_121)
    questions, messages = _samples()
    children = children_of(served.process.pid)
    memory_kb = {name: _memory_kb(pid) for name, pid in children.items()}
    dht_host, _, dht_port = str(served.status()["dht_address"]).rpartition(":")
    lines = served.said().count("\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(DATAGRAM_COUNT):
            sock.sendto(_mutated(chance, questions), ("127.0.0.1", served.port))
            sock.sendto(_mutated(chance, messages), (dht_host, int(dht_port)))
            if number % 500 == 0:
                # An honest question between them: full socket buffers would hide what never arrived.
                assert served.address_of(f"honest{number}.{KEY}") == OTHER_ADDRESS
    assert served.address_of(f"www.{KEY}") == WWW_ADDRESS
    assert children_of(served.process.pid) == children
    for name, pid in children.items():
        assert _memory_kb(pid) - memory_kb[name] < GROWTH_KB_MAX, name
    counters = served.status()["counters"]["dht"]
    assert sum(count for reason, count in counters.items() if reason.startswith("dropped-")) > DATAGRAM_COUNT / 10
    assert served.said().count("\n") == lines, served.said()[-2000:]
    wait_until(lambda: "kept here" in served.publish(served.state.parent).stdout, "a publication")
