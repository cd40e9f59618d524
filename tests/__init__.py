"""The tests: unit, vectors, live on loopback, command-line sessions, and the house rules."""
