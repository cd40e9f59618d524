"""`status`: shows the state of the running daemon on one screen.

Guarantees: the first sentence says whether all is well; the problems follow, each with its remedy and a command, as far
as there is room; the screen never has more than 24 lines of 80 characters; `-v` and `--json` have every fact, even one
that only another version of the daemon has. Does not know what a problem is: the daemon decides that.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from p2pdns.cli import settings, ui
from p2pdns.cli.verbs import Verb
from p2pdns.errors import counted

# Longer than the usual counters, so that the second column does not move when a new counter appears.
NAME_CHARACTERS_MIN = 36
WIDTH, HEIGHT = 80, 24  # The smallest usual terminal.
LABEL_CHARACTERS = 10
PROBLEM_LINES_MIN = 9  # Always kept free for the first problem and the count of the others.
CAUSE_LINES_MAX = 3  # A cause that names many zones is cut; -v shows all of it.
STARTING_S = 10.0  # A daemon without a front is "starting" for so long, and in trouble after that.
STARTING_LOOKS_MAX, LOOK_AGAIN_S = 40, 0.05  # Two seconds: a front starts in a tenth of that.
MORE = "p2pdns status -v"


def text_of(value: object) -> str:
    """Return a JSON value as text.

    >>> text_of(True), text_of(None), text_of(["a", "b"]), text_of(1.5)
    ('yes', '-', 'a, b', '1.5')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1 else f"{value:.1f}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(text_of(entry) for entry in value) or "none"
    return str(value)


def lines_of(facts: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of every fact; the facts of a table follow its name, indented by two spaces."""
    for name, value in facts.items():
        label = "  " * depth + name.replace("_", " ")
        if isinstance(value, Mapping):
            yield label, "" if value else "none"
            yield from lines_of(value, depth + 1)
        elif isinstance(value, Sequence) and value and all(isinstance(entry, Mapping) for entry in value):
            yield label, ""
            for entry in value:
                yield "  " * (depth + 1) + "-", ", ".join(f"{k} {text_of(v)}" for k, v in entry.items())
        else:
            yield label, text_of(value)


def duration(seconds: float) -> str:
    """Return a length of time in its one or two largest units.

    >>> duration(5), duration(720), duration(11_520), duration(400_000)
    ('5 s', '12 min', '3 h 12 min', '4 d 15 h')
    """
    minutes, hours, days = int(seconds // 60), int(seconds // 3_600), int(seconds // 86_400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def size(count: float) -> str:
    """Return a number of bytes in its largest unit.

    >>> size(900), size(2_048), size(5_767_168)
    ('900 B', '2.0 KiB', '5.5 MiB')
    """
    for unit in ("B", "KiB", "MiB"):
        if count < 1_024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1_024
    return f"{count:.1f} GiB"


def labelled(label: str, text: str, *, lines_max: int = HEIGHT) -> list[str]:
    """Return a text as lines of the screen, with a label in the first column."""
    first, rest = label.ljust(LABEL_CHARACTERS), " " * LABEL_CHARACTERS
    wrapped = textwrap.wrap(
        ui.printable(text), WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )
    if len(wrapped) > lines_max:
        wrapped = wrapped[:lines_max]
        wrapped[-1] = f"{wrapped[-1][: WIDTH - 2]} …"
    return wrapped


def is_starting(facts: Mapping[str, Any]) -> bool:
    """Return whether a daemon has just started, and its front has not connected to the engine yet."""
    uptime_s = float(facts.get("uptime_s") or 0)
    return bool(facts.get("dns_addresses")) and facts.get("front_connected") is False and uptime_s < STARTING_S


def settled(ask: Callable[[], dict[str, Any]], sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """Return the daemon's status; ask a daemon that is still starting again."""
    facts = ask()
    for _ in range(STARTING_LOOKS_MAX):
        if not is_starting(facts):
            break
        sleep(LOOK_AGAIN_S)
        facts = ask()
    return facts


def sentence(facts: Mapping[str, Any]) -> str:
    """Return the first line: whether all is well, the version, the uptime and the addresses."""
    problems = facts.get("problems") or []
    addresses = facts.get("dns_addresses") or []
    uptime_s = float(facts.get("uptime_s") or 0)
    verdict = "all is well" if not problems else counted(len(problems), "problem")
    if is_starting(facts):
        verdict = "starting" if not problems else f"starting, {verdict}"
    where = f"answers DNS at {', '.join(addresses)}" if addresses else "answers no DNS"
    return f"{verdict}: p2pdns {facts.get('version', '?')}, up {duration(uptime_s)}, {where}"


def problem_lines(facts: Mapping[str, Any], lines_max: int) -> list[str]:
    """Return the problems with cause, remedy and command, and the count of those without room."""
    lines: list[str] = []
    problems = facts.get("problems") or []
    for number, problem in enumerate(problems):
        block = [
            "",
            *labelled("problem", str(problem.get("cause")), lines_max=CAUSE_LINES_MAX),
            *labelled("  remedy", str(problem.get("remedy")), lines_max=2),
            # Not wrapped: a command on two lines cannot be copied.
            f"{'  type'.ljust(LABEL_CHARACTERS)}{ui.printable(str(problem.get('command')))}",
        ]
        count = len(lines) + len(block) + (2 if number + 1 < len(problems) else 0)
        if lines and count > lines_max:
            return [*lines, "", f"and {counted(len(problems) - number, 'more problem')}: {MORE}"]
        lines += block
    return lines


def _upstream_text(facts: Mapping[str, Any]) -> str | None:
    upstream = facts.get("upstream")
    if not isinstance(upstream, Mapping):
        return None
    if upstream.get("setting") == "none":
        return "ordinary names are not resolved, as configured"
    return f"ordinary names from {', '.join(upstream.get('servers') or []) or 'nobody'}"


def _cache_text(facts: Mapping[str, Any]) -> str | None:
    front = (facts.get("counters") or {}).get("front") or {}
    # A connected front without counters has an empty cache: it sends them once there are any.
    if not front and not facts.get("front_connected"):
        return None
    hits, misses = front.get("cache-hit", 0), front.get("cache-miss", 0)
    asked = hits + misses
    kept = f"{counted(front.get('cache-entries', 0), 'answer')} ({size(front.get('cache-bytes', 0))})"
    return f"{kept}, {100 * hits // asked} % of {counted(asked, 'question')} answered from it" if asked else kept


def _family_texts(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, family in (facts.get("families") or {}).items():
        seen = family.get("address_seen")
        public = family.get("public_address")
        text = f"{name} {family.get('address')}, " + (f"seen as {seen}" if seen else "not seen from outside yet")
        # Behind some NATs contacts agree on the address and not on the port.
        text = text if seen or not public else f"{name} {family.get('address')}, seen at {public}"
        if family.get("read_only"):
            text += f"; keeps nothing for others: {family.get('read_only_reason') or 'as configured'}"
        yield text


def fact_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return the lines about the cache, the upstreams, the overlay and the state directory."""
    lines: list[str] = []
    for label, text in (("cache", _cache_text(facts)), ("upstream", _upstream_text(facts))):
        lines += [] if text is None else labelled(label, text)
    if "contacts" in facts:
        kept = f"{counted(facts.get('items_held') or 0, 'item')} kept for others"
        text = f"{facts.get('network')}, {counted(facts['contacts'], 'contact')}, {kept}"
        lines += labelled("overlay", f"{text} ({size(facts.get('items_held_bytes') or 0)})", lines_max=2)
    for text in _family_texts(facts):
        lines += labelled("", text, lines_max=2)
    if facts.get("blocked_names"):
        lines += labelled("blocked", counted(facts["blocked_names"], "name"))
    protection = facts.get("roll_back_protection")
    if protection not in (None, "whole"):
        lines += labelled("memory", f"roll-back protection {protection}", lines_max=2)
    if facts.get("state"):
        lines += labelled("state", str(facts["state"]), lines_max=1)
    return lines


def zone_lines(facts: Mapping[str, Any], lines_max: int) -> list[str]:
    """Return the zones that this daemon keeps alive, with the number of their copies, those in trouble first."""
    zones = facts.get("zones")
    if not isinstance(zones, Sequence):
        return []
    if not zones:
        return labelled("zones", "none of this machine's own")
    few = sum(zone.get("trouble") is not None for zone in zones)
    new = sum(zone.get("copies") is None for zone in zones)
    parts = [f"{counted(len(zones), 'zone')} kept alive"]
    parts += [f"{few} at too few others"] if few else []
    parts += [f"{new} not put again yet"] if new else []
    lines = labelled("zones", ", ".join([*parts, *([] if few or new else ["all of them at enough others"])]))
    room = max(0, lines_max - len(lines))
    shown = zones if len(zones) <= room else zones[: max(0, room - 1)]
    for zone in shown:
        name = ui.printable(str(zone.get("petname") or zone.get("key")))
        copies = "-" if zone.get("copies") is None else f"{zone['copies']} of {zone.get('copies_wanted')}"
        lines.append(f"  {name[:54].ljust(54)}  copies {copies}")
    if len(shown) < len(zones) and room:
        lines.append(f"  and {counted(len(zones) - len(shown), 'more zone')}: {MORE}")
    return lines


def screen(facts: Mapping[str, Any]) -> list[str]:
    """Return the screen: the sentence, the problems and the facts, within 24 lines of 80 characters."""
    if not facts:
        return []
    # The sentence has no label, and a long list of addresses is cut.
    head = textwrap.wrap(ui.printable(sentence(facts)), WIDTH, subsequent_indent="  ")[:2]
    rest = fact_lines(facts)
    # Two lines stay free for the zones, and the last line of the terminal for the prompt.
    room = HEIGHT - 1 - len(head) - len(rest)
    problems = problem_lines(facts, max(PROBLEM_LINES_MIN, room - 2))
    gap = [""] if problems else []
    room -= len(problems) + len(gap)
    return [*head, *problems, *gap, *zone_lines(facts, max(1, room)), *rest][: HEIGHT - 1]


@click.command(cls=Verb)
@click.option("-v", "--verbose", is_flag=True, help="Show every fact and counter too.")
@settings.state_option
@settings.json_option
def status(verbose: bool, state_flag: str | None, as_json: bool) -> None:
    """Show whether the running daemon is well, what is wrong with it and what to do, its zones, cache and network."""
    facts = settled(lambda: settings.daemon(state_flag).call("status")["status"])
    if as_json:
        ui.json_result(facts)
        return
    for line in screen(facts):
        ui.result(line)
    if not verbose:
        return
    ui.result()
    pairs = list(lines_of(facts))
    width = max((NAME_CHARACTERS_MIN, *(len(name) for name, _ in pairs)))
    for name, value in pairs:
        ui.result(f"{name.ljust(width)}  {value}".rstrip())
