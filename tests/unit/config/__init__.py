"""What holds of the room config, one file a module."""
