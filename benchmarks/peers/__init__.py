"""Compares the decision with other systems on the same questions: `python -m benchmarks.peers`."""
