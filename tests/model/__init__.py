"""Tests of offers.model."""
