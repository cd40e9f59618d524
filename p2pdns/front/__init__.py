"""The client side of the daemon: bytes only, no DNS library."""
