"""The command line's end of the control socket, by which the person who runs a daemon talks to it.

One JSON object a line each way: a request `{"verb": …}`, any number of `{"progress": …}`, then one line with `ok`.
The socket lies in the runtime directory of systemd, where there is one, with a link to it in the state directory.
Guarantees: a process of another user that listens there is not asked; a call to a daemon that hangs ends as an error,
and so does each later call of the same session at once; somebody is told of a daemon that is silent for some seconds.
Does not know what a verb does (`admin.commands` does) nor the daemon's end (`admin.control_server`): most commands
need this end alone, and no event loop.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pdns.directory import is_marked, others_may_write, peer_user_of, user_text
from p2pdns.errors import DaemonGone, Unavailable, words_of
from p2pdns.net.sockets import reachable
from p2pdns.timing import Clock

SOCKET_NAME = "control.sock"
RECEIVED_BYTES_MAX = 65_536  # In one call of the system: most replies come whole.
LINE_BYTES_MAX = 1_048_576  # The longest honest line is the status of a node with every counter: some 20 kB.
CALL_S_MAX = 60.0  # No verb is silent for so long (a put ends after some seconds), so the daemon hangs.
SILENT_S = 5.0  # A daemon reports or answers sooner, as a rule; a user who waits for longer must be told for what.

SESSION_IDLE_S_MAX = 30.0  # Half of the time after which the daemon ends a silent connection.

Progress = Callable[[dict[str, Any]], None]
Handler = Callable[[dict[str, Any], Progress], Coroutine[Any, Any, dict[str, Any]]]
"""A verb: from its request, and a function that reports progress, to the fields of its reply."""


def line_of(fields: Mapping[str, Any]) -> bytes:
    """Return fields as they cross the socket."""
    return json.dumps(fields, separators=(",", ":"), default=str).encode() + b"\n"


class ControlReply(dict[str, Any]):
    """The fields of a reply. A daemon of another version may lack one."""

    def __init__(self, fields: Mapping[str, Any], place: str) -> None:
        super().__init__(fields)
        self._place = place

    def __missing__(self, field: str) -> Any:
        hint = "a daemon of another version runs there; restart it"
        raise Unavailable(f'the daemon\'s reply has no "{field}"', place=self._place, hint=hint)


@dataclass
class _ControlConnection:
    sock: socket.socket
    used_at: float
    rest: bytes = b""  # What came behind the last line.

    def read_line(self, received: Callable[[socket.socket], bytes]) -> bytes:
        """Return the next line with its end; without it where the connection ends, or the line is too long."""
        while b"\n" not in self.rest and len(self.rest) <= LINE_BYTES_MAX and (data := received(self.sock)):
            self.rest += data
        line, end, self.rest = self.rest.partition(b"\n")
        return line + end

    def close(self) -> None:
        """End it."""
        self.sock.close()


class ControlClient:
    """The command line's end. Each call blocks, and is a connection of its own where no `session` is open.

    `on_silence` is called once in a call with what is waited for, when the daemon has said nothing for `silent_s`.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        timeout_s: float = CALL_S_MAX,
        silent_s: float = SILENT_S,
        on_silence: Callable[[str], None] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.path = state_dir / SOCKET_NAME
        self.has_answered = False
        self._timeout_s = timeout_s
        self._silent_s = silent_s
        self._on_silence = on_silence
        self._clock = clock
        self._silence: DaemonGone | None = None  # How a call of this session has ended.
        self._session_depth = 0
        self._open: _ControlConnection | None = None

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Have all calls in the block share one connection, which is made when it is needed first."""
        self._session_depth += 1
        try:
            yield
        finally:
            self._session_depth -= 1
            if not self._session_depth:
                self._hang_up()
                self._silence = None

    def is_running(self) -> bool:
        """Return whether a daemon listens at the socket; Unavailable when it is another user's, or was silent."""
        if self._open is not None:
            return True
        connection = self._connection()
        if connection is None:
            return False
        self._done_with(connection)
        return True

    def _connection(self) -> _ControlConnection | None:
        """Return the connection of the session, else a new one; None where no daemon listens."""
        if self._silence is not None:
            # It would be waited for as long again.
            raise self._silence
        if self._open is not None:
            if self._clock() - self._open.used_at <= SESSION_IDLE_S_MAX:
                return self._open
            # The daemon ends a silent connection; a user may have thought about a question for so long.
            self._hang_up()
        sock = self._connected()
        if sock is None:
            return None
        connection = _ControlConnection(sock, self._clock())
        if self._session_depth:
            self._open = connection
        return connection

    def _done_with(self, connection: _ControlConnection) -> None:
        connection.used_at = self._clock()
        if connection is not self._open:
            connection.close()

    def _hang_up(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """Return the reply to a verb; Unavailable when no daemon runs, it refuses, or it does not answer."""
        connection = self._connection()
        if connection is None:
            what, hint = "no daemon runs here", "start one with p2pdns serve, or say --state DIR"
            if is_marked(self.path.parent):
                what = "a daemon starts here, and does not answer yet"
                hint = "wait a moment, then do this again; its log says what it is doing"
            raise Unavailable(what, place=str(self.path.parent), hint=hint)
        try:
            with contextlib.suppress(BrokenPipeError):
                # A daemon that refuses us closes before it reads; its reason can still be read.
                connection.sock.sendall(line_of({"verb": verb, **arguments}))
            reply = self._reply(connection, on_progress)
        except BaseException as error:
            # What is left of a reply must not be read as the next one.
            connection.close()
            self._open = None if connection is self._open else self._open
            if isinstance(error, TimeoutError):
                trouble = self._trouble(f"the daemon has not answered in {self._timeout_s:g} s")
                self._silence = trouble if self._session_depth else None
                raise trouble from None
            if isinstance(error, OSError):
                raise self._trouble(words_of(error)) from None
            raise
        self._done_with(connection)
        self.has_answered = True
        return reply

    def _reply(self, connection: _ControlConnection, on_progress: Progress | None) -> dict[str, Any]:
        tell = self._on_silence

        def received(sock: socket.socket) -> bytes:
            nonlocal tell
            sock.settimeout(self._timeout_s)
            if tell is None or self._silent_s >= self._timeout_s:
                return sock.recv(RECEIVED_BYTES_MAX)
            sock.settimeout(self._silent_s)
            try:
                return sock.recv(RECEIVED_BYTES_MAX)
            except TimeoutError:
                tell(f"waiting for the daemon in {self.path.parent}, for up to {self._timeout_s:g} s")
                tell = None
                sock.settimeout(self._timeout_s - self._silent_s)
                return sock.recv(RECEIVED_BYTES_MAX)

        while True:
            line = connection.read_line(received)
            if not line.endswith(b"\n"):
                raise self._trouble(
                    "the daemon ended the connection" if len(line) <= LINE_BYTES_MAX else "a line too long"
                )
            try:
                reply = json.loads(line)
            except (ValueError, RecursionError):
                reply = None
            if not isinstance(reply, dict):
                raise self._trouble("the daemon does not speak JSON")
            if "progress" in reply:
                if on_progress is not None:
                    on_progress(reply["progress"])
                continue
            if reply.get("ok") is True:
                return ControlReply(reply, str(self.path))
            raise Unavailable(str(reply.get("error", "refused")), hint=reply.get("hint"))

    def _trouble(self, what: str) -> DaemonGone:
        return DaemonGone(what, place=str(self.path), hint="its log says more; p2pdns status asks again")

    def _connected(self) -> socket.socket | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self._timeout_s)
        try:
            with reachable(self.path) as text:
                sock.connect(text)
        except OSError as error:
            sock.close()
            # There is nothing, or the socket of a killed daemon.
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, errno.ENOTSOCK):
                return None
            if error.errno in (errno.EACCES, errno.EPERM):
                raise self._not_ours() from None
            raise self._trouble(words_of(error)) from None
        try:
            self._refuse_strangers(sock)
        except Unavailable:
            sock.close()
            raise
        return sock

    def _place(self) -> Path:
        """Return where the socket lies: in the directory itself, or where the daemon's link in it leads."""
        with contextlib.suppress(OSError):
            return self.path.parent / os.readlink(self.path)
        return self.path

    def _refuse_strangers(self, sock: socket.socket) -> None:
        # A user who may write to the directory could listen in the daemon's place.
        place = self._place()
        trusted = {0, os.geteuid()}
        for directory in dict.fromkeys((self.path.parent, place.parent)):
            with contextlib.suppress(OSError):
                trusted.add(directory.stat().st_uid)
                if others_may_write(directory):
                    what = "others may write to this directory, so anybody could listen in it"
                    raise Unavailable(what, place=str(directory), hint=f"chmod go-w {directory}")
        if peer_user_of(sock) not in trusted:
            hint = "ls -l shows whose socket it is"
            raise Unavailable("a process of another user listens there", place=str(self.path), hint=hint)

    def _not_ours(self) -> Unavailable:
        owner, hint = "another user", "run the command as that user, or set [control] group in the configuration"
        place = self._place()
        for path in (place, place.parent, self.path.parent):
            try:
                about = path.stat()
            except OSError:
                continue
            owner = user_text(about.st_uid)
            way = "the control socket is" if path == place else f"{path} can be passed"
            opens = stat.S_IWGRP if path == place else stat.S_IXGRP
            hint = f"{way} for {owner} alone; {hint}" if not about.st_mode & opens else _group_hint(about.st_gid, way)
            break
        return Unavailable(f"the control socket belongs to {owner}", place=str(self.path), hint=hint)


def _group_hint(group_id: int, way: str) -> str:
    """Return the remedy of a user who is not let in because of a group."""
    user = user_text(os.geteuid())
    try:
        group = grp.getgrgid(group_id)
    except KeyError:
        return f"{way} for the group {group_id}, which has no name here, and {user} is not a member of it"
    if user in group.gr_mem:
        return f"{user} is in the group {group.gr_name}, and was not at the last login; log in again"
    return (
        f"{way} for the group {group.gr_name}, and {user} is not a member of it; "
        f"sudo usermod -aG {group.gr_name} {user}, then log in again"
    )
