"""Compiled geometry: distances, areas and uncertain locations."""
