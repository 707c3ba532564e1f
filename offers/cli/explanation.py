"""What `offers query --explain` prints: why offers are in the answer, or why not."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from offers.v1.offer_service_pb2 import FactorName, FailedCheck, OfferExplanation, ReasonCode


def show(console: Console, explanations: Iterable[OfferExplanation]) -> None:
    """Print each explanation: what became of the offer, then its factors or all that stands against it."""
    for one in explanations:
        console.print(Text.assemble((one.offer_id, "bold"), ": ", _verdict(one)))
        for check in one.failed_checks:
            console.print(Text(f"  - {_code(check)}: {check.detail}"))
        if one.factors:
            factors = (
                f"{FactorName.Name(factor.name).removeprefix('FACTOR_NAME_').lower()} "
                f"{factor.value:.4g}^{factor.weight:g}"
                for factor in one.factors
            )
            console.print(Text(f"  score {one.score:#.3g} = {' x '.join(factors)}"))
        if one.behaviour_rule_ids:
            console.print(Text(f"  lifted by {', '.join(one.behaviour_rule_ids)}"))


def _verdict(one: OfferExplanation) -> str:
    at = f" at {one.place}" if one.place and one.place != "everywhere" else ""
    if one.rank:
        return f"number {one.rank} of the answer{at}"
    if one.eligible:
        return f"qualifies{at}, and is not in the answer"
    checks = len(one.failed_checks)
    return f"does not qualify{at}: {checks} check{'s' * (checks != 1)} failed"


def _code(check: FailedCheck) -> str:
    return ReasonCode.Name(check.reason).removeprefix("REASON_CODE_").lower().replace("_", " ")
