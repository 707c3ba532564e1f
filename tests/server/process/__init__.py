"""Tests of offers.server.process."""
