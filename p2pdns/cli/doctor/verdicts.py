"""What a check of `doctor` says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem", "cannot tell"]


@dataclass(frozen=True)
class Verdict:
    """A check's verdict. All but "ok" have a cause and a remedy; a problem has a command to type as well."""

    check: str
    level: Level
    cause: str = ""
    remedy: str = ""
    command: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the fields for `--json`."""
        return asdict(self)


def ok(check: str, cause: str = "") -> Verdict:
    """Return that nothing is wrong; a cause says what was seen, for `--json` and `-v`."""
    return Verdict(check, "ok", cause)
