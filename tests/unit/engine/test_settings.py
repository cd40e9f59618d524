"""From the configuration to a node's settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pdns.config import Config
from p2pdns.dht.node.values import NodeSettings
from p2pdns.engine.settings import node_settings, short_lived_settings


def test_the_default_configuration_is_the_node_as_it_is() -> None:
    assert node_settings(Config().dht, "0.0.0.0") == NodeSettings()


@pytest.mark.parametrize(("setting", "read_only"), [("auto", None), (True, True), (False, False)])
def test_read_only_is_found_out_unless_it_is_said(setting: str | bool, read_only: bool | None) -> None:
    assert node_settings(replace(Config().dht, read_only=setting), "::").read_only is read_only


def test_a_small_timeout_bounds_every_other_one() -> None:
    settings = node_settings(replace(Config().dht, timeout_ms=20), "127.0.0.1")
    assert settings.timeout_s_min == settings.timeout_s_first == settings.timeout_s_max == 0.02


def test_far_buckets_are_as_large_as_they_are_said_to_be() -> None:
    assert node_settings(replace(Config().dht, far_bucket_sizes=(128, 64)), "::").far_sizes == (128, 64)


def test_the_node_of_one_command_asks_and_keeps_nothing() -> None:
    settings = short_lived_settings(replace(Config().dht, read_only=False, far_bucket_sizes=(128,)), "::")
    assert (settings.read_only, settings.store, settings.fills_table, settings.far_sizes) == (True, False, False, ())


def test_the_timeouts_of_one_commands_node_stay_in_order_too() -> None:
    settings = short_lived_settings(replace(Config().dht, timeout_ms=20), "127.0.0.1")
    assert settings.timeout_s_min == settings.timeout_s_first == settings.timeout_s_max == 0.02
