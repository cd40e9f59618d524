"""What this node publishes: how it is put at the others' pace, and how it stays published."""
