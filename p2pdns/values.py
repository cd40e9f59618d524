"""Frozen values that are made often: by every question several, each of up to a dozen fields.

Guarantees: a class is what `dataclass(frozen=True, slots=True)` has made of it, and its values change as little; only
making one takes half the time. Does not know what the values say.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import TypeVar

T = TypeVar("T")


def quickly_made(cls: type[T]) -> type[T]:
    """Let the values of a frozen dataclass with slots write their fields straight into the slots.

    `dataclass` goes through `object.__setattr__`, which looks up each field by its name; a slot knows its place.

    >>> from dataclasses import dataclass
    >>> @quickly_made
    ... @dataclass(frozen=True, slots=True)
    ... class Point:
    ...     x: int
    ...     y: int = 7
    >>> Point(3)
    Point(x=3, y=7)
    """
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    signature = inspect.signature(cls)
    assert list(signature.parameters) == names, f"not every field of {cls} is given to it"
    assert not hasattr(cls, "__post_init__"), f"{cls} has something to do when it is made"
    scope: dict[str, object] = {f"set_{name}": vars(cls)[name].__set__ for name in names}
    parameters = []
    for name, parameter in signature.parameters.items():
        is_optional = parameter.default is not inspect.Parameter.empty
        parameters.append(f"{name}=default_{name}" if is_optional else name)
        scope[f"default_{name}"] = parameter.default
    body = "; ".join(f"set_{name}(self, {name})" for name in names)
    exec(f"def __init__(self, {', '.join(parameters)}): {body}", scope)
    made = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"  # type: ignore[attr-defined]
    made.__annotations__ = cls.__init__.__annotations__
    cls.__init__ = made  # type: ignore[assignment]
    return cls
