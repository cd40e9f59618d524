"""deploy/ as other programs use it: services, labels and addresses of the compose file, and contents of the images."""

from __future__ import annotations

import ipaddress
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from deploy.testbed.places import SIDES
from p2pdns.config import parse
from tests.house.rules import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PICTURE = ROOT / "docs" / "figures" / "testbed.svg"
DAEMONS = ("boot-west", "boot-east", "west", "east", "publisher", "resolver", "newcomer")
OVERLAY_NODE_COUNT = 12
# Service, role, side, and the address that others know it by.
PLACES = (
    ("router", "router", None, None),
    ("boot-west", "boot", "west", "10.91.1.10"),
    ("boot-east", "boot", "east", "10.91.2.10"),
    ("west", "node", "west", None),
    ("east", "node", "east", None),
    ("publisher", "publisher", "west", "10.91.1.30"),
    ("resolver", "resolver", "east", "10.91.2.20"),
    ("upstream", "upstream", "east", "10.91.2.53"),
    ("hostile", "hostile", "west", None),
    ("newcomer", "newcomer", "west", None),
    ("dig", "dig", "east", None),
)
# Words that docker-compose 1.29 refuses, or that mean something else there.
REFUSED = ("name", "version", "include", "configs")
SHELL_SCRIPTS = sorted(path.name for path in DEPLOY.glob("*.sh"))


def address_of(service: str, network: str) -> str | None:
    """Return the fixed address of a service in a network."""
    networks = SERVICES[service]["networks"]
    entry = networks.get(network) if isinstance(networks, dict) else None
    return (entry or {}).get("ipv4_address")


def test_every_service_has_its_place_and_no_other_service_is_there() -> None:
    assert set(SERVICES) == {service for service, *_ in PLACES}
    for service, role, side, address in PLACES:
        labels = SERVICES[service]["labels"]
        assert labels.get("org.p2pdns.role") == role
        assert labels.get("org.p2pdns.side") == side
        if side is not None:
            assert set(SERVICES[service]["networks"]) == {side}
            assert address_of(service, side) == address


def test_twelve_nodes_make_the_overlay() -> None:
    nodes = [entry for entry in SERVICES.values() if entry["labels"]["org.p2pdns.role"] in ("boot", "node")]
    assert sum(entry.get("scale", 1) for entry in nodes) == OVERLAY_NODE_COUNT


@pytest.mark.parametrize("side", SIDES)
def test_the_router_can_have_the_gateway_and_scaled_nodes_take_no_fixed_address(side: str) -> None:
    (config,) = COMPOSE["networks"][side]["ipam"]["config"]
    assert ipaddress.ip_network(config["subnet"]) == SIDES[side]
    options = COMPOSE["networks"][side]["driver_opts"]
    assert options["com.docker.network.bridge.inhibit_ipv4"] == "true"
    assert options["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    taken = {config["gateway"], *(address_of(service, side) for service in SERVICES)} - {None}
    assert len(taken) >= 4
    assert all(ipaddress.ip_address(each) in SIDES[side] for each in taken)
    assert not any(ipaddress.ip_address(each) in ipaddress.ip_network(config["ip_range"]) for each in taken)
    assert config["gateway"] in (DEPLOY / "router.sh").read_text()


def test_the_published_port_is_on_loopback_only_and_in_the_first_network_by_name() -> None:
    published = [port for entry in SERVICES.values() for port in entry.get("ports", ())]
    assert published == [f"127.0.0.1:${{P2PDNS_TESTBED_PORT:-5301}}:53/{protocol}" for protocol in ("udp", "tcp")]
    assert min(COMPOSE["networks"]) == "access"
    assert set(SERVICES["router"]["networks"]) == {"access", *SIDES}


def test_the_picture_shows_every_service_and_address_of_the_file_and_no_others() -> None:
    shown = [text for element in ElementTree.parse(PICTURE).iter() if (text := (element.text or "").strip())]
    scales = {service: entry.get("scale", 1) for service, entry in SERVICES.items()}
    names = {service if scale == 1 else f"{service}/1 … {service}/{scale}" for service, scale in scales.items()}
    assert names <= set(shown)
    configs = [COMPOSE["networks"][side]["ipam"]["config"][0] for side in SIDES]
    networks = {config[what] for config in configs for what in ("subnet", "gateway")}
    # Of the addresses that the engine gives, the first.
    given = {config["ip_range"].partition("/")[0] for config in configs}
    fixed = {address for *_, address in PLACES if address}
    addresses = re.findall(r"\d+\.\d+\.\d+\.\d+(?:/\d+)?", " ".join(shown))
    assert set(addresses) == {"127.0.0.1", *networks, *given, *fixed}
    assert "dig @127.0.0.1 -p 5301" in shown


@pytest.mark.parametrize("service", DAEMONS)
def test_a_node_has_no_right_that_it_does_not_need(service: str) -> None:
    entry = SERVICES[service]
    assert entry["read_only"] is True
    assert entry["cap_drop"] == ["ALL"]
    assert "cap_add" not in entry
    assert not entry.get("privileged")
    assert "no-new-privileges:true" in entry["security_opt"]
    assert any(str(volume).split(":")[-1] == "/var/lib/p2pdns" for volume in entry["volumes"])
    # A scaled service shares a named volume among its replicas; then they would be one node.
    assert not (entry.get("scale") and ":" in entry["volumes"][0])


def test_what_waits_for_its_hour_is_behind_a_profile() -> None:
    profiles = {service: entry.get("profiles", []) for service, entry in SERVICES.items()}
    waiting = {service: own for service, own in profiles.items() if own}
    assert waiting == {"hostile": ["story"], "newcomer": ["story"], "dig": ["tools"]}


def test_the_compose_file_says_only_what_both_composes_understand() -> None:
    assert not set(COMPOSE) & set(REFUSED)
    for entry in SERVICES.values():
        assert "start_interval" not in entry.get("healthcheck", {})
        assert all(set(after) == {"condition"} for after in entry.get("depends_on", {}).values())
        assert all(isinstance(port, str) for port in entry.get("ports", ()))
        # Only the first service of an image builds it; the others would build it once more each.
        assert entry["pull_policy"] == "never"
    assert [service for service in SERVICES if "build" in SERVICES[service]] == ["router", "boot-west"]


def test_the_dockerfile_leaves_no_volume_behind_and_needs_no_newer_builder() -> None:
    instructions = re.findall(r"^[A-Z]+\b.*", DOCKERFILE, re.MULTILINE)
    words = [line.split()[0] for line in instructions]
    assert "VOLUME" not in words
    assert not re.search(r"^# *syntax *=", DOCKERFILE, re.MULTILINE)
    assert not re.search(r"--(mount|network|security|link|chmod)\b", DOCKERFILE)
    assert "<<" not in DOCKERFILE
    assert instructions[0] == "ARG BASE_IMAGE=python:3.12-slim"
    stages = re.findall(r"^FROM .* AS (\w+)$", DOCKERFILE, re.MULTILINE)
    assert [stage for stage in stages if stage != "packages"] == ["build", "node", "tools"]


def test_the_node_image_runs_as_a_user_of_its_own_and_installs_by_hash() -> None:
    node = DOCKERFILE.split(" AS node\n")[1].split("FROM ")[0]
    assert re.search(r"^USER (?!0)\d+:\d+$", node, re.MULTILINE)
    assert "HEALTHCHECK --interval=30s" in node
    assert "--require-hashes -r /src/requirements.lock" in DOCKERFILE
    assert "pip install --no-deps /src" in DOCKERFILE


def test_what_the_dockerfile_copies_is_there_and_gets_into_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[ignored.index("*") :]
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    sources = [source for copy in copies for source in copy.split()]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in allowed


@pytest.mark.parametrize("name", ["node.toml", "lan.toml"])
def test_the_nodes_are_configured_in_words_that_are_understood(name: str) -> None:
    config = parse((DEPLOY / name).read_text(), name)
    assert config.dht.network == "testbed"
    assert config.dht.lan_discovery is (name == "lan.toml")
    assert config.upstream.servers == (f"{address_of('upstream', 'east')}:53",)


def test_newcomers_are_told_of_nobody() -> None:
    assert "command" not in SERVICES["newcomer"]
    assert SERVICES["newcomer"]["environment"] == {"P2PDNS_CONFIG": "/etc/p2pdns/lan.toml"}
    assert not parse((DEPLOY / "lan.toml").read_text(), "lan.toml").dht.bootstrap


@pytest.mark.parametrize("name", SHELL_SCRIPTS)
def test_a_shell_script_is_one(name: str) -> None:
    path = DEPLOY / name
    assert path.stat().st_mode & 0o111
    shell = Path(path.read_text().splitlines()[0].removeprefix("#!"))
    assert subprocess.run([shell, "-n", path], capture_output=True, check=False).stderr == b""


def test_what_the_readme_says_of_the_containers_is_so() -> None:
    text = (ROOT / "README.md").read_text()
    assert "docker-compose -f deploy/docker-compose.yml up --build" in text
    # It prints the name of the base, and nothing else.
    assert "export BASE_IMAGE=$(make -s images)" in text
    assert "images:\n\t@deploy/images.sh\n" in (ROOT / "Makefile").read_text()
    (path,) = re.findall(r"pubkey (/\S+/)example\.key", text)
    # The state directory of the image, and below it where the script keeps its keys.
    state = re.findall(r"STATE_DIRECTORY=(\S+)", DOCKERFILE)
    assert path == f"{state[0]}/keys/"
    assert "keys=$STATE_DIRECTORY/keys" in (DEPLOY / "publisher.sh").read_text()
    assert f"@{address_of('resolver', 'east')} NAME" in text
    for variable in set(re.findall(r"`(P2PDNS_TESTBED_PORT|BASE_IMAGE)\b", text)):
        assert f"${{{variable}:-" in (DEPLOY / "docker-compose.yml").read_text()


def test_every_library_of_the_program_is_in_the_lock_file() -> None:
    """What is missing there is missing in every image and on every new machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=~ ]", line, maxsplit=1)[0] for line in project["dependencies"]}
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert wanted - set(locked) == set()
