"""The quality of decisions on real data, replayed through the service's own API: `python -m benchmarks.quality`."""
