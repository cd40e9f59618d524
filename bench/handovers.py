"""How often a cold question is handed over between modules, and in how many forms it is carried.

    python bench/handovers.py [--json]

A daemon with both of its halves in one process is asked for a name of a zone that only another node holds; the first
question warms it, the second is traced. It prints both counts and what they are made of, and judges nothing.

A *hand-over* is a module that gives the question, or what was found for it, to another module: by a call with that
among its arguments, by an await or by a frame, which both begin again at the event loop. The same two modules count
once. Modules that only read or write a format (names, messages, items, KRPC, frames) count as no step of the way, nor
does the ground floor. `>` marks the hand-overs inside of which a datagram or frame was sent, a task begun or a waiter
woken: the others are asked and return at once.

A *form* is a class that carries the name and the type asked for, before the look-up begins, to a module other than its
own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

sys.path.append(str(Path(__file__).resolve().parents[1]))

from p2pdns.dns.name import Name
from p2pdns.dns.registry import Type
from p2pdns.items.item import MutableItem
from tests.house.rules import GROUND_FLOOR, is_inside
from tests.journeys import LOOP, World, module_of, stack_of

HANDOVERS_GOAL, FORMS_GOAL = 30, 5
FORMATS = (*GROUND_FLOOR, "dns", "items", "dht.bencode", "dht.krpc", "link")
# What passes something on: to the network, to another task, or to one that waits.
PASSING_ON = frozenset(["send", "sendto", "sendmsg", "write", "call_soon", "create_task", "set_result"])
FIELDS_DEEP = 3


def fields_of(value: object) -> Iterator[object]:
    """Yield what an object of ours holds in its fields; nothing of any other object."""
    kind = type(value)
    if not kind.__module__.startswith("p2pdns."):
        return
    for base in kind.__mro__:
        for name in getattr(base, "__slots__", ()):
            if hasattr(value, name):
                yield getattr(value, name)
    yield from getattr(value, "__dict__", {}).values()
    if isinstance(value, tuple):
        yield from value


@dataclass
class Watch:
    """What a question passes: hand-overs with whether something was passed on inside of them, and forms."""

    item: MutableItem
    handovers: dict[tuple[str, str], bool] = field(default_factory=dict)
    forms: dict[str, None] = field(default_factory=dict)
    is_looked_up: bool = False

    def __post_init__(self) -> None:
        self.name = Name.read("www.").under(self.item.key.apex)
        self.wire = self.name.wire() + bytes([0, Type.A, 0, 1])

    def event(self, frame: FrameType, event: str, argument: object) -> None:
        """Note an event of `sys.setprofile`."""
        called = frame.f_code.co_name if event == "call" else getattr(argument, "__name__", "")
        if event.endswith("call") and called in PASSING_ON and (event == "c_call" or module_of(frame) is None):
            self._passed_on(frame)
        elif event == "call" and module_of(frame) is not None:
            self._entered(frame)

    def _passed_on(self, frame: FrameType) -> None:
        came_from = LOOP
        for module, _ in stack_of(frame):
            if module != came_from and (came_from, module) in self.handovers:
                self.handovers[came_from, module] = True
            came_from = module

    def _entered(self, frame: FrameType) -> None:
        code = frame.f_code
        (came_from, _), (module, _) = [(LOOP, ""), *stack_of(frame)][-2:]
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        arguments = {name: frame.f_locals.get(name) for name in names}
        self.is_looked_up |= (came_from, module) == ("overlay.lookups", "net.endpoint")
        if not self.is_looked_up:
            self._note_forms(arguments.values(), {came_from, module} - {LOOP})
        # What is made is a form, and no step of the way.
        is_made = code.co_qualname.startswith("__create_fn__")
        if came_from == module or is_made or any(is_inside(module, room) for room in FORMATS):
            return
        given = [value for name, value in arguments.items() if name not in ("self", "cls")]
        if came_from == LOOP or any(self._is_given(value, FIELDS_DEEP) for value in given):
            self.handovers.setdefault((came_from, module), False)

    def _note_forms(self, values: Iterable[object], modules: set[str]) -> None:
        for value in values:
            home = type(value).__module__.removeprefix("p2pdns.")
            if modules - {home} and self._is_form(value, FIELDS_DEEP):
                self.forms[f"{home}.{type(value).__qualname__}"] = None

    def _is_form(self, value: object, depth: int) -> bool:
        if isinstance(value, Name):
            return False
        held = list(fields_of(value))
        if any(isinstance(one, bytes) and self.wire in one.lower() for one in held):
            return True
        if any(isinstance(one, Name) and one == self.name for one in held) and Type.A in held:
            return True
        return depth > 0 and any(self._is_form(one, depth - 1) for one in held)

    def _is_given(self, value: object, depth: int) -> bool:
        """Return whether a value has the question in it, the key that it became, or the item found for that."""
        if isinstance(value, bytes | bytearray):
            raw = bytes(value)
            return self.wire[:-5] in raw.lower() or self.item.target in raw or self.item.key.raw in raw
        if value in (self.item.key, self.name):
            return True
        return depth > 0 and any(self._is_given(one, depth - 1) for one in fields_of(value))


def measure() -> Watch:
    """Trace a cold question."""
    with tempfile.TemporaryDirectory(prefix="p2pdns-bench-") as folder:
        world = World(Path(folder))
        try:
            world.ask()
            watch = Watch(world.hold_elsewhere())
            with world.traced(watch.event):
                world.ask_for(watch.item)
        finally:
            world.close()
    return watch


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the same for machines")
    options = parser.parse_args()
    watch = measure()
    passing_on = sum(watch.handovers.values())
    if options.json:
        rows = [[*pair, is_passed_on] for pair, is_passed_on in watch.handovers.items()]
        print(json.dumps({"handovers": rows, "forms": list(watch.forms)}))
        return 0
    for number, ((came_from, module), is_passed_on) in enumerate(watch.handovers.items(), 1):
        print(f"{number:4} {'>' if is_passed_on else ' '} {came_from} -> {module}")
    print()
    for form in watch.forms:
        print(f"     {form}")
    print(f"\n{len(watch.handovers)} hand-overs, {passing_on} of them passing on (goal {HANDOVERS_GOAL})")
    print(f"{len(watch.forms)} forms (goal {FORMS_GOAL})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
