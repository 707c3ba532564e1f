"""Tests of what is learned from events."""
