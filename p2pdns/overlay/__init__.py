"""Zones by their ids: one look-up a zone for all questions, the first valid item at once, the settled one later.

`ports` has the interfaces to the DHT and to the reader's state, `parts` the items of a zone, `entries` the known zones
and the queue for look-ups, `lookups` these look-ups, `pinned` those of the items that the head of a divided zone pins,
`marks` the rule of what may be shown; `finder` joins them.
Guarantees: a reader's seq never goes back; an item that is called settled was committed as the high-water mark before.
Does not know the question that a zone is fetched for, nor how a look-up works.
"""
