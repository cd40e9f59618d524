"""The user that a daemon runs as, and its rights: it gives up those of root once the DNS ports are bound.

Guarantees: a daemon that root has started becomes the user of the configuration, else the owner of its state
directory, else the user `p2pdns`. If there is none of these, it stays root with the right to bind low ports alone, and
logs that. No program that a daemon runs can gain a right (no_new_privs). A step that the system refuses is an error:
no daemon goes on with more rights than that. Does not know what is bound or read before.

Linux: capabilities(7), prctl(2), credentials(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
import resource
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import p2pdns
from p2pdns.errors import ConfigError, Unavailable, words_of

USER_DEFAULT = "p2pdns"  # Packages of distributions make this user.
CAP_CHOWN = 0
CAP_SETPCAP = 8
CAP_NET_BIND_SERVICE = 10
CAPABILITY_COUNT_MAX = 64  # The system call takes two words of 32 bits.
_PR_SET_DUMPABLE, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 23, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_HEADER = struct.Struct("=Ii")  # struct __user_cap_header_struct: version, pid.
_DATA = struct.Struct("=6I")  # Two struct __user_cap_data_struct: effective, permitted, inheritable; low bits first.


@dataclass(frozen=True)
class RunsAs:
    """The user to become: its id, its group, its other groups, and why it is this user."""

    user_id: int
    group_id: int
    groups: tuple[int, ...]
    reason: str

    @property
    def is_root(self) -> bool:
        return self.user_id == 0


def identity_of(user: str, state_dir: Path, control_group: str = "") -> RunsAs:
    """Return the user that the daemon is to run as; `user` is `[process] user`, empty for none.

    Only root can become another user. ConfigError for a user that does not exist, or that this process cannot become.
    """
    own = os.geteuid()
    if own != 0:
        if user and _entry(user).pw_uid != own:
            text = f'only root can become "{user}"'
            raise ConfigError(text, place="[process] user", hint="start it as root, or take the setting out")
        return RunsAs(own, os.getegid(), tuple(os.getgroups()), "started by it")
    if user:
        return _identity(_entry(user), "[process] user", control_group)
    owner = _owner_of(state_dir)
    if owner not in (None, 0):
        return _identity(_entry_of(owner), "owner of the state directory", control_group)
    with contextlib.suppress(KeyError):
        default = pwd.getpwnam(USER_DEFAULT)
        if owner is None or not state_dir.is_dir():
            return _identity(default, "the user of that name", control_group)
        hint = f'chown -R {USER_DEFAULT}: {state_dir}, or user = "root" under [process]'
        what = f"belongs to root, and there is a user {USER_DEFAULT} to run as"
        raise Unavailable(what, place=str(state_dir), hint=hint)
    return RunsAs(0, 0, (), "no other user is known")


def _owner_of(directory: Path) -> int | None:
    try:
        return os.stat(directory, follow_symlinks=False).st_uid
    except OSError:
        return None


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        hint = f"useradd --system {user}, or name another"
        raise ConfigError(f'no user "{user}" on this system', place="[process] user", hint=hint) from None


def _entry_of(user_id: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(user_id)
    except KeyError:
        # A container's volume may belong to a user without a name; the usual group has the same number.
        return pwd.struct_passwd((str(user_id), "x", user_id, user_id, "", "/", ""))


def _identity(entry: pwd.struct_passwd, reason: str, control_group: str) -> RunsAs:
    groups = set(os.getgrouplist(entry.pw_name, entry.pw_gid))
    if control_group:
        # The daemon gives the control socket to this group; without CAP_CHOWN it must be a member to do so.
        with contextlib.suppress(KeyError):
            groups.add(grp.getgrnam(control_group).gr_gid)
    return RunsAs(entry.pw_uid, entry.pw_gid, tuple(sorted(groups)), reason)


def become(identity: RunsAs, *, needs_chown: bool = False) -> str | None:
    """Give up all rights that a daemon does not need, for ever; return a warning where it stays root.

    With `needs_chown` root keeps the right to give a file to a group, for `[control] group`. Unavailable when the
    system refuses a step.
    """
    try:
        if os.geteuid() != 0:
            _no_new_privileges()
            return None
        if identity.is_root:
            kept = (CAP_NET_BIND_SERVICE, CAP_CHOWN) if needs_chown else (CAP_NET_BIND_SERVICE,)
            is_bounded = _drop_bounding(kept)
            _set_capabilities(kept)
            _no_new_privileges()
            if not is_bounded:
                return "running as root, and the system lets its children have all rights of root again"
            return "running as root, with the right to bind low ports alone; [process] user names another user"
        _drop_bounding(())
        os.setgroups(identity.groups)
        os.setresgid(identity.group_id, identity.group_id, identity.group_id)
        os.setresuid(identity.user_id, identity.user_id, identity.user_id)
        _no_new_privileges()
    except OSError as error:
        text = f"the system refuses to give up root's rights: {words_of(error)}"
        hint = "start it as the user it is to run as"
        raise Unavailable(text, place=f"user {identity.user_id}", hint=hint) from None
    # No call above fails silently, so another id here is a mistake of ours, or the system is not Linux.
    assert os.getresuid() == (identity.user_id,) * 3
    assert os.getresgid() == (identity.group_id,) * 3
    return None


def hide() -> None:
    """Have no process of the same user read the memory or the descriptors of this one, and no core file written of it.

    Linux: PR_SET_DUMPABLE of prctl(2), ptrace(2). It ends with the next program that this process executes.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _prctl(_PR_SET_DUMPABLE, 0)
    except OSError as error:
        raise Unavailable(f"the system refuses to hide a process: {words_of(error)}", place="prctl") from None


def give_up_all() -> None:
    """Give up every right, those of root and of the service, for ever, and hide from others of the same user."""
    try:
        _drop_bounding(())
        _set_capabilities(())
        _no_new_privileges()
    except OSError as error:
        raise Unavailable(f"the system refuses to take rights away: {words_of(error)}", place="prctl") from None
    hide()


def refuse_unreadable_program() -> None:
    """Raise Unavailable if this process may not read the program of its children, as below the home of root."""
    for path, mode in ((sys.executable, os.X_OK), (os.__file__, os.R_OK), (p2pdns.__file__, os.R_OK)):
        if not os.access(path, mode):
            hint = "install p2pdns where everybody may read it, as in /opt or /usr/local"
            raise Unavailable("cannot be read by the user that the daemon runs as", place=str(path), hint=hint)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _prctl(option: int, argument: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    return _checked(int(_libc().prctl(option, ctypes.c_ulong(argument), zero, zero, zero)))


def _no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _drop_bounding(kept: tuple[int, ...]) -> bool:
    """Take all capabilities but `kept` out of the bounding set, which limits the programs that root runs.

    Return False where the system refuses that, as in a container without CAP_SETPCAP.
    """
    with contextlib.suppress(OSError):
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    is_bounded = True
    for capability in range(CAPABILITY_COUNT_MAX):
        try:
            is_there = _prctl(_PR_CAPBSET_READ, capability) == 1
        except OSError:
            # The kernel has no capability of this number, and none above it.
            break
        if is_there and capability not in kept:
            try:
                _prctl(_PR_CAPBSET_DROP, capability)
            except PermissionError:
                is_bounded = False
    return is_bounded


def _set_capabilities(kept: tuple[int, ...]) -> None:
    permitted = _permitted()
    bits = sum(1 << capability for capability in kept) & permitted
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = ctypes.create_string_buffer(_HEADER.pack(_CAPABILITY_VERSION_3, 0), _HEADER.size)
    data = ctypes.create_string_buffer(_DATA.pack(low, low, 0, high, high, 0), _DATA.size)
    _checked(int(_libc().capset(header, data)))


def _permitted() -> int:
    """Return the capabilities of this process as bits."""
    header = ctypes.create_string_buffer(_HEADER.pack(_CAPABILITY_VERSION_3, 0), _HEADER.size)
    data = ctypes.create_string_buffer(_DATA.size)
    _checked(int(_libc().capget(header, data)))
    _, low, _, _, high, _ = _DATA.unpack(data.raw)
    return int(low | high << 32)
