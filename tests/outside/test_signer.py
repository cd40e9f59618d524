"""The signer before the programs of the field: each changes, transfers or serves a zone as its users have it do.

nsupdate and dig are judged in tests/live/test_signer.py, which `make test` runs.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.query
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from p2pdns.net.sockets import open_dns
from tests.live.front_process import GUARD_S, wait_until
from tests.live.served import KEY, Served
from tests.live.signer_process import TSIG_FILE, TSIG_SECRET, SignerProcess

pytestmark = pytest.mark.outside

HERE = "127.0.0.1"
PROGRAM_S_MAX = 120.0  # A guard only.
NAME = f"{KEY}.p2p.alt"
ZONE = "; mine\n$TTL 1\nwww A   192.0.2.80 ; stays\n"
PRIMARY_ZONE = """$TTL 1
@ SOA ns hostmaster 1 60 60 2592000 1
@ NS ns
ns A 192.0.2.53
www A 192.0.2.80
"""
OCTODNS = Path(sys.prefix) / "octodns" / "bin" / "octodns-sync"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """Yield the daemon of the signer, and another node, through which changes must be readable."""
    folder = tmp_path_factory.mktemp("nodes")
    own = Served(folder / "own")
    other = Served(folder / "other", "--bootstrap", own.status()["dht_address"])
    yield own, other
    assert [own.end(), other.end()] == [0, 0]


@contextmanager
def signing(folder: Path, daemon: Served, *flags: str, zone: str | None = ZONE) -> Iterator[SignerProcess]:
    """Yield a signer that publishes through a daemon."""
    if zone is not None:
        (folder / "signed.zone").write_text(zone)
    process = SignerProcess(folder, "--state", daemon.state, *flags, key_file=daemon.state.parent / "zone.key")
    try:
        yield process
    finally:
        assert process.end() == 0


@contextmanager
def running(log: Path, *words: str | Path, extra: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the block lasts."""
    with log.open("ab") as lines:
        process = subprocess.Popen(
            [*map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            env={**os.environ, **(extra or {})},
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GUARD_S)
        finally:
            process.kill()
            process.wait()


def done(*words: str | Path, text: str = "", extra: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return its output; it must end well."""
    finished = subprocess.run(
        [*map(str, words)],
        input=text,
        capture_output=True,
        text=True,
        timeout=PROGRAM_S_MAX,
        check=False,
        env={**os.environ, **(extra or {})},
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def free_port() -> int:
    """Return a port that is free for UDP and TCP."""
    sockets = open_dns((HERE, 0))
    port = sockets.address[1]
    sockets.close()
    return port


def answers(port: int, name: str, rtype: str) -> list[str]:
    """Return the data that a server has for a name, sorted; nothing where it does not answer."""
    query = dns.message.make_query(name, rtype)
    try:
        response = dns.query.udp(query, HERE, port=port, timeout=1.0)
    except (OSError, dns.exception.DNSException):
        return []
    return sorted(str(rdata) for rrset in response.answer for rdata in rrset)


def until_read(node: Served, name: str, rtype: str, wanted: list[str]) -> None:
    """Wait until another node answers so; what it had in its cache has a TTL of a second."""
    wait_until(lambda: answers(node.port, name, rtype) == wanted, f"{name} {rtype} {wanted}", PROGRAM_S_MAX)


def test_knsupdate(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    own, other = nodes
    with signing(tmp_path, own) as signer:
        lines = f"server {HERE} {signer.port}\nzone {NAME}.\nprereq nxdomain knot.{NAME}.\n"
        lines += f"update add knot.{NAME}. 1 A 192.0.2.21\nsend\nquit\n"
        done("knsupdate", "-y", f"hmac-sha256:update:{TSIG_SECRET}", text=lines)
        until_read(other, f"knot.{KEY}", "A", ["192.0.2.21"])
        lines = f"server {HERE} {signer.port}\nzone {NAME}.\nupdate del knot.{NAME}.\nsend\nquit\n"
        done("knsupdate", "-y", f"hmac-sha256:update:{TSIG_SECRET}", text=lines)
        until_read(other, f"knot.{KEY}", "A", [])
    assert signer.zone_file.read_text() == ZONE


@contextmanager
def pebble(folder: Path, node: Served) -> Iterator[tuple[str, Path]]:
    """Yield the directory of an ACME server that asks this node for names, and its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "ca.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    port = free_port()
    settings = {
        "listenAddress": f"{HERE}:{port}",
        "managementListenAddress": "",
        "certificate": str(pem),
        "privateKey": str(folder / "ca.key"),
        "httpPort": 5002,
        "tlsPort": 5001,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
    words: list[str | Path] = ["pebble", "-config", folder / "pebble.json", "-dnsserver", f"{HERE}:{node.port}"]
    with running(folder / "pebble.log", *words, extra=quick):
        wait_until(lambda: is_open(port), "pebble")
        yield f"https://localhost:{port}/dir", pem


def is_open(port: int) -> bool:
    """Return whether somebody listens at a port."""
    with socket.socket() as sock:
        return sock.connect_ex((HERE, port)) == 0


def test_lego_gets_a_certificate_from_pebble(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    own, other = nodes
    with signing(tmp_path, own) as signer, pebble(tmp_path, other) as (directory, pem):
        until_read(other, f"www.{KEY}", "A", ["192.0.2.80"])
        extra = {
            "LEGO_CA_CERTIFICATES": str(pem),
            "RFC2136_NAMESERVER": f"{HERE}:{signer.port}",
            "RFC2136_TSIG_KEY": "update",
            "RFC2136_TSIG_SECRET": TSIG_SECRET,
            "RFC2136_TSIG_ALGORITHM": "hmac-sha256.",
            "RFC2136_TTL": "1",
        }
        words: list[str | Path] = [
            "lego",
            "--path",
            tmp_path / "lego",
            "--server",
            directory,
            "--accept-tos",
            "--email",
            "a@b.example",
        ]
        words += ["--domains", NAME, "--dns", "rfc2136", "--dns.disable-cp", "--dns.resolvers", f"{HERE}:{other.port}"]
        done(*words, "run", extra=extra)
        assert (tmp_path / "lego" / "certificates" / f"{NAME}.crt").exists()
        assert signer.said().count("an UPDATE is taken") == 2
    assert signer.zone_file.read_text() == ZONE


def test_certbot_gets_a_certificate_from_pebble(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    own, other = nodes
    with signing(tmp_path, own) as signer, pebble(tmp_path, other) as (directory, pem):
        until_read(other, f"www.{KEY}", "A", ["192.0.2.80"])
        secrets = tmp_path / "rfc2136.ini"
        secrets.touch(0o600)
        secrets.write_text(
            f"dns_rfc2136_server = {HERE}\ndns_rfc2136_port = {signer.port}\ndns_rfc2136_name = update\n"
            f"dns_rfc2136_secret = {TSIG_SECRET}\ndns_rfc2136_algorithm = HMAC-SHA256\n"
        )
        words: list[str | Path] = ["certbot", "certonly", "-n", "--agree-tos", "-m", "a@b.example"]
        for flag in ("config", "work", "logs"):
            words += [f"--{flag}-dir", tmp_path / flag]
        words += ["--server", directory, "-d", NAME, "--dns-rfc2136", "--dns-rfc2136-credentials", secrets]
        done(*words, "--dns-rfc2136-propagation-seconds", "4", extra={"REQUESTS_CA_BUNDLE": str(pem)})
        assert (tmp_path / "config" / "live" / NAME / "fullchain.pem").exists()
    assert signer.zone_file.read_text() == ZONE


def test_octodns_plans_applies_and_then_has_nothing_to_do(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    own, other = nodes
    if not OCTODNS.exists():
        pytest.fail(f"no {OCTODNS}: make outside installs it")
    with signing(tmp_path, own) as signer:
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / f"{NAME}.yaml").write_text(
            "www:\n  ttl: 1\n  type: A\n  value: 192.0.2.80\n"
            "octo:\n  - ttl: 1\n    type: A\n    values: [192.0.2.31, 192.0.2.32]\n"
            "  - ttl: 1\n    type: TXT\n    value: from octoDNS\n"
            "'':\n  ttl: 1\n  type: MX\n  values:\n  - preference: 10\n    exchange: mail.example.\n"
        )
        (tmp_path / "octo.yaml").write_text(
            "providers:\n"
            f"  config:\n    class: octodns.provider.yaml.YamlProvider\n    directory: {tmp_path}/config\n"
            f"    enforce_order: false\n"
            f"  signer:\n    class: octodns_bind.Rfc2136Provider\n    host: {HERE}\n    port: {signer.port}\n"
            f"    key_name: update\n    key_secret: {TSIG_SECRET}\n    key_algorithm: hmac-sha256\n"
            f"zones:\n  {NAME}.:\n    sources: [config]\n    targets: [signer]\n"
        )
        words: list[str | Path] = [OCTODNS, "--config-file", tmp_path / "octo.yaml"]
        plan = done(*words)
        assert "Create" in plan
        assert signer.zone_file.read_text() == ZONE
        done(*words, "--doit")
        until_read(other, f"octo.{KEY}", "A", ["192.0.2.31", "192.0.2.32"])
        until_read(other, f"octo.{KEY}", "TXT", ['"from octoDNS"'])
        until_read(other, f"www.{KEY}", "A", ["192.0.2.80"])
        assert "No changes were planned" in done(*words)


def test_kea_dhcp_ddns_names_a_lease_and_takes_the_name_away(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    own, other = nodes
    with signing(tmp_path, own) as signer:
        port = free_port()
        server = {"ip-address": HERE, "port": signer.port}
        domain = {"name": f"{KEY}.", "key-name": "update", "dns-servers": [server]}
        settings = {
            "ip-address": HERE,
            "port": port,
            "ncr-protocol": "UDP",
            "ncr-format": "JSON",
            "tsig-keys": [{"name": "update", "algorithm": "HMAC-SHA256", "secret": TSIG_SECRET}],
            "forward-ddns": {"ddns-domains": [domain]},
            "reverse-ddns": {"ddns-domains": []},
        }
        config = tmp_path / "kea.json"
        config.write_text(json.dumps({"DhcpDdns": settings}))
        extra = {"KEA_PIDFILE_DIR": str(tmp_path), "KEA_LOCKFILE_DIR": str(tmp_path)}
        with running(tmp_path / "kea.log", "kea-dhcp-ddns", "-c", config, extra=extra):
            lease = {
                "forward-change": True,
                "reverse-change": False,
                "fqdn": f"laptop.{KEY}.",
                "ip-address": "192.0.2.41",
                "dhcid": "000201" + "ab" * 32,
                "lease-expires-on": "20991231235959",
                "lease-length": 3600,
                "use-conflict-resolution": True,
            }
            log = tmp_path / "kea.log"
            wait_until(lambda: "DHCP_DDNS_STARTED" in log.read_text(), "kea")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for change, wanted in ((0, ["192.0.2.41"]), (1, [])):
                    data = json.dumps({"change-type": change, **lease}).encode()
                    sock.sendto(len(data).to_bytes(2) + data, (HERE, port))
                    until_read(other, f"laptop.{KEY}", "A", wanted)
    assert signer.zone_file.read_text() == ZONE


def test_bind_as_hidden_primary_tells_of_its_changes(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    own, other = nodes
    port = free_port()
    (tmp_path / "primary.zone").write_text(PRIMARY_ZONE)
    with signing(tmp_path, own, "--primary", f"{HERE}:{port}", zone=None) as signer:
        (tmp_path / "named.conf").write_text(
            TSIG_FILE
            + f"""
options {{
    directory "{tmp_path}"; listen-on port {port} {{ {HERE}; }}; listen-on-v6 {{ none; }};
    pid-file none; session-keyfile none; recursion no; notify explicit; dnssec-validation no;
}};
controls {{ }};
zone "{KEY}" {{
    type primary; file "primary.zone"; notify-delay 0;
    also-notify {{ {HERE} port {signer.port} key update; }};
    allow-transfer {{ key update; }}; allow-update {{ key update; }};
}};
"""
        )
        named = shutil.which("named", path=f"{os.environ['PATH']}:/usr/sbin")
        assert named is not None
        with running(tmp_path / "named.log", named, "-g", "-c", tmp_path / "named.conf"):
            signer.waits_for("transferred from the primary")
            until_read(other, f"ns.{KEY}", "A", ["192.0.2.53"])
            lines = f"server {HERE} {port}\nzone {KEY}\nupdate add bind.{KEY} 1 A 192.0.2.51\nsend\n"
            done("nsupdate", "-k", tmp_path / "update.tsig", text=lines)
            until_read(other, f"bind.{KEY}", "A", ["192.0.2.51"])
        assert signer.said().count("transferred from the primary") >= 2
        serial = answers(signer.port, KEY, "SOA")[0].split()[2]
        assert f"SOA ns hostmaster {serial} 60 60" in signer.zone_file.read_text()
        assert "REFUSED" in signer.nsupdate(f"update add x.{KEY} 1 A 192.0.2.1").stderr


def test_nsd_as_secondary_is_told_and_follows(nodes: tuple[Served, Served], tmp_path: Path) -> None:
    own, _ = nodes
    port = free_port()
    nsd = shutil.which("nsd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert nsd is not None
    with signing(tmp_path, own, "--notify", f"{HERE}:{port}") as signer:
        (tmp_path / "nsd.conf").write_text(
            f"""
server:
    ip-address: {HERE}@{port}
    username: ""
    zonesdir: "{tmp_path}"
    database: ""
    pidfile: ""
    xfrdfile: "{tmp_path}/xfrd.state"
    xfrdir: "{tmp_path}"
    zonelistfile: "{tmp_path}/zone.list"
remote-control:
    control-enable: no
key:
    name: "update"
    algorithm: hmac-sha256
    secret: "{TSIG_SECRET}"
zone:
    name: "{KEY}"
    zonefile: "secondary.zone"
    allow-notify: {HERE} update
    request-xfr: {HERE}@{signer.port} update
"""
        )
        with running(tmp_path / "nsd.log", nsd, "-d", "-c", tmp_path / "nsd.conf"):
            wait_until(lambda: answers(port, f"www.{KEY}", "A") == ["192.0.2.80"], "the zone at NSD", PROGRAM_S_MAX)
            for number in (61, 62):
                address = f"192.0.2.{number}"
                lines = (f"update delete nsd.{KEY}", f"update add nsd.{KEY} 1 A {address}")
                assert signer.nsupdate(*lines).returncode == 0
                wait_until(
                    lambda: answers(port, f"nsd.{KEY}", "A") == [address],  # noqa: B023
                    "the change at NSD",
                    PROGRAM_S_MAX,
                )
        assert "transferred type=IXFR" in signer.said()
