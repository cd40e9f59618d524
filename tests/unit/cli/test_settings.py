"""Flags over the file: what wins, and that a wrong flag is named."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pdns.cli import settings
from p2pdns.config import Config
from p2pdns.directory import StateDirectory
from p2pdns.errors import ConfigError, Unavailable, UsageError
from p2pdns.net.sockets import listen_unix


def test_without_flags_the_configuration_is_as_it_was() -> None:
    assert settings.with_flags(Config()) == Config()


def test_every_flag_wins_over_the_file() -> None:
    config = settings.with_flags(
        Config(),
        dns=["127.0.0.1:53", "[::1]:5301"],
        dht="127.0.0.1:0",
        dht6="[::1]:0",
        network="family",
        bootstrap=["127.0.0.1:6881", "127.0.0.1:6882"],
        upstream="none",
    )
    assert config.dns.listen == ("127.0.0.1:53", "[::1]:5301")
    assert (config.dht.listen, config.dht.network) == ("127.0.0.1:0", "family")
    assert config.dht.listen_ipv6 == "[::1]:0"
    assert config.dht.bootstrap == ("127.0.0.1:6881", "127.0.0.1:6882")
    assert config.upstream.servers == "none"
    # What no flag speaks of stays.
    assert (config.cache, config.limits, config.dns.suffixes) == (
        Config().cache,
        Config().limits,
        Config().dns.suffixes,
    )


def test_a_free_port_may_be_asked_for_more_than_once() -> None:
    config = settings.with_flags(Config(), dns=["127.0.0.1:0", "127.0.0.1:0"])
    assert config.dns.listen == ("127.0.0.1:0", "127.0.0.1:0")


def test_an_upstream_may_leave_out_its_port() -> None:
    assert settings.with_flags(Config(), upstream="192.0.2.1").upstream.servers == ("192.0.2.1:53",)


@pytest.mark.parametrize(
    ("flags", "flag"),
    [
        ({"dns": ["nowhere"]}, "--dns"),
        ({"dns": ["127.0.0.1:53", "127.0.0.1"]}, "--dns"),
        ({"dht": "127.0.0.1:70000"}, "--dht"),
        ({"dht6": "127.0.0.1:6881"}, "--dht6"),
        ({"network": ""}, "--network"),
        ({"bootstrap": ["127.0.0.1:0"]}, "--bootstrap"),
        ({"bootstrap": ["example.com:6881"]}, "--bootstrap"),
        ({"upstream": "everybody"}, "--upstream"),
    ],
)
def test_a_wrong_flag_is_named_and_is_wrong_usage(flags: dict[str, object], flag: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings.with_flags(Config(), **flags)  # type: ignore[arg-type]
    assert (caught.value.place, caught.value.exit_code) == (flag, 2)


def test_the_file_is_found_by_flag_then_by_environment(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text('[dht]\nnetwork = "one"\n')
    two.write_text('[dht]\nnetwork = "two"\n')
    environ = {"P2PDNS_CONFIG": str(two), "HOME": str(tmp_path)}
    assert settings.load(str(one), environ).dht.network == "one"
    assert settings.load(None, environ).dht.network == "two"
    assert settings.load(None, {"HOME": str(tmp_path)}) == Config()
    with pytest.raises(ConfigError):
        settings.load(str(tmp_path / "three.toml"), environ)


# Whose daemon is asked


class Places:
    """A home, the runtime directory of a service, and where the system keeps its state; sockets listen on demand."""

    def __init__(self, root: Path) -> None:
        self.own = root / "home" / ".local" / "state" / "p2pdns"
        self.run, self.lib = root / "run" / "p2pdns", root / "lib" / "p2pdns"
        for path in (self.own, self.run, self.lib):
            path.mkdir(parents=True)
            path.chmod(0o755)
            path.parent.chmod(0o755)
        self.environ = {"HOME": str(root / "home")}
        self.system = (self.run, self.lib)
        self._listening: list[socket.socket] = []

    def listen(self, directory: Path) -> None:
        """Make a daemon answer there, as far as a connection."""
        self._listening.append(listen_unix(directory / "control.sock", backlog=8))

    def close(self) -> None:
        """End all daemons."""
        for sock in self._listening:
            sock.close()

    def asked(self, flag: str | None = None, **more: str) -> Path:
        """Return the directory whose daemon a verb asks."""
        return settings.state_dir(flag, {**self.environ, **more}, self.system)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    """Nobody listens anywhere yet."""
    made = Places(tmp_path)
    yield made
    made.close()


def test_without_any_daemon_the_state_directory_is_the_users_own(places: Places) -> None:
    assert places.asked() == places.own


def test_the_daemon_of_the_system_is_found_where_the_user_has_none(places: Places) -> None:
    places.listen(places.lib)
    assert places.asked() == places.lib
    places.listen(places.run)
    assert places.asked() == places.run
    assert settings.daemon(None, places.environ, places.system).path.parent == places.run


def test_an_own_daemon_comes_first_also_while_it_starts(places: Places) -> None:
    places.listen(places.run)
    starting = StateDirectory.open(places.own)
    starting.mark()
    assert places.asked() == places.own
    starting.close()
    assert places.asked() == places.run
    places.listen(places.own)
    assert places.asked() == places.own


def test_a_socket_that_a_killed_daemon_of_ones_own_left_hides_no_other(places: Places) -> None:
    listen_unix(places.own / "control.sock", backlog=1).close()
    places.listen(places.run)
    assert places.asked() == places.run


def test_what_the_flag_or_the_environment_names_is_asked_and_nothing_else(places: Places) -> None:
    places.listen(places.run)
    assert places.asked("/somewhere") == Path("/somewhere")
    assert places.asked(STATE_DIRECTORY="/srv/one:/srv/two") == Path("/srv/one")


def test_the_first_runtime_directory_of_the_environment_comes_before_the_usual_one(
    places: Places, tmp_path: Path
) -> None:
    named = tmp_path / "run" / "other"
    named.mkdir(mode=0o755)
    places.listen(named)
    places.listen(places.run)
    assert places.asked(RUNTIME_DIRECTORY=f"{named}:/run/second") == named


def test_a_directory_that_somebody_else_can_have_made_is_not_asked(places: Places) -> None:
    places.listen(places.run)
    for mode in (0o777, 0o1777, 0o775):
        places.run.parent.chmod(mode)
        assert places.asked() == places.own
    places.run.parent.chmod(0o755)
    places.run.chmod(0o777)
    assert places.asked() == places.own
    with pytest.raises(Unavailable, match="others may write to this directory"):
        settings.daemon(None, places.environ, places.system)


def test_without_a_home_the_daemon_of_the_system_is_asked_or_the_state_directory_is_missed(places: Places) -> None:
    with pytest.raises(ConfigError, match="no state directory is known"):
        settings.state_dir(None, {}, places.system)
    places.listen(places.run)
    assert settings.state_dir(None, {}, places.system) == places.run


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_daemon_of_the_system_that_is_not_ours_to_ask_is_told_and_not_passed_over() -> None:
    with tempfile.TemporaryDirectory(prefix="p2pdns-test-") as name:
        Path(name).chmod(0o755)
        places = Places(Path(name))
        places.listen(places.run)
        read_fd, write_fd = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setuid(65534)
                settings.daemon(None, {"HOME": "/nonexistent"}, places.system)
            except Unavailable as error:
                os.write(write_fd, str(error).encode())
            finally:
                os._exit(0)
        os.close(write_fd)
        with open(read_fd, "rb") as pipe:
            assert pipe.read().decode() == f"{places.run}/control.sock: the control socket belongs to root"
        os.waitpid(pid, 0)
        places.close()
