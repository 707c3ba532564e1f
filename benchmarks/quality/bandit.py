"""Open Bandit: estimates for another policy from a log of random choices, beside the published figures."""

from pathlib import Path

from benchmarks.open_bandit import PUBLISHED, OpenBandit, published_folds, random_to_thompson, thompson_probabilities
from benchmarks.quality.result import Figure, Found

NAME = "open_bandit"
WITHIN = {"ipw": 0.01, "dm": 0.06, "dr": 0.06}
"""Tolerance for other random draws, as a share of the published figures: see tests/whatif."""


def run(folder: Path) -> Found:
    """Evaluate the log in a folder."""
    data = folder / NAME
    log = OpenBandit.read("random", data)
    found = random_to_thompson(log, thompson_probabilities(data), published_folds(len(log.item)))
    figures = []
    for name, published in PUBLISHED.items():
        estimate = getattr(found, name)
        reached = abs(estimate.value - published) <= WITHIN[name] * published
        interval = f"{estimate.low:.6f} to {estimate.high:.6f}"
        figures.append(
            Figure(NAME, f"{name.upper()}, random→bts", f"{estimate.value:.6f}", f"{published:.6f}", reached, interval)
        )
    return Found(figures)
