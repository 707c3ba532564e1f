"""How good decisions are on real data, replayed through the service's own API: `python -m benchmarks.quality`."""
