"""What a daemon tells and is told while it runs: the control socket, its verbs, and what they say of its state."""
