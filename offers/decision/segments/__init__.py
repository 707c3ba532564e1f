"""Segments: their evaluation with CEL, their compiled form, and explained membership."""
