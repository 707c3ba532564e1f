"""Geometry of catalogues: GeoJSON areas, WGS 84, and areas compiled for decisions."""
