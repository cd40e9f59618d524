"""The screen of `status`: what it says first, and that it fits whatever a daemon has to tell."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from p2pdns.cli.status import HEIGHT, WIDTH, screen, sentence, settled

KEY = "o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy"


def zone(**more: Any) -> dict[str, Any]:
    """Return a zone as the daemon tells of it."""
    return {"key": KEY, "petname": None, "seq": 1, "copies": 20, "copies_wanted": 20, "trouble": None} | more


def problem(cause: str = "no other node is known") -> dict[str, str]:
    """Return a problem as the daemon tells of it."""
    return {
        "about": "contacts",
        "cause": cause,
        "remedy": "name a node",
        "command": "p2pdns serve --bootstrap ADDR:PORT",
    }


def facts(**more: Any) -> dict[str, Any]:
    """Return the status of a daemon that is well."""
    family = {"address": "0.0.0.0:6881", "address_seen": "203.0.113.9:6881", "read_only": False}
    return {
        "version": "1.0",
        "uptime_s": 11_520.0,
        "state": "/var/lib/p2pdns",
        "network": "mainline",
        "dns_addresses": ["127.0.0.1:53"],
        "families": {"IPv4": family, "IPv6": family | {"address_seen": None, "read_only": True}},
        "contacts": 37,
        "items_held": 1_204,
        "items_held_bytes": 1_258_291,
        "roll_back_protection": "whole",
        "blocked_names": 0,
        "front_connected": True,
        "upstream": {"setting": "system", "servers": ["192.0.2.1:53"]},
        "zones": [zone(petname="alice")],
        "problems": [],
        "counters": {"front": {"cache-hit": 3, "cache-miss": 1, "cache-entries": 2, "cache-bytes": 2_048}},
        "warnings": [],
    } | more


def test_the_first_line_says_whether_all_is_well() -> None:
    assert sentence(facts()) == "all is well: p2pdns 1.0, up 3 h 12 min, answers DNS at 127.0.0.1:53"
    assert sentence(facts(problems=[problem()])).startswith("1 problem: ")
    assert sentence(facts(dns_addresses=[])).endswith("answers no DNS")
    assert sentence(facts(front_connected=False, uptime_s=1.0)).startswith("starting: ")


def test_the_screen_of_a_daemon_that_is_well() -> None:
    assert screen(facts()) == [
        "all is well: p2pdns 1.0, up 3 h 12 min, answers DNS at 127.0.0.1:53",
        "zones     1 zone kept alive, all of them at enough others",
        f"  {'alice'.ljust(54)}  copies 20 of 20",
        "cache     2 answers (2.0 KiB), 75 % of 4 questions answered from it",
        "upstream  ordinary names from 192.0.2.1:53",
        "overlay   mainline, 37 contacts, 1,204 items kept for others (1.2 MiB)",
        "          IPv4 0.0.0.0:6881, seen as 203.0.113.9:6881",
        "          IPv6 0.0.0.0:6881, not seen from outside yet; keeps nothing for",
        "          others: as configured",
        "state     /var/lib/p2pdns",
    ]


def test_a_public_address_without_one_port_is_shown_as_such() -> None:
    family = {"address": "0.0.0.0:6881", "address_seen": None, "public_address": "93.184.216.34", "read_only": False}
    assert "          IPv4 0.0.0.0:6881, seen at 93.184.216.34" in screen(facts(families={"IPv4": family}))


def test_a_problem_is_told_with_cause_remedy_and_a_command_that_can_be_copied() -> None:
    command = "p2pdns inspect " + "x" * 90
    lines = screen(facts(problems=[problem() | {"command": command}]))
    assert lines[1:6] == [
        "",
        "problem   no other node is known",
        "  remedy  name a node",
        f"  type    {command}",
        "",
    ]


def test_problems_without_room_are_counted() -> None:
    lines = screen(facts(problems=[problem(f"cause {number} " + "word " * 90) for number in range(7)]))
    assert "and 6 more problems: p2pdns status -v" in lines
    assert len(lines) < HEIGHT
    assert any(line.startswith("state ") for line in lines), "the facts that explain them are there too"


def test_zones_without_room_are_counted_and_those_in_trouble_come_first() -> None:
    zones = [zone(copies=1, trouble="few"), *[zone() for _ in range(40)], zone(copies=None)]
    lines = screen(facts(zones=zones))
    assert "zones     42 zones kept alive, 1 at too few others, 1 not put again yet" in lines
    assert lines[2].endswith("copies 1 of 20")
    shown = sum("copies " in line for line in lines)
    assert f"  and {42 - shown} more zones: p2pdns status -v" in lines
    assert len(lines) == HEIGHT - 1


def test_control_characters_stay_off_the_terminal() -> None:
    lines = screen(facts(network="a\x1b[2J", problems=[problem("b\x07")], zones=[zone(petname="c\x1b")]))
    assert all(line.isprintable() for line in lines)


def test_a_daemon_of_an_earlier_version_that_tells_less_is_shown_as_far_as_it_goes() -> None:
    assert screen({}) == []
    assert screen({"version": "0.1.0", "contacts": 3, "network": "n", "dns_addresses": [], "counters": {}}) == [
        "all is well: p2pdns 0.1.0, up 0 s, answers no DNS",
        "overlay   n, 3 contacts, 0 items kept for others (0 B)",
    ]


words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=400)


@given(
    st.lists(st.fixed_dictionaries({"cause": words, "remedy": words, "command": st.just("p2pdns doctor")}), max_size=9),
    st.lists(st.builds(zone, petname=words, trouble=st.none() | words), max_size=60),
    st.lists(st.just("127.0.0.1:53"), max_size=30),
    words,
)
def test_the_screen_is_a_screen_whatever_the_daemon_says(
    problems: list[dict[str, str]], zones: list[dict[str, Any]], addresses: list[str], text: str
) -> None:
    upstream = {"setting": [text], "servers": [text] * 3}
    lines = screen(
        facts(
            problems=problems,
            zones=zones,
            dns_addresses=addresses,
            upstream=upstream,
            state=text,
            roll_back_protection=text,
            network=text,
        )
    )
    assert len(lines) < HEIGHT
    assert max(map(len, lines)) <= WIDTH


def test_a_daemon_that_only_starts_is_asked_again_until_its_front_is_there_and_not_for_ever() -> None:
    starting = {"dns_addresses": ["127.0.0.1:5300"], "front_connected": False, "uptime_s": 0.1}
    answers = [starting, starting, {**starting, "front_connected": True}, starting]
    slept: list[float] = []
    assert settled(lambda: answers.pop(0), slept.append)["front_connected"] is True
    assert (len(answers), len(slept)) == (1, 2)
    slept.clear()
    assert settled(lambda: starting, slept.append) == starting
    assert len(slept) <= 50


def test_a_front_that_has_counted_nothing_yet_has_an_empty_cache() -> None:
    lines = screen({"front_connected": True, "dns_addresses": ["127.0.0.1:5300"]})
    assert any(line.startswith("cache     0 answers") for line in lines)
    assert not any(line.startswith("cache") for line in screen({"front_connected": False}))
