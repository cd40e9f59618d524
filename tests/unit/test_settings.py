"""Flags over the file: what wins, and that a wrong flag is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pdns.cli import settings
from p2pdns.config import Config
from p2pdns.errors import ConfigError, UsageError


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
