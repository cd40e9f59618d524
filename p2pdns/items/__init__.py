"""Keys, signed items, and the packing of zones into items."""
