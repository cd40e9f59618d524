"""The state directory: it is opened and checked once, and then reached through its descriptor.

Guarantees: a directory is refused if it belongs to another user, or if others may write to it or replace it, or if a
file of p2pdns in it is a link, has a second name or belongs to another user. Every file in it is reached through the
descriptor that was checked, even if its path leads elsewhere by then. Does not know what the files mean.

Beside it there may be a runtime directory of systemd under /run; then the control socket is in that one. Linux only:
the descriptor is reached by its name under /proc.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import socket
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from p2pdns.errors import Unavailable, words_of

DIRECTORY_MODE = 0o700  # The control socket is in it, and the names that the user has asked for are private.
FILE_MODE = 0o600
LOCK_NAME = "lock"
PID_BYTES_MAX = 16  # The lock file holds the pid of its process.
MARK_TRIES, MARK_PAUSE_S = 4, 0.01  # A command that looks for the mark has the same lock for a moment.
ANCESTORS_MAX = 64  # No usual path is deeper.
# The files of p2pdns begin with these, those of SQLite and damaged ones set aside too. Sockets are not among them:
# they are removed and made anew. Files with other names, such as keys, are the user's.
OUR_PREFIXES = ("lock", "reader.", "store.", "block.", "upstream.")
HINT = "say --state DIR with a directory of your own"
RUNTIME_HINT = "RuntimeDirectory=p2pdns in the unit makes it; elsewhere, unset RUNTIME_DIRECTORY"
_PROC = "/proc/self/fd"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid.


class StateDirectory:
    """A checked directory. `open` makes it, `close` closes its descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Take a descriptor that this process or its parent has checked."""
        os.set_inheritable(descriptor, False)
        self.descriptor = descriptor

    @classmethod
    def open(cls, path: Path, *, owner: int | None = None, group: int | None = None) -> StateDirectory:
        """Return the directory at a path; make it if it is missing.

        `owner` and `group` are the ids of the user that this process is about to become (None: it stays as it is).
        Unavailable if other users have access to the directory.
        """
        owner = os.geteuid() if owner is None else owner
        is_new = _make(path)
        descriptor = _opened(path)
        try:
            if is_new and owner != os.geteuid():
                os.fchown(descriptor, owner, -1 if group is None else group)
            _check_directory(descriptor, path, owner)
            _check_files(descriptor, path, owner)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    @property
    def path(self) -> Path:
        """The path through the descriptor; `shown` turns it into the usual one."""
        return Path(f"{_PROC}/{self.descriptor}")

    def lock(self) -> int:
        """Lock the directory for this process and return the descriptor of the lock; Unavailable if another has it.

        The lock holds even where the disk has no room for the pid in its file.
        """
        try:
            lock = _open_lock(self.path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise Unavailable(words_of(error), place=shown(self.path), hint=HINT) from None
            # No file can be made, so the directory itself is locked: another process on this disk does the same. The
            # descriptor is the same too, because this daemon may have marked the directory by it.
            lock = fcntl.fcntl(self.descriptor, fcntl.F_DUPFD_CLOEXEC, 0)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = holder_of(lock)
            os.close(lock)
            raise taken(self.path, pid) from None
        with contextlib.suppress(OSError):
            os.ftruncate(lock, 0)
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        return lock

    def mark(self) -> None:
        """Mark the directory until this process and its children end: a daemon starts or runs in it.

        The mark is a lock of the directory itself, so it needs no file. If another daemon has it, nothing happens:
        `lock` decides which of the two may run.
        """
        for _ in range(MARK_TRIES):
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                # A command in `is_marked` has the lock for some microseconds.
                time.sleep(MARK_PAUSE_S)
            else:
                return

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


def runtime_directory(environ: Mapping[str, str]) -> Path | None:
    """Return the directory that systemd has made for the sockets of this service (RuntimeDirectory=), or None.

    With DynamicUser= the state directory is in a place that only root may enter; this one is not.
    """
    # A unit may have several, separated by colons; the first one is for p2pdns.
    given = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(given) if given else None


def give_runtime_directory(environ: Mapping[str, str], owner: int, group: int) -> None:
    """Give the runtime directory, which root has made, to the user that root is about to become."""
    path = runtime_directory(environ)
    if path is None or os.geteuid() != 0 or owner == 0:
        return
    with _runtime(path) as descriptor:
        if os.fstat(descriptor).st_uid == 0:
            os.fchown(descriptor, owner, group)


def refuse_shared(path: Path) -> None:
    """Raise Unavailable if a runtime directory breaks the rules for the state directory."""
    with _runtime(path) as descriptor:
        _check_directory(descriptor, path, os.geteuid())


@contextlib.contextmanager
def _runtime(path: Path) -> Iterator[int]:
    """Yield the descriptor of a runtime directory; an error about it has the hint for runtime directories."""
    try:
        descriptor = _opened(path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    except Unavailable as error:
        raise Unavailable(error.what, place=f"RUNTIME_DIRECTORY: {path}", hint=RUNTIME_HINT) from None


def others_may_write(path: Path) -> bool:
    """Return whether users other than its owner may write to a directory."""
    return bool(path.stat().st_mode & _OTHERS_WRITE)


def shown(path: Path) -> str:
    """Return the usual form of a path through a descriptor; any other path as it is."""
    with contextlib.suppress(ValueError, OSError):
        below = path.relative_to(_PROC)
        return str(Path(os.readlink(f"{_PROC}/{below.parts[0]}"), *below.parts[1:]))
    return str(path)


def is_marked(directory: Path) -> bool:
    """Return whether a daemon starts or runs in a directory (see `StateDirectory.mark`)."""
    try:
        looking = _opened(directory)
    except Unavailable:
        return False
    try:
        # A shared lock: two commands that look do not see each other. It ends with the descriptor.
        fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(looking)
    return False


def refuse_if_taken(directory: Path) -> None:
    """Raise Unavailable when a process holds the lock of the state directory."""
    try:
        lock = _open_lock(directory, os.O_RDWR)
    except OSError:
        # The file is missing or unreadable: the engine makes the directory, or reports what is wrong with it.
        return
    try:
        # A shared lock: two daemons that look do not refuse each other. It ends with the descriptor.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise taken(directory, holder_of(lock)) from None
    finally:
        os.close(lock)


def remove_unless_taken(directory: Path, names: tuple[str, ...]) -> None:
    """Remove the files that a killed process has left, unless another process has the directory by now."""
    with contextlib.suppress(OSError):
        lock = _open_lock(directory, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in names:
                (directory / name).unlink(missing_ok=True)
        finally:
            os.close(lock)


def holder_of(lock: int) -> str:
    """Return the pid in a lock file as text, or "unknown"."""
    try:
        pid = os.pread(lock, PID_BYTES_MAX, 0).decode("ascii", "replace").strip()
    except OSError:
        pid = ""
    return pid if pid.isdigit() else "unknown"


def taken(directory: Path, pid: str) -> Unavailable:
    """Return the error for a directory that another process holds."""
    text = f"another p2pdns runs in this state directory (pid {pid})"
    return Unavailable(text, place=shown(directory), hint=HINT)


def peer_user_of(sock: socket.socket) -> int:
    """Return the user id of the process at the other end of a connected Unix socket (SO_PEERCRED)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(credentials)[1])


def _make(path: Path) -> bool:
    try:
        path.mkdir(DIRECTORY_MODE, parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise Unavailable(words_of(error), place=str(path), hint=HINT) from None
    return True


def _opened(path: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(_behind_systemd(path), flags)
    except NotADirectoryError:
        if path.is_symlink():
            hint = f"say --state {path.resolve()}, if that is the directory you mean"
            raise Unavailable("a symbolic link, not a directory", place=str(path), hint=hint) from None
        raise Unavailable("file exists, and is no directory", place=str(path), hint=HINT) from None
    except OSError as error:
        raise Unavailable(words_of(error), place=str(path), hint=HINT) from None


def _behind_systemd(path: Path) -> Path:
    # With DynamicUser=yes systemd keeps the directory of a unit under private/, and root's link in $STATE_DIRECTORY
    # leads to it. No other link is followed.
    with contextlib.suppress(OSError):
        target = Path("private", path.name)
        if os.readlink(path) == str(target) and path.lstat().st_uid == 0:
            return path.parent / target
    return path


def _check_directory(descriptor: int, path: Path, owner: int) -> None:
    about = os.fstat(descriptor)
    if about.st_uid != owner:
        what = f"belongs to {user_text(about.st_uid)}, and this is {user_text(owner)}"
        raise Unavailable(what, place=str(path), hint=f"chown -R {user_text(owner)} {path}, or another --state DIR")
    if about.st_mode & _OTHERS_WRITE:
        what = f"others may write to it (mode {stat.S_IMODE(about.st_mode):04o})"
        raise Unavailable(what, place=str(path), hint=f"chmod go-w {path}")
    # SQLite opens files by the full path, so no other user may replace this directory.
    above = Path(shown(Path(f"{_PROC}/{descriptor}")))
    for parent in list(above.parents)[:ANCESTORS_MAX]:
        about = os.stat(parent)
        is_sticky = bool(about.st_mode & stat.S_ISVTX)
        if about.st_uid not in (0, owner, os.geteuid()) or (about.st_mode & stat.S_IWOTH and not is_sticky):
            what = f'others may put another directory in its place: "{parent}" is not yours alone'
            raise Unavailable(what, place=str(path), hint="choose one below a directory of your own, or of root")


def _check_files(descriptor: int, path: Path, owner: int) -> None:
    for name in sorted(name for name in os.listdir(descriptor) if name.startswith(OUR_PREFIXES)):
        try:
            about = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except FileNotFoundError:
            # Another process has just removed this file of SQLite.
            continue
        what = None
        if stat.S_ISLNK(about.st_mode):
            what = "a symbolic link, which is not followed"
        elif not stat.S_ISREG(about.st_mode):
            what = "no ordinary file"
        elif about.st_nlink != 1:
            what = f"has {about.st_nlink} names, so it is a file of somewhere else too"
        elif about.st_uid != owner:
            what = f"belongs to {user_text(about.st_uid)}, and this is {user_text(owner)}"
        if what is not None:
            raise Unavailable(what, place=str(path / name), hint="remove it, or say --state DIR with another directory")


def _open_lock(directory: Path, flags: int) -> int:
    # Not blocking: a FIFO in the place of the file would wait for a writer.
    lock = os.open(directory / LOCK_NAME, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE)
    about = os.fstat(lock)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
        os.close(lock)
        raise OSError(errno.EINVAL, "the lock is no ordinary file")
    return lock


def user_text(user_id: int) -> str:
    """Return the name of a user, or its number."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"uid {user_id}"
