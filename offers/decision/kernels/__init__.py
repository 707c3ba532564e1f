"""The compiled stages of a decision, in the order in which a request passes through them.

    decide      the sequence: `begin` and `go_on`, which say what they need as a Need (need.py)
    retrieve    entries within reach of the location, by the grid
    screen      those that may be shown here and now; places/ says whether the person is inside, showing.py whether
                windows and hours allow them
    person/     meet: segments, variants and counters of the person; judge: segments; behave: behaviour rules
    models/     sense: attributes of request and person; foresee: propensity and recommendation; explore: variation of
                propensities; select: selection probabilities; learned, sound: a published model in arrays
    admit       those that may be shown to this person: audiences, caps, policies, budgets
    score       how good they are; order.py compares two
    arrange     the answer, as layout.py allows; standing.py lists the offers shown everywhere for it
    log         the record of the decision
    hours       states of all schedules at an instant, worked out once per minute
    memory/     records, scratch arrays, frames, and encoded messages

Most stages have a twin in offers/decision/reference, written to be read: it is the specification, and it explains
decisions. Tests in tests/decision/kernels hold both equal.
"""
