"""The command line of the testbed's tool: wrong words, and machines on which something is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.testbed import cli

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 60


@dataclass(frozen=True)
class Done:
    """What a command said, and how it ended."""

    returncode: int
    stdout: str
    stderr: str


Tool = Callable[..., Done]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """Return what runs the tool, in this process, with changes of the environment."""

    def run(*words: str, **environ: str) -> Done:
        with monkeypatch.context() as changed:
            for name, value in environ.items():
                changed.setenv(name, value)
            code = cli.main(words)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def lines_of(done: Done) -> list[str]:
    """Return what was said to people, which must be all there was."""
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert all(line.startswith("p2pdns-testbed: ") for line in lines), lines
    return [line.removeprefix("p2pdns-testbed: ") for line in lines]


def engine_that(tmp_path: Path, *cases: str) -> str:
    """Make a `docker` that answers as told, first case first, and nothing else; return the PATH that leads to it.

    No engine may answer on a machine that runs tests, and one that does must not be touched by them.
    """
    script = "\n".join(["#!/bin/sh", 'case "$*" in', *cases, "*) exit 1 ;;", "esac", ""])
    (tmp_path / "docker").write_text(script)
    (tmp_path / "docker").chmod(0o755)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["statsu"], 'error: "statsu": no such verb', 'hint: did you mean "status"?'),
        (["cut"], 'error: cut: missing argument "PLACE..."', "hint: python -m deploy.testbed cut --help"),
        (["cut", "west", "--for", "-1"], 'error: cut: invalid value for "--for"', "cut --help"),
        (["cut", "west", "--for", "nan"], 'error: cut: invalid value for "--for"', "cut --help"),
        (["up", "--scale", "north=3"], '"north=3" is not west=N or east=N', "up --help"),
        (["impair", "--loss-percent", "101"], "impair: loss_percent is 101, 100 allowed", "--help"),
        (["impair", "--delay-ms", "nan"], "impair: delay_ms is nan", "--help"),
        (["impair", "--at", "west", "--all"], "impair: --at and --all exclude each other", "--help"),
        (["kill", "west", "--sgnal", "TERM"], "kill: no such option", "kill --help"),
    ],
)
def test_wrong_words_end_with_what_to_say_instead(tool: Tool, words: list[str], error: str, hint: str) -> None:
    done = tool(*words, PATH="/nonexistent")
    first, second = lines_of(done)
    assert error in first
    assert hint in second
    assert done.returncode == 2


def test_it_is_called_as_a_module() -> None:
    command = [sys.executable, "-m", "deploy.testbed", "up", "--scale", "west"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("p2pdns-testbed: error: up: ")


def test_without_a_verb_it_shows_them(tool: Tool) -> None:
    done = tool()
    assert (done.returncode, done.stdout) == (2, "")
    for verb in ("up", "down", "status", "cut", "heal", "impair", "unimpair", "kill", "start", "restart", "dig"):
        assert f"\n  {verb} " in done.stderr


@pytest.mark.parametrize("verb", [["status"], ["up"], ["down"], ["cut", "west"], ["unimpair"]])
def test_without_docker_it_says_what_to_install(tool: Tool, verb: list[str]) -> None:
    done = tool(*verb, PATH="/nonexistent")
    assert lines_of(done) == [
        "error: docker: no such command",
        "hint: install Docker Engine and compose (Debian: docker.io docker-compose)",
    ]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("said", "error", "hint"),
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
         "error: docker: no engine answers", "hint: start it, or set DOCKER_HOST"),
        ("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
         "error: docker: the engine does not let you in", "hint: run this as root, or as a member of the group docker"),
        ("ERROR: listen udp4 127.0.0.1:5301: bind: address already in use", "error: docker ps --all: the port is taken",
         "hint: P2PDNS_TESTBED_PORT=5399, or any other that is free"),
        ("something new.", "error: docker ps --all: something new", "hint: python -m deploy.testbed status"),
    ],
)  # fmt: skip
def test_an_engine_that_does_not_serve_is_named(tool: Tool, tmp_path: Path, said: str, error: str, hint: str) -> None:
    path = engine_that(tmp_path, f"*) echo '{said}' >&2; exit 1 ;;")
    done = tool("status", PATH=path)
    assert lines_of(done) == [error, hint]
    assert done.returncode == 1


def test_where_nothing_is_up_it_says_how_to_begin(tool: Tool, tmp_path: Path) -> None:
    done = tool("heal", PATH=engine_that(tmp_path, "ps*) exit 0 ;;"))
    assert lines_of(done) == ["error: testbed: nothing is up", "hint: python -m deploy.testbed up"]
    assert done.returncode == 1


def test_without_compose_it_says_what_to_install(tool: Tool, tmp_path: Path) -> None:
    done = tool("up", PATH=engine_that(tmp_path, "ps*) exit 0 ;;", "image*) exit 0 ;;"))
    assert lines_of(done) == [
        "error: docker: there is no compose",
        "hint: install the plugin, or docker-compose (Debian: docker-compose)",
    ]


@pytest.mark.parametrize("has_plugin", [True, False])
def test_the_plugin_is_taken_before_the_older_program(tool: Tool, tmp_path: Path, has_plugin: bool) -> None:
    plugin = ["'compose version') exit 0 ;;", "compose*) echo plugin $* >&2; exit 1 ;;"] if has_plugin else []
    path = engine_that(tmp_path, "ps*) exit 0 ;;", "'image inspect'*) exit 0 ;;", *plugin)
    (tmp_path / "docker-compose").write_text('#!/bin/sh\necho older "$@" >&2; exit 1\n')
    (tmp_path / "docker-compose").chmod(0o755)
    (error, _) = lines_of(tool("up", "--scale", "west=7,east=2", PATH=path))
    assert ("plugin compose" if has_plugin else "older") in error
    assert "--project-name p2pdns" in error
    assert "--scale west=7 --scale east=2" in error


def test_what_has_become_smaller_or_goes_leaves_no_volume(tool: Tool, tmp_path: Path) -> None:
    def facts(*names: str) -> str:
        mounts = [{"Type": "volume", "Name": name} for name in names]
        return json.dumps([{"Id": "f", "Config": {}, "Mounts": [*mounts, {"Type": "bind", "Source": "/zones"}]}])

    path = engine_that(
        tmp_path,
        f"'volume rm'*) echo \"$*\" >> {tmp_path}/told ;;",
        "'ps --all'*) echo p2pdns ;;",
        "ps*) echo ffff ;;",
        "'image inspect'*) exit 0 ;;",
        f"inspect*) [ -e {tmp_path}/done ] && echo '{facts('kept')}' || echo '{facts('kept', 'left')}' ;;",
    )
    (tmp_path / "docker-compose").write_text(f"#!/bin/sh\n: > {tmp_path}/done\n")
    (tmp_path / "docker-compose").chmod(0o755)
    tool("up", "--scale", "west=1", PATH=path)
    assert (tmp_path / "told").read_text() == "volume rm --force left\n"
    (tmp_path / "done").unlink()
    tool("down", PATH=path)
    assert (tmp_path / "told").read_text().splitlines()[1:] == ["volume rm --force kept left"]


def test_the_project_is_that_of_the_containers_that_are_there(tool: Tool, tmp_path: Path) -> None:
    path = engine_that(tmp_path, "*--quiet*--filter*project=deploy*) exit 0 ;;", "ps*) echo deploy; echo deploy ;;")
    done = tool("status", PATH=path)
    # Those of that project are asked for, and the engine that we made knows of none.
    assert lines_of(done)[0] == "error: testbed: nothing is up"
    # COMPOSE_PROJECT_NAME is compose's own word for another.
    done = tool("status", PATH=path, COMPOSE_PROJECT_NAME="other")
    assert "error: " in lines_of(done)[0]


def test_what_dig_got_is_one_document(tool: Tool, tmp_path: Path) -> None:
    label = {"com.docker.compose.project": "p2pdns", "com.docker.compose.service": "west", "org.p2pdns.role": "node"}
    facts = [
        {
            "Id": "f" * 64,
            "Config": {"Labels": {**label, "com.docker.compose.container-number": "1"}},
            "State": {"Status": "running"},
            "NetworkSettings": {"Networks": {}},
        }
    ]
    network = [
        {"Labels": {"com.docker.compose.network": side}, "IPAM": {"Config": [{"Subnet": subnet}]}}
        for side, subnet in (("west", "10.91.1.0/24"), ("east", "10.91.2.0/24"), ("access", "172.18.0.0/16"))
    ]
    path = engine_that(
        tmp_path,
        "'ps --all'*) echo p2pdns ;;",
        "ps*) echo ffff ;;",
        f"inspect*) echo '{json.dumps(facts)}' ;;",
        "'network ls'*) echo 1234 ;;",
        f"'network inspect'*) echo '{json.dumps(network)}' ;;",
        "run*container:ffff*'@127.0.0.1 -p 5300'*) printf ';; Got answer:\\n;; ->>HEADER<<- opcode: QUERY, "
        "status: NXDOMAIN, id: 1\\n;; flags: qr rd; QUERY: 1\\n' ;;",
    )
    done = tool("dig", "no.such", "AAAA", "--from", "west/1", PATH=path)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert (document["name"], document["type"], document["rcode"]) == ("no.such", "AAAA", "NXDOMAIN")
    assert done.returncode == 3


@pytest.mark.parametrize("port", ["five", "0", "70000"])
def test_a_published_port_that_is_none_is_wrong_usage(tool: Tool, tmp_path: Path, port: str) -> None:
    path = engine_that(tmp_path, "'ps --all'*) echo p2pdns ;;", "ps*) echo ffff ;;")
    done = tool("dig", "x.example", PATH=path, P2PDNS_TESTBED_PORT=port)
    assert lines_of(done)[0] == f'error: $P2PDNS_TESTBED_PORT: "{port}" is not a port'
    assert done.returncode == 2


def test_the_page_has_every_verb_and_says_what_it_does(tool: Tool) -> None:
    page = (ROOT / "docs" / "testbed.md").read_text()
    assert re.findall(r"^### `(\w+)`$", page, re.MULTILINE) == list(cli.testbed.commands)
    for verb, command in cli.testbed.commands.items():
        for option in command.params:
            for flag in option.opts:
                assert not flag.startswith("--") or f"{flag}" in page, f"{verb} {flag}"
    commands = re.findall(r"^    \$ python -m deploy\.testbed (.*)$", page, re.MULTILINE)
    assert commands
    for words in commands:
        # It is understood: what is wrong is found before anything is asked of the engine.
        assert tool(*words.split(), PATH="/nonexistent").returncode == 1, words
