"""The systemd unit asks for what the daemon needs and no more, and systemd can read it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from p2pdns import config as configuration

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "p2pdns.service"
TEXT = UNIT.read_text()


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


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        # Not on every machine that runs tests; the lines above are looked at everywhere.
        return
    unit = tmp_path / "p2pdns.service"
    unit.write_text(
        re.sub(r"^Documentation=.*\n", "", TEXT, flags=re.MULTILINE).replace("/usr/local/bin/p2pdns", "/bin/true")
    )
    done = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert [line for line in (done.stdout + done.stderr).splitlines() if "p2pdns.service" in line] == []
