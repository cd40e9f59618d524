"""What holds of the room state, one file a module."""
