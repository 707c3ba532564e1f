"""Compiled stages that ask models: features, propensity, recommendation and exploration."""
