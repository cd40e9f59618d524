"""What holds of the room resolver, one file a module."""
