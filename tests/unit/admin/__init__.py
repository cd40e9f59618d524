"""What holds of the room admin, one file a module."""
