"""What docs/integrate.md says of browsers: Chromium opens every form of a name where p2pdns is the resolver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.outside.machine import Machine, machine_with

pytestmark = pytest.mark.outside

PAGE = "the page of the zone"
# In the background for as long as the container lives.
WEB = f"""
mkdir -p /tmp/web
echo '<p>{PAGE}</p>' > /tmp/web/index.html
python3 -m http.server --bind 127.0.0.1 --directory /tmp/web 80 >/tmp/web.log 2>&1 &
"""
# One that root runs in a container cannot have a sandbox of its own.
CHROMIUM = "chromium --headless --no-sandbox --disable-gpu --user-data-dir=/tmp/browser --dump-dom"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Yield a machine with a browser, and a page at the address of `host` in its zone."""
    with machine_with("chromium", prepare=WEB) as found:
        found.ask_p2pdns()
        yield found


@pytest.mark.parametrize(
    "form", ["host.KEY.p2pdns.internal", "host.KEY.p2p.alt", "host.KEY", "host.anna.p2pdns.internal"]
)
def test_chromium_opens_every_form_of_a_name(machine: Machine, form: str) -> None:
    assert PAGE in machine.inside.run(f"{CHROMIUM} http://{form.replace('KEY', machine.key)}/")


def test_chromium_says_that_an_absent_name_is_not_there(machine: Machine) -> None:
    said = machine.inside.run(f"{CHROMIUM} http://absent.{machine.key}.p2pdns.internal/", may_fail=True)
    assert "ERR_NAME_NOT_RESOLVED" in said
