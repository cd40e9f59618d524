"""What holds of the room signer, one file a module."""
