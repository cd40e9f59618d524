"""What holds of the room publishing, one file a module."""
