"""The printed form of explanations, for `offers query --explain`."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from offers.cli.words import code_words, factor_name
from offers.v1.offer_service_pb2 import OfferExplanation


def show(console: Console, explanations: Iterable[OfferExplanation]) -> None:
    """Print each explanation: the verdict on the offer, then its failed checks or the factors of its score."""
    for one in explanations:
        console.print(Text.assemble((one.offer_id, "bold"), ": ", _verdict(one)))
        for check in one.failed_checks:
            console.print(Text(f"  - {code_words(check.reason)}: {check.detail}"))
        if one.factors:
            factors = (f"{factor_name(factor)} {factor.value:.4g}^{factor.weight:g}" for factor in one.factors)
            console.print(Text(f"  score {one.score:#.3g} = {' x '.join(factors)}"))
        if one.behaviour_rule_ids:
            console.print(Text(f"  lifted by {', '.join(one.behaviour_rule_ids)}"))


def _verdict(one: OfferExplanation) -> str:
    """Word the verdict on an offer."""
    at = f" at {one.place}" if one.place and one.place != "everywhere" else ""
    if one.rank:
        return f"number {one.rank} of the answer{at}"
    if one.eligible:
        return f"qualifies{at}, and is not in the answer"
    checks = len(one.failed_checks)
    return f"does not qualify{at}: {checks} check{'s' * (checks != 1)} failed"
