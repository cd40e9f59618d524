"""The command line of the testbed's tool: wrong words, and machines on which something is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.testbed import cli
from tests.house.rules import ROOT
from tests.unit.testbed import stand_ins
from tests.unit.testbed.test_places import facts

SECONDS_MAX = 60
Done = tuple[int, str, list[str]]
"""The exit code of a command, its output, and its messages to people."""
Tool = Callable[..., Done]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """Return a function that runs the tool in this process, beside a `docker` that answers by the first case that fits.

    A machine that runs tests may have no engine, and one that it has must not be touched by them.
    """
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)

    def run(*words: str, docker: tuple[str, ...] = (), older: str = "", **environ: str) -> Done:
        if docker:
            stand_ins(
                tmp_path, docker="\n".join(["PATH=/usr/bin:/bin", 'case "$*" in', *docker, "*) exit 1 ;;", "esac"])
            )
        if older:
            stand_ins(tmp_path, **{"docker-compose": older})
        with monkeypatch.context() as changed:
            for name, value in environ.items():
                changed.setenv(name, value)
            code = cli.main(words)
        printed, said = capsys.readouterr()
        lines = said.splitlines()
        assert all(line.startswith("p2pdns-testbed: ") for line in lines), lines
        return code, printed, [line.removeprefix("p2pdns-testbed: ") for line in lines]

    return run


UP = ("'ps --all'*) echo p2pdns ;;", "ps*) echo ffff ;;")
DOWN = ("ps*) exit 0 ;;",)
IMAGES = ("'image inspect'*) echo there; echo there ;;",)


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ("statsu", 'error: no such command "statsu"', 'hint: did you mean one of: "restart", "start", "status"?'),
        ("cut", 'error: cut: missing argument "PLACE..."', "hint: python -m deploy.testbed cut --help"),
        ("cut west --for -1", 'error: cut: invalid value for "--for"', "cut --help"),
        ("cut west --for nan", 'error: cut: invalid value for "--for"', "cut --help"),
        ("up --scale north 3", 'up: invalid value for "--scale": "north" is not one of', "up --help"),
        ("up --scale west -1", 'up: invalid value for "--scale": -1 is not in the range', "up --help"),
        ("impair --loss-percent 101", "impair: loss_percent is 101, 100 allowed", "--help"),
        ("impair --delay-ms nan", "impair: delay_ms is nan", "--help"),
        ("impair --at west --all", "impair: --at and --all exclude each other", "--help"),
        ("kill west --sgnal TERM", 'kill: no such option "--sgnal"', 'hint: did you mean "--signal"?'),
    ],
)
def test_wrong_words_end_with_what_to_say_instead(tool: Tool, words: str, error: str, hint: str) -> None:
    code, printed, (first, second) = tool(*words.split())
    assert (code, printed, error in first, hint in second) == (2, "", True, True), (first, second)


def test_without_a_verb_it_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    said = capsys.readouterr().err
    assert all(f"\n  {verb} " in said for verb in cli.testbed.commands)


NO_DOCKER = ((), "docker: no such command", "install Docker Engine and compose (Debian: docker.io docker-compose)")


def saying(trouble: str) -> tuple[str]:
    return (f"*) echo '{trouble}' >&2; exit 1 ;;",)


@pytest.mark.parametrize(
    ("words", "docker", "error", "hint"),
    [
        ("status", *NO_DOCKER), ("up", *NO_DOCKER), ("down", *NO_DOCKER), ("unimpair", *NO_DOCKER),
        ("status", saying("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it running?"),
         "docker ps --all: no engine answers", "start it, or set DOCKER_HOST"),
        ("status", saying("permission denied while trying to connect to the socket at unix:///var/run/docker.sock"),
         "docker ps --all: the engine does not let you in", "run this as root, or in the group docker"),
        ("status", saying("ERROR: listen udp4 127.0.0.1:5301: bind: address already in use"),
         "docker ps --all: the port is taken", "P2PDNS_TESTBED_PORT=5399, or any other that is free"),
        ("status", saying("something new."), "docker ps --all: something new", "python -m deploy.testbed status"),
        ("heal", DOWN, "testbed: nothing is up", "python -m deploy.testbed up"),
        ("up", (*DOWN, *IMAGES), "docker: there is no compose",
         "install the plugin, or docker-compose (Debian: docker-compose)"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_what_to_do_about_it(
    tool: Tool, words: str, docker: tuple[str, ...], error: str, hint: str
) -> None:
    assert tool(*words.split(), docker=docker) == (1, "", [f"error: {error}", f"hint: {hint}"])


@pytest.mark.parametrize("has_plugin", [True, False])
def test_the_plugin_is_taken_before_the_older_program(tool: Tool, has_plugin: bool) -> None:
    plugin = ("'compose version') echo v2 ;;", "compose*) echo plugin $* >&2; exit 1 ;;") if has_plugin else ()
    older = 'echo older "$@" >&2; exit 1'
    scale = ("--scale", "west", "7", "--scale", "east", "2")
    _, _, (error, _) = tool("up", *scale, docker=(*DOWN, *IMAGES, *plugin), older=older)
    assert ("plugin compose" if has_plugin else "older") in error
    assert "--project-name p2pdns" in error
    assert "--scale=west=7 --scale=east=2" in error


def test_what_has_become_smaller_or_goes_leaves_no_volume(tool: Tool, tmp_path: Path) -> None:
    def mounts(*names: str) -> str:
        own = [{"Type": "volume", "Name": name} for name in names]
        return json.dumps([{"Id": "f", "Config": {}, "Mounts": [*own, {"Type": "bind", "Source": "/zones"}]}])

    docker = (
        f"'volume rm'*) echo \"$*\" >> {tmp_path}/told ;;",
        *UP,
        *IMAGES,
        f"inspect*) [ -e {tmp_path}/done ] && echo '{mounts('kept')}' || echo '{mounts('kept', 'left')}' ;;",
    )
    tool("up", "--scale", "west", "1", docker=docker, older=f": > {tmp_path}/done")
    (tmp_path / "done").unlink()
    tool("down", docker=docker)
    assert (tmp_path / "told").read_text().splitlines() == ["volume rm --force left", "volume rm --force kept left"]


def test_the_project_is_that_of_the_containers_that_are_there(tool: Tool) -> None:
    docker = ("*--quiet*--filter*project=deploy*) exit 0 ;;", "ps*) echo deploy; echo deploy ;;")
    # Those of that project are asked for, and the engine that we made knows of none.
    assert tool("status", docker=docker)[2][0] == "error: testbed: nothing is up"
    # COMPOSE_PROJECT_NAME is compose's own word for another.
    assert tool("status", docker=docker, COMPOSE_PROJECT_NAME="other")[2][0] != "error: testbed: nothing is up"


@pytest.mark.parametrize(("role", "port"), [("node", 5300), ("resolver", 53), ("upstream", 53)])
def test_dig_asks_the_server_in_a_container_where_it_listens(tool: Tool, role: str, port: int) -> None:
    west = json.dumps([facts("west/1", role, "west", _west="10.91.1.128")])
    answer: dict[str, Any] = {"rcode": "NXDOMAIN", "error": "no.such: no such name", "exit": 3}
    asked = f"'exec west/1'*'resolve --json -- no.such. AAAA @127.0.0.1:{port}'"
    docker = (*UP, f"inspect*) echo '{west}' ;;", f"{asked}) echo '{json.dumps(answer)}'; exit 3 ;;")
    code, printed, said = tool("dig", "no.such", "AAAA", "--from", "west/1", docker=docker)
    assert (code, json.loads(printed), said) == (3, answer, ["error: no.such: no such name"])


@pytest.mark.parametrize("port", ["five", "0", "70000"])
def test_a_published_port_that_is_none_is_wrong_usage(tool: Tool, port: str) -> None:
    code, printed, said = tool("dig", "x.example", docker=UP, P2PDNS_TESTBED_PORT=port)
    place = 'error: dig: invalid value for "--port" (env var: "P2PDNS_TESTBED_PORT"): '
    assert (code, printed, said[0].startswith(place)) == (2, "", True)


def test_the_page_has_every_verb_and_says_what_it_does(tool: Tool) -> None:
    page = (ROOT / "docs" / "testbed.md").read_text()
    assert re.findall(r"^### `(\w+)`$", page, re.MULTILINE) == list(cli.testbed.commands)
    flags = [flag for command in cli.testbed.commands.values() for option in command.params for flag in option.opts]
    assert not [flag for flag in flags if flag.startswith("--") and flag not in page]
    commands = re.findall(r"^    \$ python -m deploy\.testbed (.*)$", page, re.MULTILINE)
    assert commands
    # Each is understood: wrong words would end with 2, before the engine is asked.
    assert {words: tool(*words.split())[0] for words in commands} == dict.fromkeys(commands, 1)
