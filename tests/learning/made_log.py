"""Logs of decisions and of what came of them, by a known rule."""

import random
from collections.abc import Mapping, Sequence

from offers.learning.values import CatalogueFacts, Sum
from offers.model.keys import key_of
from offers.state.stores import EventLog, LoggedDecision, LoggedEvent
from offers.v1.event_pb2 import Event, EventKind, RedemptionEvent
from offers.v1.state_pb2 import DecisionRecord

NOON = 1_795_000_000
CATEGORIES = ("food", "ride", "books", "coffee", "shoes")
SHOWN = ("o1", "o2", "o3")


def values_of(catalog: str, offer: str) -> Mapping[str, object]:
    """Return the attributes of the offers o0 to o99; none for others."""
    number = int(offer[1:])
    return {"category": CATEGORIES[number % 5], "brand": f"b{number % 7}"} if catalog and number < 100 else {}


OFFERS = CatalogueFacts((), values_of, {"corner": "Europe/Paris"})
SCALED = OFFERS._replace(scales={"corner": Sum("EUR", 50.0)})
"""The same, where orders are measured."""


def decision(
    name: str, second: int = NOON, offers: Sequence[str] = SHOWN, person: str = "u:ada", **told: object
) -> LoggedDecision:
    """Return a decision; `told` has more fields of its record."""
    fields: dict[str, object] = {"catalog": "corner", "placement": "home", "channel": "app", "learn": True, **told}
    fields.setdefault("draw", key_of("person", "", person) if person and fields["learn"] else 0)
    record = DecisionRecord(offer_ids=offers, log_scores=[-1.0] * len(offers), **fields)  # type: ignore[arg-type]
    return LoggedDecision(name, person, second, record.SerializeToString())


def event(name: str, kind: str, of: str, rank: int, second: int = NOON, *, learn: bool = True) -> LoggedEvent:
    """Return an outcome of an offer of a decision, by its field of Event."""
    made = Event(event_id=name)
    getattr(made, kind).SetInParent()
    if kind == "redemption":
        made.redemption.phase = RedemptionEvent.PHASE_CONFIRM
    if kind == "order":
        made.attributed_proposition_id = f"{of}-{rank}"
    else:
        made.proposition_id = f"{of}-{rank}"
    return logged(made, second, learn=learn)


def order(
    name: str, of: str, rank: int, second: int = NOON, *, units: int = 0, nanos: int = 0, currency: str = "EUR"
) -> LoggedEvent:
    """Return an order that is attributed to an offer of a decision, with its total."""
    made = Event(event_id=name, attributed_proposition_id=f"{of}-{rank}")
    total = made.order.total
    total.currency_code, total.units, total.nanos = currency, units, nanos
    return logged(made, second)


def logged(made: Event, second: int, *, learn: bool = True) -> LoggedEvent:
    """Return an event as the log has it."""
    kind = EventKind.Value(f"EVENT_KIND_{(made.WhichOneof('kind') or '').upper()}")
    body = made.SerializeToString()
    return LoggedEvent(made.event_id, "u:ada", second, second, kind, "corner", "", "", learn, body)


def happenings(
    count: int, seed: int = 1, first: int = 0, *, flipped: bool = False
) -> tuple[list[LoggedDecision], list[LoggedEvent]]:
    """Return decisions, one a second, and their events: when it rains coffee is clicked, else never.

    `flipped`: the other way round. One click in three leads to an order after ten minutes, of 10 to 50 euros by the
    offer's category.
    """
    choose = random.Random(f"{seed}.{first}")
    decisions, events = [], []
    for number in range(first, first + count):
        second = NOON + number
        rain = choose.random() < 0.5
        offers = [f"o{one}" for one in choose.sample(range(100), 4)]
        made = decision(f"{number:032x}", second, offers, f"u:{choose.randrange(50)}", time=second)
        told = made.told()
        told.context_attributes["weather"] = "rain" if rain else "sun"
        told.profile_attributes["age"] = choose.randrange(20, 60)
        decisions.append(made._replace(record=told.SerializeToString()))
        for rank, offer in enumerate(offers, 1):
            name = f"{number}-{rank}"
            events.append(event(f"i{name}", "impression", made.decision_id, rank, second + 1))
            likely = (rain and values_of("corner", offer)["category"] == "coffee") != flipped
            if choose.random() < (0.8 if likely else 0.05):
                events.append(event(f"c{name}", "click", made.decision_id, rank, second + 20))
                if choose.random() < 1 / 3:
                    euros = 10 * (1 + int(offer[1:]) % 5)
                    events.append(order(f"r{name}", made.decision_id, rank, second + 600, units=euros))
    return decisions, sorted(events, key=lambda one: one.received)


def at_its_end() -> float:
    """Return a clock of learners that never passes the latest entry of the log."""
    return 0.0


def write(log: EventLog, decisions: Sequence[LoggedDecision], events: Sequence[LoggedEvent]) -> None:
    """Add to a log."""
    log.record(decisions)
    log.append(events)
