"""`serve`: runs a node of the overlay, with or without a DNS server.

Guarantees: a flag wins over the configuration file; `--no-dns` is one process where the configuration has no zones to
publish. Does not know what the processes do:
`p2pdns.supervisor` and `p2pdns.engine.main` do the work.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import click

from p2pdns import config as configuration
from p2pdns import log
from p2pdns.cli import settings
from p2pdns.cli.verbs import Verb
from p2pdns.config import Config
from p2pdns.errors import UsageError


def end_with(alive_fd: int) -> None:
    """End this process by SIGTERM when the other end of the pipe is closed, because the parent process has ended."""

    def watch() -> None:
        try:
            while os.read(alive_fd, 1):
                pass
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    os.set_inheritable(alive_fd, False)
    threading.Thread(target=watch, name="alive-pipe", daemon=True).start()


def _run_engine_alone(config: Config, state: Path) -> int:
    from p2pdns.engine import main as engine
    from p2pdns.supervisor import take_directory

    log.configure(config.status.log_level)
    directory, give_up_rights = take_directory(config, state)
    give_up_rights()
    return engine.run(config, directory)


@click.command(cls=Verb)
@settings.config_option
@click.option("--dns", multiple=True, metavar="ADDR:PORT", help="Answer DNS there (default: 127.0.0.1:5300).")
@click.option("--no-dns", is_flag=True, help="Be a node of the overlay only.")
@click.option("--dht", metavar="ADDR:PORT", help="Speak to other nodes there (default: 0.0.0.0:6881 or the next free).")
@click.option(
    "--dht6", metavar="ADDR:PORT", help="The same for IPv6: an address, auto (default: beside 0.0.0.0) or off."
)
@settings.network_option
@settings.bootstrap_option
@settings.state_option
@click.option("--upstream", metavar="ADDR[:PORT]", help="The resolver for other names: an address, system or none.")
@click.option("--alive-fd", type=int, hidden=True)
def serve(
    config_flag: str | None,
    dns: tuple[str, ...],
    no_dns: bool,
    dht: str | None,
    dht6: str | None,
    network: str | None,
    bootstrap: tuple[str, ...],
    state_flag: str | None,
    upstream: str | None,
    alive_fd: int | None,
) -> int:
    """Run a node of the overlay and answer DNS from what it finds there, until Ctrl-C.

    SIGHUP makes it read the configuration again.
    """
    if dns and no_dns:
        raise UsageError("--dns and --no-dns exclude each other", place="serve")

    def read() -> Config:
        config = settings.load(config_flag)
        return settings.with_flags(
            config, dns=dns, dht=dht, dht6=dht6, network=network, bootstrap=bootstrap, upstream=upstream
        )

    config = read()
    # Always a directory of the user: the system's daemon has its own.
    state = configuration.resolve_state_dir(state_flag, os.environ)
    if alive_fd is not None:
        end_with(alive_fd)
    # The engine is imported only for `--no-dns`: the supervisor stays small because it has no resolver.
    if no_dns and not config.publish:
        return _run_engine_alone(config, state)
    from p2pdns import supervisor

    # A key is in no process of the node: where there are zones to publish, they need a process of their own.
    return supervisor.run(config, state, reload=read, answers_dns=not no_dns)
