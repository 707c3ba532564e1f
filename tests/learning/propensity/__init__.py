"""Tests of offers.learning.propensity."""
