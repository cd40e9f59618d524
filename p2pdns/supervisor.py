"""The supervisor behind `serve`: binds the DNS sockets, starts engine, front and signer, and keeps them alive.

The signer is there where the configuration has `[[publish]]` tables, and the front where DNS is answered.

Guarantees: a child that ends is started again, with growing pauses, while the others go on; the DNS sockets stay open,
so that queries wait in the kernel; all children end when the supervisor ends, even by SIGKILL; SIGTERM and SIGINT end
all of them with exit 0; SIGHUP makes them read the new configuration, and tells a mistake in it to the engine alone;
when engine or front cannot start at all, the daemon ends with that child's exit status. No child but the signer gets a
descriptor of a key file, and the supervisor reads none. Does not know DNS, and reads no datagram.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import p2pdns
from p2pdns import log
from p2pdns.addresses import read_address, write_address
from p2pdns.clock import boot_now
from p2pdns.config import Config, with_refusal
from p2pdns.directory import StateDirectory, give_runtime_directory, refuse_if_taken, remove_unless_taken, shown
from p2pdns.errors import P2pdnsError
from p2pdns.net.sockets import DnsSockets, adopt_dns, listen_fds, open_dns
from p2pdns.privileges import become, hide, identity_of, refuse_unreadable_program
from p2pdns.signer import handing

ENGINE_MODULE = "p2pdns.engine.main"
FRONT_MODULE = "p2pdns.front.main"
SIGNER_MODULE = "p2pdns.cli.publisher"
RESTART_S_MIN = 0.05  # A child killed once is back before clients ask again.
RESTART_S_MAX = 1.5  # A child that always ends must not burn a core; pause and start together stay below three seconds.
STEADY_S = 10.0  # A child that lived this long starts again without a pause, and its end is no failed start.
STOP_S_MAX = 5.0  # Time for the children to write state; after it they are killed.
SOCKET_NAMES = ("link.sock", "control.sock")  # A killed engine leaves them in the state directory.
EXIT_USAGE = 2  # A child ends with it only because of the configuration, and only at its start.
EXIT_CANNOT_START = (1, EXIT_USAGE)  # The exit status of a child when a port or the configuration is at fault.

_log = log.get_logger("serve")


@dataclass(slots=True)
class Child:
    """One supervised process and its history. The daemon ends with one that `is_needed` and cannot start."""

    name: str
    command: list[str]
    fds: list[int]
    is_needed: bool = True
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float | None = None
    start_count: int = 0
    early_end_count: int = 0

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: int) -> None:
        """Send a signal, if there is a process to receive it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


@dataclass(frozen=True)
class Handed:
    """The descriptors that systemd has handed over: sockets, and files (OpenFile=)."""

    sockets: Sequence[int] = ()
    files: Sequence[int] = ()


def run(
    config: Config, state_dir: Path, reload: Callable[[], Config] | None = None, *, answers_dns: bool = True
) -> int:
    """Run the daemon until a signal ends it and return its exit status.

    On SIGHUP `reload` reads the configuration again; without `reload` the children read the old one again.
    `Unavailable` when a DNS address cannot be bound, or another daemon has the state directory. Call it from the main
    thread, because it handles signals.
    """
    log.configure(config.status.log_level)
    with contextlib.ExitStack() as held:
        directory, give_up_rights = take_directory(config, state_dir)
        held.callback(directory.close)
        handed = handed_over()
        sockets = dns_sockets(config, handed) if answers_dns else []
        for pair in sockets:
            held.callback(pair.close)
        keys = handing.opened(config.publish, handed.files)
        for descriptor in keys.values():
            held.callback(os.close, descriptor)
        # The low ports are bound, and no datagram has been read yet.
        give_up_rights()
        refuse_unreadable_program()
        if keys:
            # The others run as the same user, and must not get at the descriptors.
            hide()
        return Supervisor(config, directory, sockets, reload=reload, keys=keys, answers_dns=answers_dns).run()


def take_directory(config: Config, state_dir: Path) -> tuple[StateDirectory, Callable[[], None]]:
    """Return the state directory, marked as this daemon's, and a function that gives up rights of root.

    `Unavailable` when the directory cannot be used, or another daemon has it.
    """
    identity = identity_of(config.process.user, state_dir, config.control.group)
    directory = StateDirectory.open(state_dir, owner=identity.user_id, group=identity.group_id)

    def give_up_rights() -> None:
        give_runtime_directory(os.environ, identity.user_id, identity.group_id)
        warning = become(identity, needs_chown=bool(config.control.group))
        if warning is not None:
            _log.warning(warning)

    try:
        # A command typed right after `serve` sees the mark, and waits for this daemon.
        directory.mark()
        # The engine checks this too, but only after our front has connected to the other daemon's engine.
        refuse_if_taken(directory.path)
    except BaseException:
        directory.close()
        raise
    return directory, give_up_rights


def handed_over() -> Handed:
    """Return what systemd handed over to this process, once: no child is told of it."""
    inherited = listen_fds(os.environ, os.getpid())
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        # They are about this process; a child that read them would take other descriptors for sockets.
        os.environ.pop(name, None)
    files = [descriptor for descriptor in inherited if handing.is_file(descriptor)]
    return Handed([descriptor for descriptor in inherited if descriptor not in files], files)


def dns_sockets(config: Config, handed: Handed | None = None) -> list[DnsSockets]:
    """Return the DNS sockets: those that systemd handed over, else newly bound ones."""
    handed = handed_over() if handed is None else handed
    if handed.sockets:
        return adopt_dns(handed.sockets)
    with contextlib.ExitStack() as on_trouble:
        sockets = []
        for text in config.dns.listen:
            sockets.append(open_dns(read_address(text)))
            on_trouble.callback(sockets[-1].close)
        on_trouble.pop_all()
    return sockets


class Supervisor:
    """The children and the loop that watches them. `keys` are descriptors by the index of their table.

    `python -m` runs `engine_module`, `front_module` and `signer_module`; tests put doubles there.
    """

    def __init__(
        self,
        config: Config,
        directory: StateDirectory,
        sockets: Sequence[DnsSockets],
        *,
        reload: Callable[[], Config] | None = None,
        keys: Mapping[int, int] | None = None,
        answers_dns: bool = True,
        engine_module: str = ENGINE_MODULE,
        front_module: str = FRONT_MODULE,
        signer_module: str = SIGNER_MODULE,
    ) -> None:
        self._reload = reload
        self._directory = directory
        self._config_fd = os.memfd_create("p2pdns-config")
        self._config = config
        self._write_config(config.to_json())
        # The children read from this pipe. Nothing is ever written: it ends when the supervisor ends.
        self._alive_read, self._alive_write = os.pipe()
        fds = [self._config_fd, self._alive_read, directory.descriptor]
        names = ("--config-fd", "--alive-fd", "--state-fd")
        common = [word for name, fd in zip(names, fds, strict=True) for word in (name, str(fd))]
        # The path is for `ps`; the children use the descriptor.
        common += ["--state", shown(directory.path)]
        listen = [word for pair in sockets for word in ("--dns-listen", write_address(pair.address))]
        # -P: a folder called p2pdns in the current folder must not be taken for the program.
        python = [sys.executable, "-P", "-m"]
        self._engine = Child("engine", [*python, engine_module, *common, *listen], fds)
        handed = [(name, sock.fileno()) for p in sockets for name, sock in (("--udp-fd", p.udp), ("--tcp-fd", p.tcp))]
        words = [word for name, fd in handed for word in (name, str(fd))]
        self._front = Child("front", [*python, front_module, *common, *words], [*fds, *(fd for _, fd in handed)])
        keys = keys or {}
        words = [word for index, fd in keys.items() for word in ("--key-fd", f"{index}:{fd}")]
        # Without it names are resolved all the same, so its end never ends the others.
        command = [*python, signer_module, *common, *words]
        self._signer = Child("signer", command, [*fds, *keys.values()], is_needed=False)
        is_there = ((self._engine, True), (self._front, answers_dns), (self._signer, bool(config.publish)))
        self._children = tuple(child for child, is_wanted in is_there if is_wanted)

    def run(self) -> int:
        """Start all and watch them; return the exit status of the daemon."""
        with _signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD) as wakeup:
            try:
                for child in self._children:
                    self._start(child)
                return self._watch(wakeup)
            finally:
                self._stop(wakeup)
                remove_unless_taken(self._directory.path, left_sockets(self._directory.path))
                for fd in (self._config_fd, self._alive_read, self._alive_write):
                    os.close(fd)

    def _watch(self, wakeup: int) -> int:
        while True:
            numbers = _wait(wakeup, self._pause_s())
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                return 0
            if signal.SIGHUP in numbers:
                self._take_new_config()
            for child in self._children:
                code = self._look_after(child)
                if code is not None:
                    return code

    def _pause_s(self) -> float | None:
        times = [child.restart_at for child in self._children if child.restart_at is not None]
        return max(0.0, min(times) - boot_now()) if times else None

    def _look_after(self, child: Child) -> int | None:
        """Start an ended child again when its pause is over; return its exit status when it cannot start at all."""
        now = boot_now()
        if child.restart_at is not None:
            if now >= child.restart_at:
                self._start(child)
            return None
        if child.is_running or child.process is None:
            return None
        code = child.process.returncode
        lived_s = now - child.started_at
        is_early = lived_s < STEADY_S or code == EXIT_USAGE
        if child.is_needed and code in EXIT_CANNOT_START and child.start_count == 1 and is_early:
            # The child has printed why; a second start would only print it again.
            return int(code)
        child.early_end_count = 0 if lived_s >= STEADY_S else child.early_end_count + 1
        pause_s = restart_pause_s(child.early_end_count)
        child.restart_at = now + pause_s
        _log.warning(f"{child.name} ended ({_ending(code)}), starting it again", pause_s=round(pause_s, 2))
        return None

    def _start(self, child: Child) -> None:
        # The children share the offset of the descriptor, and an earlier child may have read to the end.
        os.lseek(self._config_fd, 0, os.SEEK_SET)
        child.restart_at = None
        child.started_at = boot_now()
        child.start_count += 1
        # A process group of its own: Ctrl-C reaches the supervisor alone, which ends the children in order.
        child.process = subprocess.Popen(
            child.command, pass_fds=child.fds, stdin=subprocess.DEVNULL, env=_environment(), process_group=0
        )

    def _take_new_config(self) -> None:
        if self._reload is not None:
            try:
                self._config = self._reload()
            except P2pdnsError as trouble:
                _log.error("configuration not taken over", reason=str(trouble), hint=trouble.hint)
                # `p2pdns reload` waits at the engine's control socket for the reason.
                self._write_config(with_refusal(self._config, trouble))
                self._engine.send(signal.SIGHUP)
                return
            self._write_config(self._config.to_json())
        for child in self._children:
            child.send(signal.SIGHUP)

    def _write_config(self, text: str) -> None:
        # Overwrite first, truncate then: a child that reads in between finds one whole first line.
        data = f"{text}\n".encode()
        os.pwrite(self._config_fd, data, 0)
        os.ftruncate(self._config_fd, len(data))

    def _stop(self, wakeup: int) -> None:
        """End all children, the engine last: nobody should get an error from an engine that is ending."""
        for child in reversed(self._children):
            child.send(signal.SIGTERM)
        deadline = boot_now() + STOP_S_MAX
        while any(child.is_running for child in self._children):
            left = deadline - boot_now()
            numbers = _wait(wakeup, max(0.0, left))
            if left <= 0 or signal.SIGTERM in numbers or signal.SIGINT in numbers:
                # A second signal means that the user does not want to wait.
                for child in self._children:
                    child.send(signal.SIGKILL)
                for child in self._children:
                    if child.process is not None:
                        child.process.wait()


def left_sockets(directory: Path) -> tuple[str, ...]:
    """Return the sockets that a killed engine leaves: those in its state directory, and the target of a link there."""
    elsewhere: list[str] = []
    for name in SOCKET_NAMES:
        # Only the link shows that a socket in the runtime directory is this engine's.
        with contextlib.suppress(OSError):
            elsewhere.append(os.readlink(directory / name))
    return (*elsewhere, *SOCKET_NAMES)


def restart_pause_s(early_end_count: int) -> float:
    """Return the pause before the next start of a child that has ended early so many times in a row.

    >>> [restart_pause_s(count) for count in range(7)]
    [0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 1.5]
    """
    return min(RESTART_S_MAX, RESTART_S_MIN * (1 << min(early_end_count, 16)))


def _environment() -> dict[str, str]:
    # The children import p2pdns from the same place as the supervisor.
    root = str(Path(p2pdns.__file__).resolve().parents[1])
    rest = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, rest] if rest else [root])}


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


@contextlib.contextmanager
def _signals(*numbers: signal.Signals) -> Iterator[int]:
    """Yield a descriptor from which one byte can be read for each signal; restore the old handlers at the end."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    # Handlers instead of a blocked mask: the children would inherit a mask, while exec resets handlers.
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    before_fd = signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    try:
        yield read_fd
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read_fd)
        os.close(write_fd)


def _wait(wakeup: int, timeout_s: float | None) -> frozenset[int]:
    """Return the signals that have arrived; wait for the first one, `timeout_s` at most."""
    select.select([wakeup], [], [], timeout_s)
    try:
        return frozenset(os.read(wakeup, 4096))
    except BlockingIOError:
        return frozenset()
