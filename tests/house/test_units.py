"""The systemd units ask for what daemon and signer need and no more, and systemd can read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from p2pdns import config as configuration
from p2pdns.cli.signer import signer

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "p2pdns.service"
TEXT = UNIT.read_text()
SIGNER_UNIT = UNIT.with_name("p2pdns-signer@.service")


@pytest.mark.parametrize(
    "line",
    [
        # The daemon tells nobody that it is ready; exec at least tells of a program that is not there.
        "Type=exec",
        "DynamicUser=yes",
        "StateDirectory=p2pdns",
        "RuntimeDirectory=p2pdns",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "NoNewPrivileges=yes",
    ],
)
def test_the_unit_has_the_line(line: str) -> None:
    assert line in TEXT.splitlines()


def test_the_unit_leads_the_daemon_to_its_configuration_and_state() -> None:
    words = re.search(r"^Environment=(.*)$", TEXT, re.MULTILINE)
    assert words is not None
    environ = dict(word.split("=", 1) for word in words[1].replace("%S", "/var/lib").replace("%E", "/etc").split())
    environ["STATE_DIRECTORY"] = "/var/lib/p2pdns"
    assert environ["XDG_CONFIG_HOME"] == "/etc"
    # No file there is no error: the defaults hold.
    assert configuration.resolve_config_path(None, environ) in (None, "/etc/p2pdns/p2pdns.toml")
    assert str(configuration.resolve_state_dir(None, environ)) == "/var/lib/p2pdns"


@pytest.mark.parametrize(
    "line",
    [
        "Type=exec",
        "DynamicUser=yes",
        "StateDirectory=p2pdns-signer/%i",
        "StateDirectoryMode=0700",
        # What it writes beside the key is nobody else's to read.
        "UMask=0077",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "LimitCORE=0",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    ],
)
def test_the_unit_of_the_signer_has_the_line(line: str) -> None:
    assert line in SIGNER_UNIT.read_text().splitlines()


def test_the_command_of_the_signers_unit_is_one() -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", SIGNER_UNIT.read_text(), re.MULTILINE)
    program, verb, *words = line.replace("%i", "alice").split()
    assert (program, verb) == ("/usr/local/bin/p2pdns", "signer")
    given = signer.make_context("signer", words).params
    names = ("state_flag", "key_file", "zone_file", "tsig_file")
    assert [given[name] for name in names] == ["/run/p2pdns", "zone.key", "alice.zone", "update.tsig"]


@pytest.mark.parametrize(("unit", "name"), [(UNIT, "p2pdns.service"), (SIGNER_UNIT, "p2pdns-signer@alice.service")])
def test_systemd_reads_the_unit(tmp_path: Path, unit: Path, name: str) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        # Not on every machine that runs tests; the lines above are looked at everywhere.
        return
    text = re.sub(r"^Documentation=.*\n", "", unit.read_text(), flags=re.MULTILINE)
    (tmp_path / name).write_text(text.replace("/usr/local/bin/p2pdns", "/bin/true"))
    done = subprocess.run([program, "verify", str(tmp_path / name)], capture_output=True, text=True, check=False)
    assert [line for line in (done.stdout + done.stderr).splitlines() if name in line] == []
