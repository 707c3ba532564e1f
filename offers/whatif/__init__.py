"""Logged decisions, decided again with another strategy or catalogue, and reports on experiments.

logged_outcomes    decisions of the log with the outcomes of their offers
replay             decides them again
evaluation         estimates what a strategy would have earned (off_policy: the estimators)
simulation         compares two catalogues: offers, budgets, segments (fairness: the tables)
expected_rewards   expected rewards of any offer there (reward_model: cross-fitting; slates: several offers at a time)
experiments        compares the variants of experiments (statistics: the intervals)
"""
