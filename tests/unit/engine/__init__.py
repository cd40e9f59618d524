"""What holds of the room engine, one file a module."""
