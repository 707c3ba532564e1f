"""Propensity models: features, online logistic regression and boosted trees."""
