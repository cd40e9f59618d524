"""Frozen values of which every question makes several: records, messages, frames, outcomes. The door of msgspec.

Guarantees: a value does not change, equals each value of its class with equal fields, and can be a key. Making one and
hashing one take a tenth of the time of a frozen dataclass (`bench/forward.py` shows the effect). Does not know the
meaning of the values.
"""

from __future__ import annotations

from msgspec import DecodeError, Meta, Struct, msgpack
from msgspec.structs import replace

__all__ = ["DecodeError", "Meta", "Value", "msgpack", "replace"]


class Value(Struct, frozen=True):
    """The base of such values; a subclass says `frozen=True` too.

    >>> class Point(Value, frozen=True):
    ...     x: int
    ...     y: int = 7
    >>> Point(3)
    Point(x=3, y=7)
    >>> replace(Point(3), x=4)
    Point(x=4, y=7)
    """
