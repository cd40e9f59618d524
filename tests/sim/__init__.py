"""Whole histories of simulated worlds, by seed: those that once failed, and twenty more."""
