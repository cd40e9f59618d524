"""Zones by their ids: one look-up a zone however many ask, the first valid item at once, the settled one later.

`ports` says what the overlay needs of the DHT and of the reader's state, `parts` which items make a zone, `entries`
what is known of a zone and who waits for a look-up, `marks` what may be shown; `finder` joins them. Guarantees: a
reader's seq never goes back; what is called settled was committed as the high-water mark before. Does not know what is
asked of a zone, nor how a look-up works.
"""
