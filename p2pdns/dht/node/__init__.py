"""A node of the DHT as a datagram machine: no socket, no clock, no randomness of its own.

In here: `machine` (the node, from all other parts), `values` (settings, what is wanted, outcomes, events), `core`
(requests in flight, timers), `requests` (one request), `turns` (which look-up may send next), `operations`, `getting`,
`putting` and `storing` (find, get, put), `reply_times` (how long replies take), `server` (strangers' queries),
`challenges` (replies that wait for a proof), `peers` (BEP 5), `nat` (whether strangers can reach us), `identity`
(BEP 42), `bootstrap` (joining, refresh), `bucket_refresh` (of all buckets, after a join) and `republish` (others'
items whose publisher is away).
"""
