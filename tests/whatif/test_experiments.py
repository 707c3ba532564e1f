"""Reports on experiments, by numbers worked out by hand."""

from collections.abc import Callable

import pytest
from google.type.money_pb2 import Money

from offers.state.stores import LoggedDecision, LoggedEvent
from offers.v1.catalog_pb2 import Catalog
from offers.v1.event_pb2 import (
    EVENT_KIND_CLICK,
    EVENT_KIND_IMPRESSION,
    EVENT_KIND_ORDER,
    EVENT_KIND_REDEMPTION,
    Click,
    Event,
    EventKind,
    Impression,
    Order,
    RedemptionEvent,
)
from offers.v1.experiment_pb2 import Experiment, Variant
from offers.v1.limits_pb2 import Campaign
from offers.v1.offer_service_pb2 import Exposure, HoldoutExposure
from offers.v1.state_pb2 import DecisionRecord
from offers.whatif.experiments import Compared, ExperimentReport, holdouts_of, reports

WINDOW_S = 100
TRIAL = Experiment(experiment_id="trial", variants=[Variant(variant_id="a"), Variant(variant_id="b")])


def shown(
    person: str, variant: str, second: int = 1_000, catalog: str = "shop", trial: str = "trial"
) -> LoggedDecision:
    """A decision in which a variant had a part."""
    record = DecisionRecord(catalog=catalog, exposures=[Exposure(experiment_id=trial, variant_id=variant)])
    return LoggedDecision("", person, second, record.SerializeToString())


def did(
    person: str, kind: EventKind.ValueType, event: Event, second: int = 1_000, catalog: str = "shop"
) -> LoggedEvent:
    """An event as the log has it."""
    return LoggedEvent("", person, second, second, kind, catalog, "", "", True, event.SerializeToString())  # noqa: FBT003


def click(person: str, second: int = 1_000, catalog: str = "shop") -> LoggedEvent:
    """A click."""
    return did(person, EVENT_KIND_CLICK, Event(click=Click()), second, catalog)


def order(person: str, currency: str = "", units: int = 0, nanos: int = 0) -> LoggedEvent:
    """An order, with what was paid."""
    total = Money(currency_code=currency, units=units, nanos=nanos)
    return did(person, EVENT_KIND_ORDER, Event(order=Order(total=total)))


def redemption(person: str, phase: RedemptionEvent.Phase.ValueType, confirmed: int = 0) -> LoggedEvent:
    """A step of a redemption; a reversal is of one that was confirmed at a second."""
    made = RedemptionEvent(phase=phase)
    if confirmed:
        made.confirm_time.seconds = confirmed
    return did(person, EVENT_KIND_REDEMPTION, Event(redemption=made))


def made(
    decisions: list[LoggedDecision],
    events: list[LoggedEvent],
    trial: Experiment = TRIAL,
    same: Callable[[str], str] = str,
) -> ExperimentReport:
    """The report on one experiment."""
    (report,) = reports(Compared("shop", [trial]), decisions, events, window_s=WINDOW_S, same=same)
    return report


def clicked(report: ExperimentReport) -> list[int]:
    """How many clicked, by variant."""
    return [variant.rates["clicked"].persons for variant in report.variants]


def test_shares_are_of_persons_not_of_events() -> None:
    """48 of 80 and 56 of 70 who click, some of them often, have the intervals and the uplift of Newcombe's example."""
    people = {"a": [f"u:a{n}" for n in range(80)], "b": [f"u:b{n}" for n in range(70)]}
    decisions = [shown(person, variant) for variant, persons in people.items() for person in persons * 2]
    events = [click(person) for person in people["a"][:48] * 3 + people["b"][:56]]

    a, b = made(decisions, events).variants

    assert (80, 160, 70, 140) == (a.persons, a.decisions, b.persons, b.decisions)
    assert (48, 56) == (a.rates["clicked"].persons, b.rates["clicked"].persons)
    assert (0.6, 0.4905, 0.7004) == pytest.approx(a.rates["clicked"].share, abs=5e-5)
    assert a.rates["clicked"].uplift is None
    assert (0.2, 0.0524, 0.3339) == pytest.approx(b.rates["clicked"].uplift, abs=5e-5)
    assert (0.0, 0.0, 0.0458) == pytest.approx(a.rates["ordered"].share, abs=5e-5)


def test_the_window_begins_with_the_first_exposure_and_includes_its_end() -> None:
    """Events a second before the first exposure, or a second after the window, do not count."""
    people = ["u:early", "u:at-once", "u:last", "u:late"]
    decisions = [shown(person, "a", second) for second in (1_050, 1_000) for person in people]
    seconds = (999, 1_000, 1_000 + WINDOW_S, 1_001 + WINDOW_S)
    for person, second, expected in zip(people, seconds, (0, 1, 1, 0), strict=True):
        assert [expected, 0] == clicked(made(decisions, [click(person, second)]))


def test_who_crossed_counts_for_the_earliest_variant_alone() -> None:
    """The first exposure decides by its time, wherever it stands in the log, and of a tie the one that stands first."""
    decisions = [
        *(shown("u:crossed", "b", 1_010), shown("u:crossed", "a", 1_005), shown("u:crossed", "b", 1_020)),
        *(shown("u:tie", "b"), shown("u:tie", "a")),
        shown("u:true", "b"),
    ]

    report = made(decisions, [click("u:crossed", 1_006), click("u:tie")])

    assert [(1, 1), (2, 1)] == [(variant.persons, variant.crossed) for variant in report.variants]
    assert [2, 4] == [variant.decisions for variant in report.variants]
    assert [1, 1] == clicked(report)


def test_a_visitor_who_signs_in_is_one_person() -> None:
    """Exposures and events under any of a person's ids are the person's."""
    user = {"a:visitor": "u:alice"}

    decisions = [shown("a:visitor", "b"), shown("u:alice", "b", 1_050)]
    for event in (click("u:alice", 1_060), click("a:visitor", 1_010)):
        report = made(decisions, [event], same=lambda person: user.get(person, person))

        assert (1, 2) == (report.variants[1].persons, report.variants[1].decisions)
        assert [0, 1] == clicked(report)


def test_only_confirmed_redemptions_count() -> None:
    """A redemption that is reserved or released is none."""
    decisions = [shown(f"u:{name}", "a") for name in ("reserves", "confirms", "releases")]
    events = [
        redemption("u:reserves", RedemptionEvent.PHASE_RESERVE),
        redemption("u:confirms", RedemptionEvent.PHASE_CONFIRM),
        redemption("u:releases", RedemptionEvent.PHASE_RELEASE),
    ]
    for number, expected in enumerate((0, 1, 0)):
        assert expected == made(decisions, [events[number]]).variants[0].rates["redeemed"].persons


def test_redemptions_that_were_reversed_do_not_count() -> None:
    """A person has redeemed who confirmed more often than was reversed; only what was in time is taken back."""
    confirm, reverse = RedemptionEvent.PHASE_CONFIRM, RedemptionEvent.PHASE_REVERSE
    people = {
        "u:undone": [redemption("u:undone", confirm), redemption("u:undone", reverse, 1_000)],
        "u:once": [redemption("u:once", confirm)] * 2 + [redemption("u:once", reverse, 1_000)],
        "u:before": [redemption("u:before", confirm), redemption("u:before", reverse, 900)],
    }
    report = made([shown(person, "a") for person in people], [one for events in people.values() for one in events])
    assert 2 == report.variants[0].rates["redeemed"].persons


def test_order_values_add_up_by_person_and_currency() -> None:
    """Means are over all who were exposed; each currency has its own; an order that names no sum is an order."""
    decisions = [*(shown(f"u:a{n}", "a") for n in range(4)), shown("u:b", "b")]
    events = [
        *(order("u:a0", "EUR", 9, 500_000_000), order("u:a0", "EUR", 0, 500_000_000), order("u:a1", "EUR", 20)),
        *(order("u:a2", "CHF", 8), order("u:a3")),
    ]

    a, b = made(decisions, events).variants

    assert 4 == a.rates["ordered"].persons
    assert ["CHF", "EUR"] == list(a.order_value)
    assert (7.5, 7.5 - 15.2348, 7.5 + 15.2348) == pytest.approx(a.order_value["EUR"], abs=5e-5)
    assert (2.0, -4.3649, 8.3649) == pytest.approx(a.order_value["CHF"], abs=5e-4)
    assert {"CHF": None, "EUR": None} == b.order_value


def test_every_variant_is_compared_with_the_first() -> None:
    """If 0, 1 and 2 of 2 click, the third variant is 100 points over the first, not 50 over the second."""
    trial = Experiment(experiment_id="trial", variants=[Variant(variant_id=name) for name in "abc"])
    decisions = [shown(f"u:{name}{number}", name) for name in "abc" for number in range(2)]

    rates = [
        one.rates["clicked"] for one in made(decisions, [click(f"u:{n}") for n in ("b0", "c0", "c1")], trial).variants
    ]

    assert [None, 0.5, 1.0] == [rate.uplift and rate.uplift.value for rate in rates]


def test_decisions_of_nobody_are_counted_apart() -> None:
    """A decision without a person is in no rate, and events of nobody are nobody's."""
    report = made([shown("", "a"), shown("", "a"), shown("u:known", "a")], [click("")])

    assert [(1, 1, 2), (0, 0, 0)] == [(one.persons, one.decisions, one.nameless) for one in report.variants]
    assert [0, 0] == clicked(report)


def test_a_variant_nobody_saw_has_no_rates() -> None:
    """Without persons there is neither a share nor an uplift, also where the first variant has none."""
    for seen in ("a", "b"):
        rates = {one.variant: one.rates["clicked"] for one in made([shown("u:x", seen)], []).variants}
        assert {seen} == {variant for variant, rate in rates.items() if rate.share}
        assert (None, None) == (rates["a"].uplift, rates["b"].uplift)


def test_other_catalogues_experiments_and_variants_are_left_out() -> None:
    """A catalogue's report is of its own log; events that name no catalogue count; removed variants are told."""
    decisions = [
        *(shown("u:x", "a"), shown("u:y", "a"), shown("u:z", "a")),
        *(shown("u:w", "a", catalog="other"), shown("u:v", "a", trial="other"), shown("u:u", "gone")),
    ]
    events = [click("u:x"), click("u:y", catalog="other"), click("u:z", catalog=""), click("u:w")]
    impression = did("u:y", EVENT_KIND_IMPRESSION, Event(impression=Impression()))

    report = made(decisions, [*events, impression])

    assert ([3, 0], [2, 0], 1) == ([one.persons for one in report.variants], clicked(report), report.unknown)


def test_several_experiments_are_reported_in_order() -> None:
    """One person may be in several, each with a window of its own."""
    other = Experiment(experiment_id="other", variants=TRIAL.variants)
    decisions = [shown("u:x", "a", 1_000), shown("u:x", "b", 1_100, trial="other")]

    found = reports(Compared("shop", [TRIAL, other]), decisions, [click("u:x", 1_150)], window_s=WINDOW_S, same=str)

    assert [("trial", [0, 0]), ("other", [0, 1])] == [(one.experiment, clicked(one)) for one in found]


@pytest.mark.parametrize(("b", "p", "is_off"), [(60, 0.0016, False), (55, 0.00030, True), (110, 0.4855, False)])
def test_a_mismatch_is_one_in_a_thousand(b: int, p: float, is_off: bool) -> None:  # noqa: FBT001
    """Beside 100 persons of `a`, those of `b` are held against equal weights; 55 are too few, 60 might be chance."""
    decisions = [shown(f"u:a{n}", "a") for n in range(100)] + [shown(f"u:b{n}", "b") for n in range(b)]

    report = made(decisions, [])

    assert p == pytest.approx(report.mismatch_p, rel=0.05)
    assert is_off == report.mismatch


def test_weights_are_those_of_the_catalogue() -> None:
    """100 to 50 persons are as weights of 2 and 1 say; a weight that is not given is 1."""
    decisions = [shown(f"u:a{n}", "a") for n in range(100)] + [shown(f"u:b{n}", "b") for n in range(50)]
    weighted = Experiment(experiment_id="trial", variants=[Variant(variant_id="a", weight=2), Variant(variant_id="b")])

    report = made(decisions, [], weighted)

    assert (1.0, False, [2.0, 1.0]) == (report.mismatch_p, report.mismatch, [one.weight for one in report.variants])


def test_a_holdout_is_reported_like_an_experiment() -> None:
    """Held out persons are compared with the others by their share; each campaign by itself, and the catalogue."""

    def met(person: str, *holdouts: tuple[str, bool]) -> LoggedDecision:
        told = [HoldoutExposure(campaign_id=name, held_out=held_out) for name, held_out in holdouts]
        record = DecisionRecord(catalog="shop", holdouts=told)
        return LoggedDecision("", person, 1_000, record.SerializeToString())

    decisions = [
        *(met(f"u:out{n}", ("", True)) for n in range(20)),
        *(met(f"u:in{n}", ("", False), ("spring", n % 4 == 0)) for n in range(80)),
    ]
    holdouts = holdouts_of(
        Catalog(holdout=0.2), [Campaign(campaign_id="spring", holdout=0.25), Campaign(campaign_id="no")]
    )
    events = [order(f"u:in{n}", "EUR", 10) for n in range(40)]
    whole, spring = reports(Compared("shop", [TRIAL], holdouts), decisions, events, window_s=WINDOW_S, same=str)[1:]

    for report, name, sizes, ordered in ((whole, "", [20, 80], [0, 40]), (spring, "spring", [20, 60], [10, 30])):
        assert ("holdout", name, False) == (report.kind, report.experiment, report.mismatch)
        assert sizes == [one.persons for one in report.variants]
        assert ordered == [one.rates["ordered"].persons for one in report.variants]
    assert [0.2, 0.8] == [one.weight for one in whole.variants]
    uplift = whole.variants[1].order_value_uplift["EUR"]
    assert uplift is not None
    assert (5.0, True) == (uplift.value, 0 < uplift.low < 5 < uplift.high)
    assert whole.variants[0].order_value_uplift["EUR"] is None


def test_decisions_may_be_left_out_by_segment() -> None:
    """Those outside of it do not count, and those of which the log does not say are told."""
    said = {"u:in": True, "u:out": False, "u:unsaid": None}
    decisions = [shown(person, "a") for person in said]
    compared = Compared("shop", [TRIAL], is_in=lambda decision: said[decision.person])
    (report,) = reports(compared, decisions, [], window_s=WINDOW_S, same=str)
    assert (1, 0, 1) == (report.variants[0].persons, report.variants[1].persons, report.unsaid)
