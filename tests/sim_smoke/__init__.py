"""Production nodes, overlay, publishers and a resolver's service in a simulated hour: the same seed, the same trace."""
