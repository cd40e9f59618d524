"""A simulated world: production nodes, overlay, publishers and resolver in virtual time, all drawn from one seed.

`loop` is the event loop whose clock stands still while anything can run, `network` carries the datagrams and loses
some, `rules` are kinds of trouble on it, `memory` outlives a simulated process, `engine` is one machine and `world` all
of them, `churn` lets them come and go, `observe` shows what they do to the `checkers`, and `liveness` says what must be
true once all trouble has stopped. Guarantees: nothing leaves the process, and the same seed gives the same trace. Does
not know sockets, disks or the machine's clock.
"""
