"""Tests of offers.server.fronts."""
