"""What holds of the room cli, one file a module."""
