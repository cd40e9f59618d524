"""A supervisor as a process, with the engine that the command line names: `STATE LISTEN ENGINE_MODULE`.

SIGHUP makes it read `config.json` in the state directory, if that is there.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from p2pdns import log, supervisor
from p2pdns.config import Config
from p2pdns.directory import StateDirectory
from p2pdns.errors import P2pdnsError


def main() -> int:
    """Run until a signal."""
    state, listen, engine = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    config = replace(
        Config(),
        dns=replace(Config().dns, listen=(listen,)),
        dht=replace(Config().dht, listen="127.0.0.1:0", network="supervised"),
        upstream=replace(Config().upstream, servers="none"),
    )

    def reload() -> Config:
        path = state / "config.json"
        return Config.from_json(path.read_text()) if path.exists() else config

    log.configure()
    try:
        sockets = supervisor.dns_sockets(config)
    except P2pdnsError as trouble:
        sys.stderr.write(f"p2pdns: error: {trouble}\np2pdns: hint: {trouble.hint}\n")
        return trouble.exit_code
    return supervisor.Supervisor(config, StateDirectory.open(state), sockets, reload=reload, engine_module=engine).run()


if __name__ == "__main__":
    sys.exit(main())
