"""Tests of offers.state.person."""
