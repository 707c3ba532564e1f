"""Measures the service on synthetic catalogues: `python -m benchmarks`."""
