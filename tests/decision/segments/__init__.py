"""Tests of offers.decision.segments."""
