"""Which events are outcomes of an offer, for learning, for what-if and for experiments, and how these differ."""

import math

import pytest

from offers.learning.outcomes import EARNED, EXPERIMENT, LEARNING, OutcomeRules, Reaction, experiment_rules, outcome_of
from offers.learning.values import Sum
from offers.state.stores import LoggedEvent
from offers.v1.event_pb2 import Click, Event, RedemptionEvent
from tests.learning.made_log import NOON, event, logged, order

RULES = (LEARNING, EARNED, EXPERIMENT)
SCALE = Sum("EUR", 50.0)
NAN = pytest.approx(math.nan, nan_ok=True)


def gift() -> LoggedEvent:
    """Return an order for somebody else, of 20 euros."""
    made = Event(event_id="1", attributed_proposition_id="d-1")
    made.order.gift = True
    made.order.total.currency_code, made.order.total.units = "EUR", 20
    return logged(made, NOON)


def rewards(one: LoggedEvent, rules: OutcomeRules) -> dict[str, float]:
    """Return the rewards of an event."""
    outcome = outcome_of(one, rules)
    assert outcome is not None
    return dict(outcome.rewards(rules, SCALE))


def test_an_order_is_a_redemption_to_learning_and_a_reward_of_its_own_to_the_others() -> None:
    """Learning asks whether an offer is taken up, by whichever way; the others report orders by themselves."""
    one = order("1", "d", 1, units=20)
    assert {"redemption": 1.0, "order_value": 0.4} == rewards(one, LEARNING)
    assert {"order": 1.0, "order_value": 0.4} == rewards(one, EARNED)
    assert {"ordered": 1.0} == rewards(one, EXPERIMENT)


def test_a_gift_counts_as_earned_and_says_nothing_about_its_giver() -> None:
    """The reward of a gift is unknown to learning; it is revenue all the same."""
    assert {"redemption": NAN, "order_value": NAN} == rewards(gift(), LEARNING)
    assert {"order": 1.0, "order_value": 0.4} == rewards(gift(), EARNED)
    assert {"ordered": 1.0} == rewards(gift(), EXPERIMENT)


@pytest.mark.parametrize("kind", ["impression", "dismissal", "click", "redemption", "order"])
def test_without_consent_to_learning_only_experiments_count_an_event(kind: str) -> None:
    """To the others it is withheld, whatever its kind."""
    one = event("1", kind, "d", 1, learn=False)
    for rules in (LEARNING, EARNED):
        outcome = outcome_of(one, rules)
        assert outcome is not None
        assert (Reaction.WITHHELD, "d", 0) == (outcome.reaction, outcome.decision_id, outcome.offer_index)
        assert [] == outcome.rewards(rules, SCALE)
    counts = outcome_of(one, EXPERIMENT)
    assert (kind in {"click", "redemption", "order"}) == (counts is not None)


@pytest.mark.parametrize("phase", [RedemptionEvent.PHASE_RESERVE, RedemptionEvent.PHASE_RELEASE])
@pytest.mark.parametrize("learn", [True, False])
def test_only_confirmed_redemptions_are_outcomes(phase: RedemptionEvent.Phase.ValueType, *, learn: bool) -> None:
    """A reserved or released one is none, with consent to learning or without."""
    made = Event(event_id="1", proposition_id="d-1", redemption=RedemptionEvent(phase=phase))
    assert [None] * 3 == [outcome_of(logged(made, NOON, learn=learn), rules) for rules in RULES]


def reversal(name: str, of: str, rank: int, second: int = NOON, confirmed: int = NOON) -> LoggedEvent:
    """Return the reversal of a redemption that was confirmed at a second."""
    made = Event(event_id=name, attributed_proposition_id=f"{of}-{rank}")
    made.redemption.phase = RedemptionEvent.PHASE_REVERSE
    made.redemption.confirm_event_id, made.redemption.confirm_time.seconds = "c", confirmed
    return logged(made, second)


def test_a_reversal_takes_a_reward_back() -> None:
    """It is the reward of its redemption, as 0, at the time of the redemption where that counts."""
    one = reversal("1", "d", 1, second=NOON + 99)
    assert [{"redemption": 0.0}, {"redemption": 0.0}, {"redeemed": 0.0}] == [rewards(one, rules) for rules in RULES]
    found = [outcome_of(one, rules) for rules in RULES]
    assert [(Reaction.REVERSAL, at) for at in (NOON + 99, NOON, NOON)] == [
        (it.reaction, it.second) for it in found if it
    ]
    unknown = Event.FromString(one.body)
    unknown.redemption.ClearField("confirm_time")
    assert [None] * 3 == [outcome_of(logged(unknown, NOON), rules) for rules in RULES]


@pytest.mark.parametrize("kind", ["impression", "dismissal"])
def test_only_learning_reads_exposures(kind: str) -> None:
    """Impressions and dismissals are feedback for learning, and no rewards."""
    found = [outcome_of(event("1", kind, "d", 1), rules) for rules in RULES]
    assert [True, False, False] == [one is not None for one in found]


@pytest.mark.parametrize("name", ["", "d", "-1", "d-one"])
def test_outcomes_belong_to_a_proposition_or_to_the_person(name: str) -> None:
    """An event without a proposition is an outcome for experiments alone: they follow persons."""
    one = logged(Event(event_id="1", proposition_id=name, click=Click()), NOON)
    assert [False, False, True] == [outcome_of(one, rules) is not None for rules in RULES]


def test_learning_goes_by_when_events_were_received_and_the_others_by_when_they_happened() -> None:
    """Learning takes the log in its order; a window is about what persons did."""
    late = event("1", "click", "d", 1)._replace(second=NOON, received=NOON + 60)
    found = [outcome_of(late, rules) for rules in RULES]
    assert [NOON + 60, NOON, NOON] == [one.second for one in found if one]


def test_windows_are_as_long_as_the_server_attributes() -> None:
    """Earned clicks count for a day, and what follows them for seven more; experiments have one window of their own."""
    day = 86_400
    assert (day, 8 * day, 8 * day) == tuple(EARNED.window_s[name] for name in ("click", "redemption", "order_value"))
    assert {8 * day} == set(LEARNING.window_s.values())
    rules = experiment_rules(100)
    assert [False, True, True, False] == [rules.is_in_time("clicked", NOON, NOON + at) for at in (-1, 0, 100, 101)]
    assert [True, True, False] == [EARNED.is_in_time("click", NOON, NOON + at) for at in (-1, day, day + 1)]
