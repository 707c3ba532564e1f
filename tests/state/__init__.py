"""Tests of what is kept of persons."""
