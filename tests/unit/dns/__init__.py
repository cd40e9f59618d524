"""What holds of the room dns, one file a module."""
