"""As which user a daemon runs, and that it cannot go back."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from p2pdns import privileges
from p2pdns.errors import ConfigError, Unavailable
from p2pdns.privileges import RunsAs, identity_of

NOBODY = pwd.getpwnam("nobody")
BIND, CHOWN = 10, 0  # capabilities(7)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")


def status_after(identity: RunsAs, *, needs_chown: bool = False, then: str = "") -> dict[str, str]:
    """Return /proc/self/status of a process that has given up its rights, and of a program that it then started."""
    code = (
        "import os, subprocess, sys\n"
        "from p2pdns.privileges import RunsAs, become\n"
        f"warning = become({identity!r}, needs_chown={needs_chown})\n"
        f"{then}\n"
        "print('Warning:', warning or '')\n"
        "sys.stdout.write(open('/proc/self/status').read())\n"
        "sys.stdout.flush()\n"
        "child = subprocess.run(['cat', '/proc/self/status'], capture_output=True, text=True).stdout\n"
        "sys.stdout.write(''.join('Child-' + line + '\\n' for line in child.splitlines()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: value.strip() for name, _, value in (line.partition(":") for line in done.stdout.splitlines())}


def capabilities(status: dict[str, str], name: str) -> set[int]:
    bits = int(status[name], 16)
    return {number for number in range(64) if bits >> number & 1}


@as_root
def test_root_becomes_the_user_for_good_and_its_children_too() -> None:
    identity = RunsAs(NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid,), "a test")
    back = (
        "for call in (lambda: os.setuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgid(0)):\n"
        "    try:\n"
        "        call()\n"
        "    except PermissionError:\n"
        "        continue\n"
        "    raise SystemExit('there was a way back')\n"
    )
    status = status_after(identity, then=back)
    for prefix in ("", "Child-"):
        assert status[f"{prefix}Uid"].split() == [str(NOBODY.pw_uid)] * 4
        assert status[f"{prefix}Gid"].split() == [str(NOBODY.pw_gid)] * 4
        assert status[f"{prefix}Groups"].split() == [str(NOBODY.pw_gid)]
        assert status[f"{prefix}NoNewPrivs"] == "1"
        for kind in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
            assert capabilities(status, prefix + kind) == set()
    assert status["Warning"] == ""


@as_root
@pytest.mark.parametrize(("needs_chown", "kept"), [(False, {BIND}), (True, {BIND, CHOWN})])
def test_root_without_a_user_to_become_keeps_the_right_to_bind_low_ports_alone(
    needs_chown: bool, kept: set[int]
) -> None:
    status = status_after(RunsAs(0, 0, (), "a test"), needs_chown=needs_chown)
    for prefix in ("", "Child-"):
        assert capabilities(status, f"{prefix}CapEff") == kept
        assert capabilities(status, f"{prefix}CapPrm") == kept
        assert capabilities(status, f"{prefix}CapBnd") == kept
        assert status[f"{prefix}NoNewPrivs"] == "1"
    assert "running as root, with the right to bind low ports alone" in status["Warning"]


@as_root
def test_a_daemon_of_an_ordinary_user_gains_nothing_either() -> None:
    code = "import os\nfrom p2pdns import privileges\nfrom pathlib import Path\nos.setuid(65534)\n"
    code += "privileges.become(privileges.identity_of('', Path('.')))\nprint(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "NoNewPrivs:\t1" in done.stdout, done.stderr


@as_root
def test_the_user_is_that_of_the_configuration_else_the_owner_of_the_directory(tmp_path: Path) -> None:
    assert identity_of("nobody", tmp_path).user_id == NOBODY.pw_uid
    assert identity_of(str(NOBODY.pw_uid), tmp_path).user_id == NOBODY.pw_uid
    assert identity_of("root", tmp_path).is_root
    os.chown(tmp_path, NOBODY.pw_uid, -1)
    assert identity_of("", tmp_path).user_id == NOBODY.pw_uid
    os.chown(tmp_path, 12_345, -1)
    unnamed = identity_of("", tmp_path)
    assert (unnamed.user_id, unnamed.group_id) == (12_345, 12_345)


@as_root
def test_the_user_p2pdns_is_taken_for_a_new_directory_and_asked_for_with_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert identity_of("", tmp_path / "new").is_root, "there is no such user on the machine of a test"
    monkeypatch.setattr(privileges, "USER_DEFAULT", "nobody")
    assert identity_of("", tmp_path / "new").user_id == NOBODY.pw_uid
    with pytest.raises(Unavailable, match="belongs to root, and there is a user nobody") as caught:
        identity_of("", tmp_path)
    assert f"chown -R nobody: {tmp_path}" in str(caught.value.hint)


@as_root
def test_the_group_of_the_control_socket_is_one_of_the_daemons(tmp_path: Path) -> None:
    import grp

    group = grp.getgrnam("adm").gr_gid
    assert group in identity_of("nobody", tmp_path, "adm").groups
    assert group not in identity_of("nobody", tmp_path).groups


def test_a_program_that_the_user_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its children would end with a traceback of Python's own."""
    privileges.refuse_unreadable_program()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    with pytest.raises(Unavailable, match=r"python3: cannot be read by the user that the daemon runs as") as caught:
        privileges.refuse_unreadable_program()
    assert caught.value.hint is not None


def test_a_user_that_is_not_there_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        with pytest.raises(ConfigError, match=r'\[process\] user: no user "nosuchuser"'):
            identity_of("nosuchuser", tmp_path)
    else:
        with pytest.raises(ConfigError, match="only root can become"):
            identity_of("root", tmp_path)


def test_a_signer_gives_up_every_right_and_nobody_of_its_user_looks_into_it() -> None:
    code = (
        "import ctypes, resource, sys\n"
        "from p2pdns.privileges import give_up_all\n"
        "give_up_all()\n"
        "print('Dumpable:', ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
        "print('Core:', *resource.getrlimit(resource.RLIMIT_CORE))\n"
        "sys.stdout.write(open('/proc/self/status').read())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in done.stdout.splitlines())}
    assert (status["Dumpable"], status["Core"], status["NoNewPrivs"]) == ("0", "0 0", "1")
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert capabilities(status, name) == set(), name
