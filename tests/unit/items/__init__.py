"""What holds of the room items, one file a module."""
