"""The contacts that outlive a run: both families have their places, the best come first."""

from __future__ import annotations

import asyncio

from p2pdns.dht.routing.contact import SavedContact
from p2pdns.state import State
from p2pdns.state.store import CONTACTS_MAX


def test_a_full_table_of_one_family_leaves_the_places_of_the_other() -> None:
    state = State.open(None)
    first = [SavedContact(n.to_bytes(20), ("127.0.0.1", 1_000 + n)) for n in range(CONTACTS_MAX + 50)]
    second = [SavedContact(n.to_bytes(20), ("::1", 1_000 + n)) for n in range(CONTACTS_MAX + 50)]
    asyncio.run(state.store.save_contacts("demo", [*first, *second]))
    assert state.store.load_contacts("demo") == [*first[:CONTACTS_MAX], *second[:CONTACTS_MAX]]
    state.close()
