"""The specification of a decision in plain Python, and the explainer built on it.

Production code: ExplainOffers and `offers query --map` run it. Tests hold the compiled loops equal to it.
"""
