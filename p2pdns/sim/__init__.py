"""A simulated world: production nodes, overlay, publishers and resolver in virtual time, all drawn from one seed.

`loop` is the event loop whose clock stands still while anything can run, `network` carries the datagrams and loses
some, `rules` are kinds of trouble on it, `memory` outlives a simulated process, `engine` is one machine and `world` all
of them, `churn` lets them come and go. `behaviours` makes machines lie, `attackers` surrounds keys with nodes at the
addresses of `places`, and `stranger` writes single messages by hand. `observe` shows what machines do to the
`checkers`, `looks` compares them from one look to the next, and `liveness` has the conditions that hold once all
trouble has stopped. `scenarios` has the courses of events, `report` their results; `figure` draws these, with the way
of a look-up from `hops`. `trace` hashes all events, `chance` draws for a machine, and `intervals` says how sure a share
is. Guarantees: nothing leaves the process, and the same seed gives the same trace. Does not know sockets, disks or the
machine's clock.
"""
