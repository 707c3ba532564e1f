"""Tests of offers.catalogue.hours."""
