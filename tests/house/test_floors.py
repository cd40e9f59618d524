"""The floors and the doors: who may import whom, and through which file a library comes in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import rules

MODULES = rules.modules()


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name or "p2pdns" for name, _ in MODULES])
def test_imports_come_from_lower_floors_and_through_the_doors(module: str, path: Path) -> None:
    assert rules.floor_findings(module, path.read_text()) == []


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name or "p2pdns" for name, _ in MODULES])
def test_the_core_reads_no_clock_chance_file_or_socket(module: str, path: Path) -> None:
    assert rules.purity_findings(module, path.read_text()) == []


def test_every_module_stands_on_a_floor() -> None:
    packages = {name for name, path in MODULES if path.name == "__init__.py" and "." not in name}
    assert [name for name, _ in MODULES if name not in packages and rules.row_of(name) is None] == []


def test_the_front_loads_no_dns_library_and_no_cryptography() -> None:
    rooms = ("cli", *rules.NEVER["front"])
    ground = ["p2pdns.dns", *(f"p2pdns.{room}" for room in rules.GROUND_FLOOR)]
    code = (
        "import sys, p2pdns.front.main\n"
        "heavy = {'dnslib', 'dns', 'cryptography', 'kademlia', 'sqlite3'} & set(sys.modules)\n"
        f"ours = {{m for m in sys.modules if m.split('.')[:2] in [['p2pdns', room] for room in {rooms}]}}\n"
        f"ours -= {set(ground)}\n"
        "assert not heavy and not ours, (heavy, ours)\n"
        "print('light')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("light\n", "")


@pytest.mark.parametrize("words", [["frobnicate"], ["status"], ["name", "list"]], ids=" ".join)
def test_a_command_loads_no_event_loop_no_database_and_no_dns_library_before_it_needs_one(
    words: list[str], tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        "from p2pdns.cli.main import main\n"
        "main(sys.argv[1:])\n"
        "heavy = {'asyncio', 'dnslib', 'dns', 'kademlia', 'sqlite3', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print('light')"
    )
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "P2PDNS_CONFIG": os.devnull}
    kept = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**kept, **environ})
    assert done.stdout.endswith("light\n"), done.stderr


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (["--help"], {}),
        ([], {"_P2PDNS_COMPLETE": "bash_complete", "COMP_WORDS": "p2pdns ", "COMP_CWORD": "1"}),
    ],
    ids=["--help", "Tab"],
)
def test_a_list_of_verbs_loads_none_of_them(words: list[str], environ: dict[str, str]) -> None:
    # On the Tab key `completion` is what answers.
    code = (
        "import sys\n"
        "from p2pdns.cli import main, verbs\n"
        "status = main.main()\n"
        "loaded = set(verbs.VERBS.values()) & set(sys.modules) - {'p2pdns.cli.completion'}\n"
        "assert not loaded, loaded\n"
        "print('light' if status == 0 else status)"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})
    assert done.stdout.endswith("light\n"), done.stderr
    assert "keygen" in done.stdout


@pytest.mark.parametrize(
    ("module", "source", "word"),
    [
        ("dns.name", "from p2pdns.dns.message import parse", "lower floor"),
        ("dns.zone", "from p2pdns.items import keys", "lower floor"),
        ("front.gate", "import p2pdns.overlay", "never sees overlay"),
        ("front.gate", "from p2pdns.dns.name import Name", "never sees dns"),
        ("dns.registry", "from p2pdns.dns.name import Name", "lower floor"),
        ("engine.main", "from p2pdns.front import gate", "never sees front"),
        ("link", "from p2pdns.dns.name import Name", "ground floor"),
        ("net.sockets", "from p2pdns.overlay import ports", "ground floor"),
        ("dht.node", "import cryptography.hazmat", "comes in through"),
        ("dns.zone", "def f():\n    import dnslib", "comes in through"),
        ("dht.node", "from . import lookup\nfrom ..engine import overlay", "lower floor"),
    ],
)
def test_an_import_that_climbs_is_found(module: str, source: str, word: str) -> None:
    assert any(word in finding for finding in rules.floor_findings(module, source))


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from os import urandom",
        "from p2pdns import clock",
        "for x in {1, 2}: pass",
        "y = [x for x in set('ab')]",
        "open('x')",
    ],
)
def test_an_impure_line_in_the_core_is_found(source: str) -> None:
    assert rules.purity_findings("dht.node", source)
    assert rules.purity_findings("engine.main", source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import random",
        "import os",
        "import socket",
        "import sqlite3, logging",
        "from p2pdns.clock import boot_now",
        "from p2pdns import log",
        "import asyncio.subprocess",
        "from asyncio import open_connection",
        "import asyncio\nasync def f(): await asyncio.open_connection('::1', 53)",
        "import asyncio\nasync def f(): await asyncio.create_subprocess_exec('true')",
        "import asyncio\nasync def f(): await asyncio.to_thread(print)",
        "import asyncio\nasync def f(sock): await asyncio.get_running_loop().sock_recv(sock, 1)",
        "import asyncio\nasync def f(): await asyncio.get_running_loop().run_in_executor(None, print)",
        "import asyncio\ndef f():\n    here = asyncio.get_running_loop()\n    return here.time()",
        "class C:\n    def f(self, sock): self._loop.add_reader(sock, print)",
        "for x in {1, 2}: pass",
        "open('x')",
    ],
)
def test_a_room_that_only_waits_touches_nothing_outside(source: str) -> None:
    assert rules.purity_findings("overlay.finder", source)
    assert rules.purity_findings("publishing.upkeep", source)
    assert rules.purity_findings("net.endpoint", source) == []


def test_a_room_that_only_waits_may_use_futures_tasks_and_timers() -> None:
    source = (
        "import asyncio\n"
        "async def f(clock):\n"
        "    loop = asyncio.get_running_loop()\n"
        "    loop.call_later(1.0, print)\n"
        "    await asyncio.wait({loop.create_future(), asyncio.create_task(g())}, timeout=clock())\n"
    )
    assert rules.purity_findings("overlay.finder", source) == []
    assert rules.purity_findings("resolver.service", source), "the resolver has no need to wait for anything itself"
