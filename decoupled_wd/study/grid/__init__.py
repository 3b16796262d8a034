"""One grid of runs in one compiled program, and the store that keeps it."""
