"""What holds of the room overlay, one file a module."""
