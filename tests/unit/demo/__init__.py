"""What holds of the room demo, one file a module."""
