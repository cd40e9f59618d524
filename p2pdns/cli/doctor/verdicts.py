"""The verdict of a check of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem", "cannot tell"]


@dataclass(frozen=True)
class Finding:
    """A check's verdict. All but "ok" have a cause and a remedy; a problem has a command to type as well."""

    check: str
    level: Level
    cause: str = ""
    remedy: str = ""
    command: str = ""
