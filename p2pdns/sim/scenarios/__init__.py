"""What can happen in a simulated world: one module a scenario."""
