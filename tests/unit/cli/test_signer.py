"""What the signer publishes at its start and later, where another publisher has the same key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from p2pdns.cli import signer
from p2pdns.cli.settings import Given
from p2pdns.cli.signer import ZoneOutlet
from p2pdns.config import Config
from p2pdns.items.keys import SecretKey
from p2pdns.publishing.changes import Content
from p2pdns.publishing.memory import Memory
from p2pdns.publishing.publication import Rules
from p2pdns.publishing.stored import Stored
from tests.unit.publishing.test_publication import FTP, LATER, MAIL, OLD, SECRET, TXT, WWW, Nodes, item, names, zone
from tests.unit.publishing.test_publication import publication as through


class Machine:
    """A folder with a key and a zone file, and the overlay behind its signer."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nodes = Nodes([OLD] * 20)
        self.zone_file = folder / "a.zone"
        self.key_file = folder / "a.key"
        self.key_file.write_bytes(SECRET.key_file(None))
        (folder / "a.key.published").write_text("")
        monkeypatch.setattr(signer, "running_daemon", lambda _state: object())
        monkeypatch.setattr(signer, "publish_through", self._publish)
        self.start()
        assert self.published(WWW) == {"www"}

    def _publish(
        self, _client: object, secret: SecretKey, content: Any, *, memory: Memory, rules: Rules, journal: object
    ) -> Stored:
        assert secret == SECRET
        assert journal is not None
        self.nodes.unix += 60
        made: Content | bytes = content
        # The first edition of the overlay was made elsewhere.
        is_first = not self.nodes.puts
        work = through(self.nodes, made, memory, is_forced=is_first, commitment=rules.commitment)
        return asyncio.run(work.run())

    def start(self) -> None:
        """Start the signer, or start it again."""
        self.outlet = ZoneOutlet(
            Given(state_flag="/nonexistent"), Config(), SECRET, str(self.key_file), str(self.zone_file), 940
        )

    def published(self, *lines: str) -> set[str]:
        """Publish a zone with these lines; return what the overlay has then."""
        assert asyncio.run(self.outlet.publish(zone(*lines))).is_enough
        return names(self.nodes.held[0])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def merged(machine: Machine) -> None:
    """Have another publisher add a record while the signer adds one."""
    other = item(LATER + 120_000_000, WWW, MAIL)
    machine.nodes.before_put.append(lambda: machine.nodes.everywhere(other))
    assert machine.published(WWW, FTP) == {"www", "ftp", "mail"}


def test_the_record_of_another_publisher_is_there_after_a_restart_of_the_signer(machine: Machine) -> None:
    merged(machine)
    machine.start()
    assert machine.published(WWW, FTP) == {"www", "ftp", "mail"}
    # The zone was changed while the signer was away.
    machine.start()
    assert machine.published(FTP, TXT) == {"ftp", "@", "mail"}
    assert machine.published(FTP) == {"ftp", "mail"}


def test_a_signer_that_was_killed_before_it_noted_its_publication_loses_nothing_either(machine: Machine) -> None:
    before = machine.outlet
    noted = (machine.zone_file.parent / "a.zone.last").read_bytes()
    merged(machine)
    (machine.zone_file.parent / "a.zone.last").write_bytes(noted)
    machine.start()
    assert machine.outlet is not before
    assert machine.published(WWW, FTP) == {"www", "ftp", "mail"}
    assert machine.published(WWW) == {"www", "mail"}


def test_an_older_edition_in_the_overlay_takes_nothing_back_at_a_start(machine: Machine) -> None:
    older = machine.nodes.held[0]
    assert machine.published(WWW, FTP) == {"www", "ftp"}
    # Those that held the newest one are gone.
    machine.nodes.held = [older] * len(machine.nodes.held)
    machine.start()
    assert machine.published(WWW, FTP) == {"www", "ftp"}


def test_a_damaged_note_ends_nothing_and_is_told(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    (machine.zone_file.parent / "a.zone.last").write_bytes(b"damaged")
    machine.start()
    assert machine.published(WWW, FTP) == {"www", "ftp"}
    assert "a.zone.last: damaged" in "".join(capsys.readouterr())
    machine.start()
    assert "damaged" not in "".join(capsys.readouterr())


def test_a_folder_that_takes_no_note_ends_no_publication(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    note = machine.zone_file.parent / "a.zone.last"
    note.unlink()
    note.mkdir()
    assert machine.published(WWW, FTP) == {"www", "ftp"}
    assert "is not kept for the next start" in "".join(capsys.readouterr())
    assert machine.published(WWW) == {"www"}
