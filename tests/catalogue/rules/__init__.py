"""Tests of offers.catalogue.rules."""
