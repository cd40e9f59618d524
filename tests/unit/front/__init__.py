"""What holds of the room front, one file a module."""
