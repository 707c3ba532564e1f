"""Tests of offers.learning.recommend."""
