"""Tests of offers.decision.reference."""
