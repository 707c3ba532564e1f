"""Validation rules of catalogue documents, one file per part of the schema."""
