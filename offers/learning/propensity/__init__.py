"""Propensity models: the probability that a person takes up an offer.

features, rows    attributes as keys and numbers, and the rows of decisions and offers
examples          settled outcomes, given to the models that learn online
regression        the online model
rehearsal         its latest examples, learned again, mixed (delays: how late rewards come)
tree_training     trees: grown from the whole log, judged, and kept (trees: growing and evaluating them)
"""
