"""Tests of offers.cli."""
