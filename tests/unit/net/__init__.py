"""What holds of the room net, one file a module."""
