"""The control of a running daemon: its socket, the verbs, and the problems that they report."""
