"""What is signed: keys, items and the packing of zones into them."""
