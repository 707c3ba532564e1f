"""Recommendation: the probability of each item to be what a person takes up next, learned from visits.

visit_training    visits of the log → recommender: learns from each
habit, popularity, cooccurrence    the three parts of the model, in the bounded tables of slots
scores            puts them together in a decision; reference is its specification in plain Python
"""
