"""Tests of offers.decision.kernels."""
