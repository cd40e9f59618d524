"""The daemon's end of the control socket; `admin.control` has the other end, and the form of the lines.

Guarantees: only the daemon's user, root and the configured group are served; lines, connections and idle times are
bounded; a line that is no request ends its connection with an error line and nothing else. Does not know what a verb
does (`admin.commands` does).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2pdns import log
from p2pdns.admin.control import LINE_BYTES_MAX, SOCKET_NAME, Handler, Progress, line_of
from p2pdns.clock import boot_now
from p2pdns.directory import peer_user_of, refuse_shared, shown, user_text
from p2pdns.errors import ConfigError, P2pdnsError, StrangerError, Unavailable, words_of
from p2pdns.net.sockets import listen_unix, reachable

CONNECTIONS_MAX = 512  # Enough for a script that publishes some hundred zones at once; each costs a few kB.
IDLE_S_MAX = 60.0  # A silent client holds one of the connections for so long.
GONE_CHECK_S = 1.0  # How soon the server notices that the client of a verb has gone, so that its connection is free.
ACCEPT_ROUNDS = 4  # Rounds of the event loop from an accepted connection to the task that serves it.


def _error_line(what: str, hint: str | None = None) -> bytes:
    return line_of({"ok": False, "error": what, "hint": hint})


def _request(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError, RecursionError):
        request = json.loads(line)
        return request if isinstance(request, dict) and isinstance(request.get("verb"), str) else None
    return None


class ControlServer:
    """The daemon's end of the control socket."""

    def __init__(
        self, directory: Path, verbs: Mapping[str, Handler], *, group: str = "", runtime: Path | None = None
    ) -> None:
        self.path = (runtime or directory) / SOCKET_NAME
        # Callers that know only the state directory (a health check, a verb with --state) find the socket by this link.
        self._link = None if runtime is None else directory / SOCKET_NAME
        self._verbs = verbs
        self._group = group
        # With a group, the kernel lets only its members connect, so every connection is served.
        self._user_ids: frozenset[int] | None = None if group else frozenset({0, os.geteuid()})
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._left: dict[asyncio.Task[dict[str, Any]], None] = {}
        self._log = log.get_logger("control")
        self._limited_log = log.get_limited_logger("control", boot_now)

    async def open(self) -> None:
        """Begin to serve. The socket tells others that the daemon is ready."""
        if self._link is not None:
            refuse_shared(self.path.parent)
            self._refuse_if_heard()
        try:
            sock = listen_unix(self.path, backlog=CONNECTIONS_MAX, mode=0o660 if self._group else 0o600)
        except OSError as error:
            hint = "is the state directory yours and writable?"
            raise Unavailable(words_of(error), place=shown(self.path), hint=hint) from None
        try:
            if self._group:
                self._let_group_in()
            self._make_link()
        except BaseException:
            sock.close()
            self.path.unlink(missing_ok=True)
            raise
        self._server = await asyncio.start_unix_server(self._connected, sock=sock, limit=LINE_BYTES_MAX)

    def _refuse_if_heard(self) -> None:
        """Raise Unavailable when another program listens: a runtime directory has no lock against that."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, reachable(self.path) as text:
            # EAGAIN: it listens, and cannot take another connection at once.
            sock.setblocking(False)
            if sock.connect_ex(text) not in (0, errno.EAGAIN):
                return
        hint = "name another directory in RuntimeDirectory= of the unit, or stop the other daemon"
        raise Unavailable("another program listens there", place=str(self.path), hint=hint)

    def _make_link(self) -> None:
        if self._link is None:
            return
        try:
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(self.path)
        except OSError as error:
            # A full disk has no room for the link. The socket can be used without it.
            self._log.warning("no link to the control socket", place=shown(self._link), reason=str(error))

    def _let_group_in(self) -> None:
        try:
            group_id = grp.getgrnam(self._group).gr_gid
        except KeyError:
            raise ConfigError(f'no group "{self._group}" on this system', place="[control] group") from None
        try:
            # The group must be able to pass the directory to reach the socket in it.
            os.chown(self.path.parent, -1, group_id)
            self.path.parent.chmod(0o710)
            os.chown(self.path, -1, group_id)
        except PermissionError:
            what = f'not allowed to give the control socket to "{self._group}"'
            hint = "name a group that the daemon's user is a member of"
            raise ConfigError(what, place="[control] group", hint=hint) from None

    async def close(self) -> None:
        """End all connections and remove the socket."""
        if self._server is not None:
            # First stop accepting: a server that is closed before a connection has its task leaks that socket.
            for sock in self._server.sockets:
                asyncio.get_running_loop().remove_reader(sock.fileno())
            for _ in range(ACCEPT_ROUNDS):
                await asyncio.sleep(0)
            self._server.close()
        for task, writer in list(self._connections.items()):
            # A task that is cancelled before its first step closes nothing, so this ends the transport.
            writer.transport.abort()
            task.cancel()
        for left in list(self._left):
            left.cancel()
        await asyncio.gather(*self._connections, *self._left, return_exceptions=True)
        for path in filter(None, (self._link, self.path)):
            path.unlink(missing_ok=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            try:
                refusal = self._refusal(writer)
                if refusal is not None:
                    writer.write(refusal)
                else:
                    await self._serve_lines(reader, writer)
                await asyncio.wait_for(writer.drain(), IDLE_S_MAX)
            finally:
                writer.close()
                await asyncio.wait_for(writer.wait_closed(), IDLE_S_MAX)

    def _refusal(self, writer: asyncio.StreamWriter) -> bytes | None:
        if len(self._connections) > CONNECTIONS_MAX:
            return _error_line(f"control socket: {CONNECTIONS_MAX} connections are open, no more are served")
        sock = writer.get_extra_info("socket")
        user_id = peer_user_of(sock)
        if self._user_ids is None or user_id in self._user_ids:
            return None
        self._limited_log.warning("refused a connection of another user", user=user_text(user_id))
        return _error_line(
            f"control socket: this daemon belongs to {user_text(os.geteuid())}, you are {user_text(user_id)}",
            "run the command as that user, or set [control] group in the configuration",
        )

    async def _serve_lines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await asyncio.wait_for(reader.readline(), IDLE_S_MAX)
            except ValueError:
                writer.write(_error_line(f"control socket: a line has over {LINE_BYTES_MAX} bytes"))
                return
            if not line:
                return
            request = _request(line)
            if request is None:
                writer.write(_error_line('control socket: a request is a line of JSON, as {"verb": "status"}'))
                return
            writer.write(await self._reply(request, writer))
            await writer.drain()

    async def _reply(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> bytes:
        verb = request["verb"]
        handler = self._verbs.get(verb)
        if handler is None:
            return _error_line(f"control socket: no verb {verb[:40]!r}", f"the verbs are {', '.join(self._verbs)}")

        def report(progress: dict[str, Any]) -> None:
            if not writer.is_closing():
                writer.write(line_of({"progress": progress}))

        try:
            return line_of({"ok": True, **await self._answer(handler, request, report, writer)})
        except P2pdnsError as error:
            return _error_line(str(error), error.hint)
        except StrangerError as error:
            return _error_line(str(error))
        except ConnectionResetError:
            # The client is gone.
            raise
        except Exception as error:
            # A mistake of ours in one verb must not end the resolver; the log keeps the traceback.
            self._log.exception("a verb broke", verb=verb)
            return _error_line(f"internal error: {type(error).__name__}", "the daemon's log says where")

    async def _answer(
        self, handler: Handler, request: dict[str, Any], report: Progress, writer: asyncio.StreamWriter
    ) -> dict[str, Any]:
        """Return the reply of a verb. When the client goes, the verb goes on, and the connection is free."""
        work = asyncio.get_running_loop().create_task(handler(request, report))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=GONE_CHECK_S)
                if writer.is_closing() and not work.done():
                    self._left[work] = None
                    work.add_done_callback(self._let_go)
                    raise ConnectionResetError
        except asyncio.CancelledError:
            work.cancel()
            raise
        return work.result()

    def _let_go(self, work: asyncio.Task[dict[str, Any]]) -> None:
        self._left.pop(work, None)
        if not work.cancelled() and (error := work.exception()) is not None:
            self._log.warning("a verb failed that nobody waited for", reason=str(error))
