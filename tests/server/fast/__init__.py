"""Tests of offers.server.fast."""
