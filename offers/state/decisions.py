"""How a log keeps the parts of a decision that it does not look for."""

import orjson

from offers.state.stores import LoggedDecision, Person


def body_of(decision: LoggedDecision) -> bytes:
    """All but id, person and time."""
    return orjson.dumps(decision[3:])


def decision_of(decision_id: str, person: Person, second: int, body: bytes) -> LoggedDecision:
    """The decision."""
    catalog, version, placement, channel, exposures, offer_ids, scores = orjson.loads(body)
    shown = tuple((experiment, variant) for experiment, variant in exposures)
    return LoggedDecision(
        decision_id, person, second, catalog, version, placement, channel, shown, tuple(offer_ids), tuple(scores)
    )
