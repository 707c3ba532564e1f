"""Tests of offers.state."""
