"""Asks the same questions of what one would otherwise run, and of the decision: `python -m benchmarks.peers`."""
