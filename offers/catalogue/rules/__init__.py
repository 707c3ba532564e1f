"""Validation rules of a catalogue document, one file per part of the schema."""
