"""The overlay side of the daemon: resolver, items, DHT, upstream, state, control."""
