"""Tests of offers.catalogue.geo."""
