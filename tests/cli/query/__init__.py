"""Tests of offers.cli.query."""
