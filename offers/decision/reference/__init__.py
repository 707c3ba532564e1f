"""The specification of a decision in plain Python. Production code: ExplainOffers runs it."""
