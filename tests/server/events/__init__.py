"""Tests of offers.server.events."""
