"""A simulated world: production nodes, overlay, publishers and resolver in virtual time, all drawn from one seed.

`loop` is the event loop whose clock stands still while anything can run, `network` carries the datagrams and loses
some, `memory` outlives a simulated process. Guarantees: nothing leaves the process, and the same seed gives the same
trace. Does not know sockets, disks or the machine's clock.
"""
