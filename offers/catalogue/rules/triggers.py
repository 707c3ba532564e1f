"""Rules for triggers, each taken by itself."""

from offers.catalogue.document.nodes import Path
from offers.catalogue.rules.faults import Fault, Faults
from offers.catalogue.rules.values import check_duration, check_enum, check_id, check_length, check_money
from offers.v1.trigger_pb2 import AbandonedBasket, Lapsing, Trigger

MAX_TRIGGERS = 32
_MAX_DAYS = 400
_MONTH_DAYS = 30
_MINUTE_S, _HOUR_S = 60, 3_600


def check_trigger(trigger: Trigger, faults: Faults) -> None:
    """Check a trigger, except for the ids it names."""
    check_id(trigger.trigger_id, ("trigger_id",), faults)
    check_length(trigger.title, 200, ("title",), faults)
    match trigger.WhichOneof("condition"):
        case "abandoned_basket":
            _check_basket(trigger.abandoned_basket, ("abandoned_basket",), faults)
        case "lapsing":
            _check_lapsing(trigger.lapsing, ("lapsing",), faults)
        case _:
            fix = "write what must have happened: one of abandoned_basket and lapsing"
            faults.append(Fault((), "has no condition", fix))
    if not trigger.placement_id:
        faults.append(Fault(("placement_id",), "missing", "write the placement that decides which offer is sent"))
    check_duration(trigger.cool_down, ("cool_down",), faults, days=_MAX_DAYS)
    if trigger.HasField("within"):
        check_duration(trigger.within, ("within",), faults, least=_MINUTE_S, days=_MONTH_DAYS)


def _check_basket(basket: AbandonedBasket, path: Path, faults: Faults) -> None:
    if basket.HasField("idle"):
        check_duration(basket.idle, (*path, "idle"), faults, least=_MINUTE_S, days=_MONTH_DAYS)
    if basket.HasField("minimum_value"):
        check_money(basket.minimum_value, (*path, "minimum_value"), faults, over_zero=True)


def _check_lapsing(lapsing: Lapsing, path: Path, faults: Faults) -> None:
    if lapsing.HasField("after"):
        check_duration(lapsing.after, (*path, "after"), faults, least=_HOUR_S, days=_MAX_DAYS)
    else:
        faults.append(Fault((*path, "after"), "missing", "write for how long, such as 2592000s for 30 days"))
    check_enum(lapsing.since, Lapsing.Since, (*path, "since"), faults)
