"""Tests of offers.catalogue.compile."""
