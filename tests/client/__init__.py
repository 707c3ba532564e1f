"""Tests of offers.client."""
