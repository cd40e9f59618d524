"""A browser opens a page by a name of a zone key, on a machine of its own whose only resolver is p2pdns.

It is the smoke of the family of browsers. Its browser is Debian's chromium-headless-shell: a part of the packages that
tests/outside/test_browser.py puts into a container, and ready in seconds. It resolves through the C library alone and
asks for addresses only, so it is no substitute for the whole Chromium there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.box import Box
from tests.live.served import KEY, SECRET, WWW_ADDRESS, ZONE

pytestmark = pytest.mark.smoke

PAGE = "the page of the zone"
WWW = f"http://www.{KEY}.p2pdns.internal/"
NOBODY_THERE = "127.0.0.4"
# A browser takes a machine that has only loopback for one that is offline, and asks nobody. So there is a cable.
CABLE = f"ip link add v0 type veth peer name v1 && ip addr add {WWW_ADDRESS}/24 dev v0 && ip link set v0 up"
CABLE += " && ip link set v1 up"
# What root runs cannot have a sandbox of its own.
CHROMIUM = ("chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--dump-dom")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Yield a machine with p2pdns at its port 53, and a page at an address of its zone."""
    folder = tmp_path_factory.mktemp("machine")
    machine = Box.of(folder)
    try:
        assert machine.execute("sh", "-c", CABLE).returncode == 0
        (folder / "web").mkdir()
        (folder / "web" / "index.html").write_text(f"<p>{PAGE}</p>\n")
        web = machine.start("-u", "-m", "http.server", "--bind", WWW_ADDRESS, "--directory", str(folder / "web"), "80")
        assert web.stdout is not None
        assert web.stdout.readline().startswith("Serving HTTP")
        state = folder / "state"
        machine.serve(state, "--dns", "127.0.0.1:53", "--dht", "127.0.0.1:0", "--upstream", "none")
        key, zone = folder / "zone.key", folder / "a.zone"
        key.touch(0o600)
        key.write_bytes(SECRET.write(None))
        zone.write_text(ZONE.replace("* A", "other A"))
        # No other node is there to keep a copy, which is why this fails; the daemon keeps it all the same.
        said = machine.run("publish", "-k", str(key), str(zone), "--state", str(state))
        assert said.stdout.startswith("kept here"), said
        yield machine
    finally:
        machine.close()


def opened(box: Box, profile: Path, url: str) -> str:
    """Return the page that a browser shows, and what it says of the way there.

    Each opening has a profile of its own: from the cache of another one the page would come without a question.
    """
    done = box.execute(*CHROMIUM, f"--user-data-dir={profile}", url)
    return done.stdout + done.stderr


def test_a_browser_opens_a_page_by_a_name_of_a_zone_key(box: Box, tmp_path: Path) -> None:
    assert PAGE in opened(box, tmp_path, WWW)


def test_a_browser_says_that_an_absent_name_is_not_there(box: Box, tmp_path: Path) -> None:
    assert "ERR_NAME_NOT_RESOLVED" in opened(box, tmp_path, WWW.replace("www", "absent"))


def test_a_browser_finds_no_page_where_another_resolver_is_asked(box: Box, tmp_path: Path) -> None:
    """It is p2pdns that leads to the page in the tests above, and no file or other server of the machine."""
    box.write("resolv.conf", f"nameserver {NOBODY_THERE}\n")
    try:
        said = opened(box, tmp_path, WWW)
    finally:
        box.heal()
    assert (PAGE in said, "ERR_NAME_NOT_RESOLVED" in said) == (False, True)
