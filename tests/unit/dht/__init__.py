"""What holds of the room dht, one file a module."""
