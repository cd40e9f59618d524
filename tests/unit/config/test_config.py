"""The configuration: every mistake is named with its line and its fix, and what is read means what was written."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns import config as configuration
from p2pdns.config import Config, from_descriptor, newest_from_descriptor, parse, with_refusal
from p2pdns.config.readers import LIST_COUNT_MAX, Mistakes, Spot, petnames, read_upstream
from p2pdns.errors import MISTAKES_MAX, ConfigError

KEY = "ybndrfg8ejkmcpqxot1uwisza345h769ybndrfg8ejkmcpqxot1o"


def trouble_of(text: str) -> tuple[str, str | None]:
    """Return the message and the hint that a text earns."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "p.toml")
    assert caught.value.exit_code == 2
    return str(caught.value), caught.value.hint


def test_an_empty_file_means_the_defaults() -> None:
    assert parse("", "p.toml") == Config()


def test_settings_are_read_into_their_tables() -> None:
    text = f"""
[dns]
listen = ["127.0.0.1:53", "[::1]:5353", "192.0.2.1"]
suffixes = ["P2P.alt."]
[dht]
network = "demo"
bootstrap = ["127.0.0.1:7000"]
[upstream]
servers = ["192.0.2.1", "[2001:db8::1]:5353"]
trust_ad = true
[names]
Alice = "{KEY.upper()}."
[zones]
private_zones = ["alice", "{KEY}.", "LAN.", "corp.example"]
"""
    config = parse(text, "p.toml")
    assert config.dns.listen == ("127.0.0.1:53", "[::1]:5353", "192.0.2.1:53")
    assert config.dns.suffixes == ("p2p.alt",)
    assert (config.dht.network, config.dht.bootstrap) == ("demo", ("127.0.0.1:7000",))
    assert config.upstream.servers == ("192.0.2.1:53", "[2001:db8::1]:5353")
    assert config.upstream.trust_ad is True
    assert config.names == {"alice": KEY}
    assert config.zones.private_zones == ("alice", KEY, "lan.", "corp.example")
    assert config.limits == Config().limits


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[dns]\nlistne = []", "p.toml:2: [dns] listne: unknown setting", 'did you mean "listen"?'),
        ("\n[nmaes]", "p.toml:2: [nmaes]: unknown table or setting", 'did you mean "names"?'),
        ("[dns]\nbootstrap = []", "p.toml:2: [dns] bootstrap: unknown setting", "it belongs in [dht]"),
        ('listen = ["127.0.0.1:53"]', "p.toml:1: listen: belongs in a table", "write it below [dns]"),
        (
            '[dns]\nblock = ["ads.txt"]',
            'p.toml:2: [dns] block: "ads.txt" is not an absolute path',
            "write it from / on, as /etc/p2pdns/ads.txt",
        ),
        (
            '[dns]\nblock_answer = "zeros"',
            'p.toml:2: [dns] block_answer: "zeros" is not a choice',
            'did you mean "zero"?',
        ),
        (
            '[dns]\nlocal_data = ["""a A 192.0.2.1\nb A 192.0.2.1"""]',
            'p.toml:2: [dns] local_data: "a A 192.0.2.1\nb A 192.0.2.1" is not one line of a zone file',
            "one line of a zone file an entry, as router.lan. 300 IN A 192.168.1.1",
        ),
        (
            '[zones]\nprivate_zones = ["a b"]',
            'p.toml:2: [zones] private_zones: "a b" is neither a zone key, a petname nor a name',
            'a petname is a name under [names]; a name of the ordinary DNS has a dot, as "lan."',
        ),
        ("[cache]\nttl_s_min = 3601", "p.toml:2: [cache] ttl_s_min: 3601 is out of bounds", "from 0 to 3600"),
        (
            "[cache]\nttl_s_min = 600\nttl_s_max = 60",
            "p.toml:2: [cache] ttl_s_min: 600 is more than ttl_s_max, 60",
            "lower this one, or raise the other",
        ),
        (
            '[dns]\nlisten = ["127.0.0.1:5300", "[::1]:53", "127.0.0.1:5300"]',
            'p.toml:2: [dns] listen: "127.0.0.1:5300" is there twice',
            "leave one of them out",
        ),
        ("dns = 3", "p.toml:1: [dns]: must be a table", "write [dns] on a line of its own"),
        (
            '[dns]\n\nlisten = "x"',
            "p.toml:3: [dns] listen: must be a list, not text",
            'write it in square brackets, as ["…"]',
        ),
        (
            "[dns]\nlisten = [3]",
            "p.toml:2: [dns] listen: must be text, not a whole number",
            'write it in quotes, as "…"',
        ),
        (
            "[limits]\ntcp_idle_ms = true",
            "p.toml:2: [limits] tcp_idle_ms: must be a whole number, not true or false",
            "write digits only, without quotes",
        ),
        (
            "[limits]\ntcp_idle_ms = 1.5",
            "p.toml:2: [limits] tcp_idle_ms: must be a whole number, not a fraction",
            "write digits only, without quotes",
        ),
        ("[limits]\ntcp_idle_ms = 0", "p.toml:2: [limits] tcp_idle_ms: 0 is out of bounds", "from 100 to 600000"),
        (
            "[upstream]\ntrust_ad = 1",
            "p.toml:2: [upstream] trust_ad: must be true or false, not a whole number",
            "write it without quotes",
        ),
        (
            "[dht]\nnetwork = 1979-05-27",
            "p.toml:2: [dht] network: must be text, not a date",
            'write it in quotes, as "…"',
        ),
        (
            '[dht]\nlisten = "localhost:1"',
            'p.toml:2: [dht] listen: "localhost:1" is not an address',
            "write ADDR:PORT, as 127.0.0.1:5300",
        ),
        (
            '[dht]\nbootstrap = ["127.0.0.1:0"]',
            'p.toml:2: [dht] bootstrap: "127.0.0.1:0" has port 0',
            "write the port that the other node listens on",
        ),
        (
            '[dht]\nbootstrap = ["127.0.0.1"]',
            'p.toml:2: [dht] bootstrap: "127.0.0.1" has no port',
            "write ADDR:PORT, as 127.0.0.1:5300",
        ),
        (
            '[dht]\nread_only = "yes"',
            'p.toml:2: [dht] read_only: "yes" is not a choice',
            'true, false or "auto"; only the last one has quotes',
        ),
        (
            "[dht]\nlan_discovery = 1",
            'p.toml:2: [dht] lan_discovery: must be true, false or "auto", not a whole number',
            'true, false or "auto"; only the last one has quotes',
        ),
        (
            '[dht]\nnetwork = ""',
            'p.toml:2: [dht] network: "" is not a network',
            "mainline, unnamed, or a name of 1 to 64 ASCII characters",
        ),
        (
            '[upstream]\nservers = ["192.0.2.1:0"]',
            'p.toml:2: [upstream] servers: "192.0.2.1:0": no server has port 0',
            "leave the port out for 53",
        ),
        (
            '[upstream]\nservers = "192.0.2.1"',
            'p.toml:2: [upstream] servers: "192.0.2.1" is not a choice',
            '"system", "none" or a list of addresses, as ["192.0.2.1"]',
        ),
        (
            '[dns]\nallow = ["10.0.0.1/8"]',
            'p.toml:2: [dns] allow: "10.0.0.1/8" has host bits set',
            'did you mean "10.0.0.0/8"?',
        ),
        (
            '[dns]\ntrusted_clients = ["printer"]',
            'p.toml:2: [dns] trusted_clients: "printer" is not a block of addresses',
            'write a block such as "192.168.0.0/16" or "fd00::/8", or a single address',
        ),
        (
            f'[dns]\nsuffixes = ["x.{KEY}"]',
            f'p.toml:2: [dns] suffixes: "x.{KEY}" ends in a zone key',
            "zone keys are answered without a suffix",
        ),
        (
            '[dns]\nsuffixes = ["a b"]',
            'p.toml:2: [dns] suffixes: "a b" is not a suffix',
            'labels of letters, digits and "-", as p2p.alt',
        ),
        (
            '[status]\nlog_level = "warn"',
            'p.toml:2: [status] log_level: "warn" is not a choice',
            'did you mean "warning"?',
        ),
        (
            '[names]\nbob = "x"',
            'p.toml:2: [names] bob: "x" is not a zone key',
            "52 characters of z-base-32, as p2pdns pubkey prints",
        ),
        (
            f'[names]\n{KEY} = "{KEY}"',
            f'p.toml:2: [names] {KEY}: "{KEY}" looks like a zone key',
            "a petname must be told from a zone key at a glance",
        ),
        (
            f'[names]\n"a.b" = "{KEY}"',
            'p.toml: [names] a.b: "a.b" is not a petname',
            'one label of letters, digits, "-" and "_", 63 at most',
        ),
        (
            f'[names]\nbob = "{KEY}"\nBob = "{KEY}"',
            "p.toml:3: [names] Bob: there twice",
            "letter case does not make another name",
        ),
        ("[dns", "p.toml:1: expected ']' at the end of a table declaration", "the file is TOML"),
        ('[dns]\nlisten = ["a"', "p.toml:2: unclosed array", "the file is TOML"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_its_fix(text: str, message: str, hint: str | None) -> None:
    assert trouble_of(text) == (message, hint)


def test_every_mistake_of_a_file_is_told_by_line() -> None:
    text = f"""[dns]
lisen = []
listen = ["x", "127.0.0.1:53", "y"]
suffixes = ["a b"]
[cahe]
[cache]
ttl_s_min = 60
ttl_s_max = 5
answers_bytes_max = "much"
[names]
p2p = "{KEY}"
bob = "x"
"a b" = "{KEY}"
"""
    with pytest.raises(ConfigError) as caught:
        parse(text, "p.toml")
    error = caught.value
    assert [(mistake.line, str(mistake)) for mistake in error.mistakes] == [
        (2, "p.toml:2: [dns] lisen: unknown setting"),
        (3, 'p.toml:3: [dns] listen: "x" is not an address'),
        (3, 'p.toml:3: [dns] listen: "y" is not an address'),
        (4, 'p.toml:4: [dns] suffixes: "a b" is not a suffix'),
        (5, "p.toml:5: [cahe]: unknown table or setting"),
        (9, "p.toml:9: [cache] answers_bytes_max: must be a whole number, not text"),
        (12, 'p.toml:12: [names] bob: "x" is not a zone key'),
        (None, 'p.toml: [names] a b: "a b" is not a petname'),
    ]
    assert (str(error), error.hint, error.exit_code) == (str(error.mistakes[0]), 'did you mean "listen"?', 2)


def test_settings_that_hold_are_weighed_against_each_other_beside_mistakes_elsewhere() -> None:
    text = f"[cache]\nttl_s_min = 60\nttl_s_max = 5\n[names]\np2p = '{KEY}'\n[dht]\ntimeout_ms = 'x'\n"
    with pytest.raises(ConfigError) as caught:
        parse(text, "p.toml")
    assert [mistake.line for mistake in caught.value.mistakes] == [2, 5, 7]


@pytest.mark.parametrize("table", ["dns", "names"])
def test_fifty_mistakes_of_a_file_are_told_each_with_its_place(table: str) -> None:
    text = f"[{table}]\n" + "".join(f"x{number} = 0\n" for number in range(300))
    with pytest.raises(ConfigError) as caught:
        parse(text, "p.toml")
    assert [mistake.line for mistake in caught.value.mistakes] == list(range(2, 2 + MISTAKES_MAX))
    assert all(f"[{table}] x" in str(mistake) for mistake in caught.value.mistakes)


def test_places_are_looked_for_no_longer_than_mistakes_are_told() -> None:
    """Each is a walk over the file, and a file may have ten thousand names."""
    asked: list[str | None] = []

    def place(table: str | None, word: str | None) -> Spot:
        asked.append(word)
        return Spot(f"{table} {word}")

    with pytest.raises(ConfigError):
        petnames({f"x{number}": 0 for number in range(5_000)}, Mistakes(place))
    assert len(asked) == MISTAKES_MAX + 1
    asked.clear()
    petnames({f"x{number}": KEY for number in range(5_000)}, Mistakes(place))
    assert not asked


def test_a_list_and_a_table_of_names_are_bounded() -> None:
    allow = ", ".join(f'"10.{i // 256}.{i % 256}.0/24"' for i in range(LIST_COUNT_MAX + 1))
    assert "1025 entries, 1024 allowed" in trouble_of(f"[dns]\nallow = [{allow}]")[0]


def test_nesting_without_end_is_an_error_and_no_traceback() -> None:
    assert trouble_of("x = " + "[" * 100_000)[0].startswith("p.toml")


@given(text=st.text(max_size=80))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    try:
        said = str(parse(text, "p.toml"))
    except ConfigError as error:
        said = str(error)
    assert said.startswith(("p.toml", "Config("))


JSON_SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "listen": st.lists(st.sampled_from(["127.0.0.1:0", "[::1]:53", "192.0.2.7:5300"]), max_size=3, unique=True),
        "allow": st.lists(st.sampled_from(["10.0.0.0/8", "fd00::/8"]), max_size=2),
        "trusted_clients": st.lists(st.sampled_from(["192.0.2.1/32", "fd00::/8"]), max_size=2),
        "udp_size_bytes_max": st.integers(512, 4096),
    },
)


@given(dns=JSON_SETTINGS, servers=st.sampled_from(["system", "none", ["192.0.2.1:53"]]), named=st.booleans())
def test_a_config_survives_the_way_to_a_child_process(dns: dict[str, Any], servers: Any, named: bool) -> None:
    lines = ["[dns]", *(f"{word} = {value!r}" for word, value in dns.items()), "[upstream]", f"servers = {servers!r}"]
    config = parse("\n".join([*lines, "[names]", f"alice = '{KEY}'" if named else ""]), "p.toml")
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"dns": 3}', '{"dns": {"listen": 3}}', '{"surprise": {}}'])
def test_what_is_no_config_from_the_supervisor_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="configuration from the supervisor"):
        Config.from_json(text)


def test_every_setting_has_a_reader_that_takes_its_default() -> None:
    for table in configuration.TABLES:
        for entry in dataclasses.fields(configuration.TABLES[table]):
            value = getattr(getattr(Config(), table), entry.name)
            written = list(value) if isinstance(value, tuple) else value
            assert entry.metadata["read"](written) == value, f"[{table}] {entry.name}"


def test_a_file_that_is_missing_earns_the_name_of_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "p2pdns.toml").write_text("")
    with pytest.raises(ConfigError, match="no such file") as caught:
        configuration.read(str(tmp_path / "p2pnds.toml"))
    assert caught.value.hint == 'did you mean "p2pdns.toml"?'


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[dns]\n\xff", ":2: not UTF-8"), (b"#" * (configuration.FILE_BYTES_MAX + 1), ": over 1048576 bytes")],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        configuration.read(str(path))
    assert str(caught.value) == f"{path}{words}"


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        configuration.read(str(tmp_path))


def test_the_flag_wins_over_the_environment_and_that_over_the_usual_place(tmp_path: Path) -> None:
    usual = tmp_path / ".config" / "p2pdns" / "p2pdns.toml"
    environ = {"HOME": str(tmp_path)}
    assert configuration.resolve_config_path(None, environ) is None
    usual.parent.mkdir(parents=True)
    usual.write_text("")
    assert configuration.resolve_config_path(None, environ) == str(usual)
    assert configuration.resolve_config_path(None, {**environ, "P2PDNS_CONFIG": "/x"}) == "/x"
    assert configuration.resolve_config_path("/y", {**environ, "P2PDNS_CONFIG": "/x"}) == "/y"
    assert configuration.resolve_config_path(None, {}) is None


@pytest.mark.parametrize(
    ("flag", "environ", "path"),
    [
        ("/f", {"STATE_DIRECTORY": "/s"}, "/f"),
        (None, {"STATE_DIRECTORY": "/s:/t", "XDG_STATE_HOME": "/x"}, "/s"),
        (None, {"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/p2pdns"),
        (None, {"HOME": "/h"}, "/h/.local/state/p2pdns"),
    ],
)
def test_the_state_directory_is_the_first_that_is_named(flag: str | None, environ: dict[str, str], path: str) -> None:
    assert configuration.resolve_state_dir(flag, environ) == Path(path)


def test_without_a_home_the_state_directory_must_be_named() -> None:
    with pytest.raises(ConfigError) as caught:
        configuration.resolve_state_dir(None, {})
    assert "--state" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "servers"), [("none", "none"), ("system", "system"), ("192.0.2.1", ("192.0.2.1:53",))]
)
def test_the_upstream_flag_reads_as_the_setting_does(text: str, servers: object) -> None:
    assert read_upstream(text) == servers


def test_a_configuration_is_read_from_a_file_again_and_again_and_from_a_pipe_once() -> None:
    config = dataclasses.replace(Config(), dht=dataclasses.replace(Config().dht, network="demo"))
    with tempfile.TemporaryFile() as file:
        file.write(config.to_json().encode())
        file.flush()
        assert from_descriptor(file.fileno()) == config
        assert from_descriptor(file.fileno()) == config
    read_fd, write_fd = os.pipe()
    os.write(write_fd, config.to_json().encode())
    os.close(write_fd)
    assert from_descriptor(read_fd) == config
    os.close(read_fd)


def test_a_refusal_is_heard_by_who_wants_the_newest_and_by_nobody_who_starts() -> None:
    config = dataclasses.replace(Config(), dht=dataclasses.replace(Config().dht, network="demo"))
    refusal = ConfigError('no setting "x"\nat all', place="p2pdns.toml:3", hint="did you mean y?")
    with tempfile.TemporaryFile() as file:
        file.write(with_refusal(config, refusal).encode())
        file.flush()
        assert from_descriptor(file.fileno()) == config
        with pytest.raises(ConfigError) as caught:
            newest_from_descriptor(file.fileno())
        assert (str(caught.value), caught.value.hint) == (str(refusal), refusal.hint)
        file.truncate(0)
        file.seek(0)
        file.write(config.to_json().encode())
        file.flush()
        assert newest_from_descriptor(file.fileno()) == config


def test_a_configuration_that_cannot_be_read_is_an_error_of_the_configuration() -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"\xff\xfe nonsense")
    os.close(write_fd)
    with pytest.raises(ConfigError, match="not JSON"):
        from_descriptor(read_fd)
    os.close(read_fd)
