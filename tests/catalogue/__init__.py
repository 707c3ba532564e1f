"""Tests of offers.catalogue."""
