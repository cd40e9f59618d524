"""How a node joins: by what it saved and what it was told, without DNS, and with a hint when it has neither."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from p2pdns.addresses import Address
from p2pdns.dht.routing import SavedContact
from p2pdns.engine.discovery import Discovery
from p2pdns.engine.state import State
from p2pdns.errors import ConfigError

CONTACT = SavedContact(b"a" * 20, ("127.0.0.1", 7001), 3.5, 60.0)


class FakeEndpoint:
    """An endpoint that notes by whom it joins, and joins when it is told to."""

    def __init__(self, contact_count: int | None) -> None:
        self.asked: list[tuple[Address, ...]] = []
        self._contact_count = contact_count

    def bootstrap(self, addresses: Sequence[Address] = ()) -> asyncio.Future[int]:
        """Join."""
        self.asked.append(tuple(addresses))
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._contact_count is not None:
            future.set_result(self._contact_count)
        return future


def join(discovery: Discovery, contact_count: int | None, timeout_s: float = 30.0) -> FakeEndpoint:
    """Join by an endpoint with so many contacts; None for one that never hears from anybody."""
    endpoint = FakeEndpoint(contact_count)

    async def story() -> None:
        await discovery.join(endpoint, timeout_s=timeout_s)

    asyncio.run(story())
    return endpoint


def test_listed_contacts_are_joined_by_as_addresses() -> None:
    state = State.open(None)
    discovery = Discovery("demo", ["127.0.0.1:7000", "[::1]:7000"], state)
    assert join(discovery, 1).asked == [(("127.0.0.1", 7000), ("::1", 7000))]
    assert discovery.hint is None
    state.close()


def test_a_name_in_the_list_is_refused_because_a_boot_needs_no_dns() -> None:
    state = State.open(None)
    with pytest.raises(ConfigError, match="is not an address"):
        Discovery("demo", ["router.example.org:6881"], state)
    state.close()


def test_saved_contacts_come_back_for_their_network_only() -> None:
    state = State.open(None)
    asyncio.run(Discovery("demo", [], state).save([CONTACT]))
    assert Discovery("demo", [], state).saved == (CONTACT,)
    assert Discovery("demo", [], state).hint is None
    other = Discovery("other", [], state)
    assert other.saved == ()
    assert "--bootstrap" in str(other.hint)
    state.close()


def test_an_empty_table_does_not_wipe_out_what_was_saved() -> None:
    state = State.open(None)
    asyncio.run(Discovery("demo", [], state).save([CONTACT]))
    asyncio.run(Discovery("demo", [], state).save([]))
    assert state.load_contacts("demo") == [CONTACT]
    state.close()


def test_without_anybody_to_ask_nothing_is_asked_and_a_hint_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    state = State.open(None)
    # A contact count of None would hang for the whole timeout if it were waited for.
    assert join(Discovery("demo", [], state), None).asked == [()]
    said = capsys.readouterr()
    assert "0 contacts; name a node of this network with --bootstrap ADDR:PORT" in said.out + said.err
    state.close()


def test_silent_contacts_delay_a_start_by_the_time_limit_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    state = State.open(None)
    join(Discovery("demo", ["127.0.0.1:7000"], state), None, timeout_s=0.01)
    said = capsys.readouterr()
    assert "0 contacts so far" in said.out + said.err
    assert "1 listed, 0 saved" in said.out + said.err
    state.close()
