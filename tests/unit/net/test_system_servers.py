"""The resolvers of this machine are followed: files that change, a stub, ourselves, and the servers used before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pdns import config
from p2pdns.addresses import Address
from p2pdns.net.upstream.current import PROBE_AGAIN_S, Upstreams
from p2pdns.net.upstream.system import SystemServers

HERE: Address = ("127.0.0.1", 53)
OURS = "nameserver 127.0.0.1\n"


def hosts(servers: SystemServers) -> list[str]:
    """Return the hosts of the servers now, whatever an earlier assertion has taught the type checker."""
    assert {port for _, port in servers.servers} <= {53}
    return [host for host, _ in servers.servers]


def server(host: str) -> Address:
    return (host, 53)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return where the files of a machine will be: resolv.conf, systemd's and NetworkManager's."""
    return [tmp_path / name for name in ("resolv.conf", "systemd.conf", "manager.conf")]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(0o700)
    return path


def test_a_boot_before_the_network_has_no_servers_until_the_file_is_there(files: list[Path]) -> None:
    system = SystemServers([HERE], None, files)
    assert hosts(system) == []
    assert system.problem is not None
    assert f"{files[0]} names no resolver, so ordinary names are refused; if that stays so, write" in system.problem
    assert 'write servers = ["ADDRESS"]' in system.problem
    assert not system.look()
    files[0].write_text("nameserver 192.0.2.1\n")
    assert system.look()
    assert hosts(system) == ["192.0.2.1"]
    assert system.problem is None
    assert not system.look()


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _rename(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def _link(path: Path, text: str) -> None:
    target = path.with_name("target")
    target.write_text(text)
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("change", [_write, _rename, _link])
def test_a_laptop_that_moves_asks_the_servers_of_the_new_network(
    files: list[Path], change: Callable[[Path, str], None]
) -> None:
    files[0].write_text("nameserver 192.0.2.1\n")
    system = SystemServers([HERE], None, files)
    change(files[0], "nameserver 198.51.100.1\n")
    assert system.look()
    assert hosts(system) == ["198.51.100.1"]


def test_a_file_that_is_written_again_with_the_same_servers_changes_nothing(files: list[Path]) -> None:
    files[0].write_text("nameserver 192.0.2.1\n")
    system = SystemServers([HERE], None, files)
    _rename(files[0], "# by DHCP, again\nnameserver 192.0.2.1\n")
    assert not system.look()


def test_new_search_domains_are_a_change_too(files: list[Path]) -> None:
    files[0].write_text("nameserver 192.0.2.1\nsearch home.example\n")
    system = SystemServers([HERE], None, files)
    _rename(files[0], "nameserver 192.0.2.1\nsearch cafe.example\n")
    assert system.look()
    assert system.search_domains == ("cafe.example",)


@pytest.mark.parametrize("stub", ["127.0.0.53", "127.0.0.54"])
def test_behind_a_stub_the_file_of_systemd_is_followed(files: list[Path], stub: str) -> None:
    files[0].write_text(f"nameserver {stub}\n")
    system = SystemServers([HERE], None, files)
    # Without that file the stub is better than nobody.
    assert hosts(system) == [stub]
    files[1].write_text("nameserver 192.0.2.1\n")
    assert system.look()
    assert hosts(system) == ["192.0.2.1"]
    _rename(files[1], "nameserver 198.51.100.1\n")
    assert system.look()
    assert hosts(system) == ["198.51.100.1"]


@pytest.mark.parametrize("number", [1, 2])
def test_where_the_file_names_us_those_that_came_from_the_network_are_asked(files: list[Path], number: int) -> None:
    files[0].write_text(OURS)
    files[number].write_text("nameserver 127.0.0.53\nnameserver 127.0.0.1\nnameserver 192.0.2.1\n")
    system = SystemServers([HERE], None, files)
    assert hosts(system) == ["192.0.2.1"]
    assert system.problem is None


def test_where_only_we_are_left_and_nobody_was_asked_before_that_is_said(files: list[Path]) -> None:
    files[0].write_text(OURS)
    system = SystemServers([HERE], None, files)
    assert hosts(system) == []
    assert system.problem is not None
    assert f"{files[0]} leads to no resolver but this one, so ordinary names are refused; write" in system.problem


def test_where_only_we_are_left_the_servers_used_before_are_asked(files: list[Path], state: Path) -> None:
    files[0].write_text("nameserver 192.0.2.1\nnameserver 2001:db8::1\n")
    SystemServers([HERE], state, files).remember([("192.0.2.1", 53), ("2001:db8::1", 53)])
    files[0].write_text(OURS)
    # After a boot, as well as when the file changes while we run.
    system = SystemServers([HERE], state, files)
    assert hosts(system) == ["192.0.2.1", "2001:db8::1"]
    assert system.problem is not None
    assert "so the servers used before are asked; to stay with them, write" in system.problem
    assert 'write servers = ["192.0.2.1", "2001:db8::1"]' in system.problem
    # What is remembered is not remembered again nor wiped out by nobody, and gives way to what is there.
    SystemServers([("192.0.2.77", 53)], state, files).remember([])
    system.remember([("198.51.100.9", 53)])
    files[0].write_text("nameserver 198.51.100.1\n")
    assert system.look()
    assert hosts(system) == ["198.51.100.1"]
    assert system.problem is None
    files[0].write_text(OURS)
    assert system.look()
    assert hosts(system) == ["192.0.2.1", "2001:db8::1"]


def test_an_empty_file_is_no_reason_to_ask_the_servers_of_another_network(files: list[Path], state: Path) -> None:
    files[0].write_text("nameserver 192.0.2.1\n")
    SystemServers([HERE], state, files).remember([("192.0.2.1", 53)])
    files[0].write_text("# no network\n")
    assert SystemServers([HERE], state, files).servers == ()


@pytest.mark.parametrize("text", ["", "nonsense\n# end\n", "[192.0.2.1]:53\n", "x" * 5_000 + "\n# end\n"])
def test_a_copy_that_says_nothing_is_nothing(files: list[Path], state: Path, text: str) -> None:
    (state / "upstream.servers").write_text(text)
    files[0].write_text(OURS)
    assert SystemServers([HERE], state, files).servers == ()


# In force


def new(files: list[Path], state: Path | None = None, servers: str | tuple[str, ...] = "system") -> Upstreams:
    return Upstreams(config.UpstreamTable(servers=servers), [HERE], state, files)


def test_each_change_makes_a_new_upstream_that_knows_nothing_of_the_old_servers(files: list[Path]) -> None:
    files[0].write_text("nameserver 192.0.2.1\n")
    upstreams = new(files)
    before = upstreams.current
    assert upstreams.look() is None
    files[0].write_text("nameserver 198.51.100.11\n")
    after = upstreams.look()
    assert after is upstreams.current
    assert after is not before
    assert after.servers == (server("198.51.100.11"),)
    assert before.servers == (server("192.0.2.1"),)


def test_the_setting_none_means_none_and_a_list_itself(files: list[Path]) -> None:
    assert new(files, None, "none").current.servers == ()
    listed = new(files, None, ("192.0.2.1", "[::1]:5353")).current
    assert listed.servers == (("192.0.2.1", 53), ("::1", 5353))


@pytest.mark.parametrize("servers", ["none", ("192.0.2.7",)])
def test_what_the_configuration_names_itself_is_not_followed(files: list[Path], servers: str | tuple[str, ...]) -> None:
    upstreams = new(files, None, servers)
    files[0].write_text("nameserver 198.51.100.1\n")
    assert upstreams.look() is None
    assert upstreams.problem is None
    assert upstreams.use(config.UpstreamTable(servers="system")).servers == (server("198.51.100.1"),)
    files[0].write_text("nameserver 198.51.100.22\n")
    assert upstreams.use(config.UpstreamTable(servers=servers)).servers != (server("198.51.100.22"),)
    os.utime(files[0], (1, 1))
    assert upstreams.look() is None


def test_servers_are_remembered_all_together_once_one_of_them_has_replied(files: list[Path], state: Path) -> None:
    files[0].write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    upstreams = new(files, state)
    upstreams.look()
    assert list(state.iterdir()) == []
    upstreams.current.counters["replies"] += 1
    upstreams.look()
    files[0].write_text(OURS)
    assert new(files, state).current.servers == (server("192.0.2.1"), server("192.0.2.2"))


def test_servers_that_turn_out_to_be_ourselves_give_way_to_those_used_before(files: list[Path], state: Path) -> None:
    files[0].write_text("nameserver 192.0.2.1\n")
    SystemServers([HERE], state, files).remember([("198.51.100.1", 53)])
    upstreams = new(files, state)
    # Found out by a probe, see `tests/unit/net/test_upstream.py`.
    dropped = upstreams.current
    dropped.drop(server("192.0.2.1"))
    after = upstreams.look()
    assert after is not None
    assert after.servers == (server("198.51.100.1"),)
    after.drop(server("198.51.100.1"))
    assert upstreams.look() is None
    assert upstreams.current.servers == ()


def test_a_silence_is_a_reason_to_look_for_loops_again_once_a_minute(files: list[Path]) -> None:
    files[0].write_text("nameserver 192.0.2.1\n")
    upstreams = new(files)
    assert not upstreams.is_probe_due(0.0)
    upstreams.current.counters["no-reply"] += 1
    assert upstreams.is_probe_due(PROBE_AGAIN_S)
    assert not upstreams.is_probe_due(2 * PROBE_AGAIN_S)
    upstreams.current.counters["no-reply"] += 1
    assert not upstreams.is_probe_due(2 * PROBE_AGAIN_S - 0.1)
    assert upstreams.is_probe_due(2 * PROBE_AGAIN_S)
