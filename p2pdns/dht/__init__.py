"""The distributed hash table: a Mainline node (BEP 5, 32, 42, 43, 44) without sockets or clocks."""
