"""The stages of a publication as they are shown: a line on a terminal, lines of JSON with `--json`.

Guarantees: a publication that waits says so at once, and at times again. Does not know what is published, nor how.
"""

from __future__ import annotations

import time
from typing import Any

from p2pdns.cli import ui
from p2pdns.errors import counted
from p2pdns.publishing.replicas import PublishStage
from p2pdns.timing import Clock

RATIONED_NOTE_S = 10.0  # Between two lines about a publication that waits.


class Rations:
    """Messages about a publication that other nodes ration: on the progress line, and at times on a line that stays."""

    def __init__(self, line: ui.Progress, clock: Clock = time.monotonic) -> None:
        self._line = line
        self._clock = clock
        self._said_at = float("-inf")

    def told(self, standing: dict[str, Any]) -> None:
        """Show how far the publication is."""
        zones = f"{standing['done']} of {counted(standing['of'], 'zone')} through"
        text = f"rationed by the other nodes: {zones}, about {standing['seconds_left']:.0f} s left"
        if self._clock() - self._said_at >= RATIONED_NOTE_S:
            if self._said_at == float("-inf"):
                text += "; the daemon goes on if you do not wait"
            self._said_at = self._clock()
            self._line.clear()
            ui.note(text)
        self._line.update(text)


class Shown:
    """The stages of a publication: a line on a terminal, lines of JSON with `--json`."""

    def __init__(self, line: ui.Progress) -> None:
        self._line = line
        self._rations = Rations(line)

    def tell(self, progress: PublishStage) -> None:
        """Show a stage."""
        if ui.is_json():
            ui.json_progress(progress.to_json())
        elif progress.stage == "rationed":
            self._rations.told(dict(progress.facts))
        else:
            self._line.update(str(progress), progress.share)
