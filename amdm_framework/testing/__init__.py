"""The contract kit: tests that every provider and strategy must pass, for authors of plugins. Needs pytest."""
