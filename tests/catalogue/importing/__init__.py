"""Tests of offers.catalogue.importing."""
