"""Strangers of the same overlay: the Rust crates `mainline` and `pkarr` beside our nodes, both ways, byte for byte.

`src` is a program of those crates that does what it is told, `crates` tells it, `zones` has what our side publishes,
`run` puts networks together, compares, and prints a table. `make strangers` builds and runs it.
"""
