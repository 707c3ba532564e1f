"""Behaviour rules, one by one: when they hold, what they lift, until when, and what the answer says of it."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from offers.decision.kernels.memory.encoded import hash_of
from offers.model.hashing import text_hash
from offers.server.explain_service import ExplainService
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import PersonReader
from offers.state.person.apply import Happened, apply
from offers.state.sqlite.file import Database
from offers.state.sqlite.state import SqliteState
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_PROFILING,
    ConsentGrants,
    Context,
    Session,
    User,
)
from offers.v1.event_pb2 import Event
from offers.v1.offer_service_pb2 import (
    FACTOR_NAME_BEHAVIOUR,
    REASON_CODE_BEHAVIOUR,
    VIEW_FULL,
    ExplainOffersRequest,
    ExplainOffersResponse,
    GetOffersRequest,
    GetOffersResponse,
    OfferExplanation,
    Proposition,
)
from tests.decision.kernels.test_kernels_equal_reference import engine_of

NOW = 1_795_345_200
BOTH = ConsentGrants(purposes=[CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING])
LEFT = {"rule_id": "left", "basket": {"idle": "1800s", "within": "7200s"}, "lift": 4}


class Shop:
    """A service over offers of three categories, for everywhere, and one person."""

    def __init__(self, live: Live, state: SqliteState) -> None:
        people = PersonReader(state, frozenset())
        self._service = OfferService(live, lambda: NOW, people)
        self._explaining = ExplainService(live, lambda: NOW, people)
        self._state, self._events = state, 0

    def happened(self, *events: Mapping[str, Any]) -> None:
        """Apply events to the person's state."""
        happened = []
        for fields in events:
            self._events += 1
            happened.append(Happened(ParseDict(dict(fields), Event(event_id=str(self._events))), None))
        self._state.change([("u:ann", lambda record, erased: apply(record, happened, erased))])

    def ask(
        self, time: int = NOW, session: Session | None = None, consent: ConsentGrants = BOTH, *, full: bool = True
    ) -> GetOffersResponse:
        """Return the answer, which is the same on both ways."""
        user = User(user_id="ann", consent=consent)
        request = GetOffersRequest(context=Context(time=Timestamp(seconds=time), user=user, session=session))
        request.request_id, request.view = "r", VIEW_FULL if full else request.view
        data = request.SerializeToString()
        request.context.attributes.update({"not": "usual"})
        step_by_step = self._service.get_offers(request.SerializeToString())
        assert step_by_step == self._service.get_offers(data) == self._service.get_offers(data)
        return GetOffersResponse.FromString(step_by_step)

    def explain(self, session: Session) -> dict[str, OfferExplanation]:
        """Return the explanation of each offer."""
        context = Context(time=Timestamp(seconds=NOW), user=User(user_id="ann", consent=BOTH), session=session)
        asked = ExplainOffersRequest(request=GetOffersRequest(context=context))
        told = self._explaining.explain_offers(asked.SerializeToString())
        return {one.offer_id: one for one in ExplainOffersResponse.FromString(told).explanations}

    def factors(self, time: int = NOW, session: Session | None = None, **more: Any) -> dict[str, float]:  # noqa: ANN401
        """Return each offer's behaviour factor."""
        return {offer.offer_id: factor_of(offer) for offer in self.ask(time, session, **more).offers}


def factor_of(offer: Proposition) -> float:
    """Return the behaviour factor of an offer in an answer."""
    (factor,) = (one for one in offer.factors if one.name == FACTOR_NAME_BEHAVIOUR)
    assert math.isclose(factor.log_contribution, factor.weight * math.log(factor.value), abs_tol=1e-12)
    return round(factor.value, 9)


@contextmanager
def shop(*rules: Mapping[str, Any], **more: Any) -> Iterator[Shop]:  # noqa: ANN401 - of a catalogue
    """Serve three offers with behaviour rules."""
    offers = [
        {"offer_id": "sushi", "category": "sushi", "brand": "Maki", "value": 0.4},
        {"offer_id": "pizza", "category": "pizza", "campaign_id": "spring", "value": 0.5},
        {"offer_id": "plain", "value": 0.6},
    ]
    common = {"title": "An offer", "benefit": {"percent_off": 10}, "target": {"everywhere": True}}
    document = {
        "catalog_id": "shop",
        "campaigns": [{"campaign_id": "spring"}],
        "segments": [{"segment_id": "pushed", "expression": "session.entry_channel == 'push'"}],
        "default_ranking_strategy_id": "s",
        "ranking_strategies": [{"ranking_strategy_id": "s", "behaviour_rules": rules}],
        "offers": [common | one for one in offers],
    }
    with TemporaryDirectory() as folder, engine_of(ParseDict(document | more, Catalog())) as engine:
        database = Database(Path(folder, "state.db"))
        state = SqliteState(database)
        yield Shop(Live([engine]), state)
        database.close()


def seconds(second: int) -> dict[str, str]:
    """Return the time of an event as a Timestamp."""
    return {"event_time": f"{Timestamp(seconds=second).ToJsonString()}"}


def added(category: str, second: int, product_id: str = "p") -> dict[str, Any]:
    """Return an event by which something was put into the basket."""
    return {**seconds(second), "add_to_cart": {"items": [{"product_id": product_id, "category": category}]}}


def removed(category: str, second: int, product_id: str = "p") -> dict[str, Any]:
    """Return an event by which something was taken out of the basket."""
    return {**seconds(second), "remove_from_cart": {"items": [{"product_id": product_id, "category": category}]}}


def in_basket(category: str, second: int | None = None) -> Session:
    """Return a session with something in the basket."""
    session = Session()
    session.basket.items.add(category=category)
    if second is not None:
        session.basket.update_time.seconds = second
    return session


NONE = {"sushi": 1.0, "pizza": 1.0, "plain": 1.0}
SUSHI = {"sushi": 1.0, "pizza": 0.25, "plain": 0.25}
PIZZA = {"sushi": 0.25, "pizza": 1.0, "plain": 0.25}


def test_an_abandoned_basket_lifts_its_category_from_one_instant_to_another() -> None:
    """After its idle time the basket of events counts, until `within`; answers hold up to these instants, and no
    longer.
    """  # noqa: D205
    with shop(LEFT) as one:
        one.happened(added("sushi", NOW))
        assert (NONE, NOW + 1800) == (one.factors(NOW), one.ask(NOW).refresh_after.seconds)
        assert (NONE, NOW + 1800) == (one.factors(NOW + 1799), one.ask(NOW + 1799).refresh_after.seconds)
        assert (SUSHI, NOW + 7200) == (one.factors(NOW + 1800), one.ask(NOW + 1800).refresh_after.seconds)
        assert ["sushi", "plain", "pizza"] == [offer.offer_id for offer in one.ask(NOW + 1800).offers]
        assert SUSHI == one.factors(NOW + 7199)
        assert NONE == one.factors(NOW + 7200)


def test_what_is_taken_out_or_ordered_is_not_in_the_basket() -> None:
    """The categories are those of what is left in the basket; an order empties it."""
    with shop(LEFT) as one:
        one.happened(added("sushi", NOW - 3), added("pizza", NOW - 2, "q"), removed("sushi", NOW))
        assert PIZZA == one.factors(NOW + 1800)
        one.happened({**seconds(NOW + 5), "order": {}})
        assert NONE == one.factors(NOW + 1805)


def test_a_changed_basket_is_not_abandoned() -> None:
    """The idle time begins anew with every change, removals included."""
    with shop(LEFT) as one:
        one.happened(added("sushi", NOW - 5000), added("pizza", NOW - 4000, "q"), removed("pizza", NOW, "q"))
        assert NONE == one.factors(NOW + 1799)
        assert SUSHI == one.factors(NOW + 1800)


def test_the_basket_of_the_session_goes_before_that_of_events() -> None:
    """The session's basket outweighs that of events; without an instant it changed just now; fast clocks do no harm."""
    with shop(LEFT, {"rule_id": "any", "basket": {}, "lift": 4}) as one:
        one.happened(added("pizza", NOW - 3600))
        both = {"sushi": 1.0, "pizza": 1 / 16, "plain": 1 / 16}
        assert both == one.factors(NOW, in_basket("sushi", NOW - 1800))
        assert SUSHI == one.factors(NOW, in_basket("sushi"))
        assert SUSHI == one.factors(NOW, in_basket("sushi", NOW + 100))
        assert NONE == one.factors(NOW, in_basket(""))


def test_without_consent_nothing_of_the_person_counts() -> None:
    """The basket of events needs consent to profiling, that of the session consent to use the context."""
    rule = {"rule_id": "any", "basket": {}, "lift": 4}
    with shop(rule, {"rule_id": "seen", "viewed": {}, "lift": 4}) as one:
        one.happened(added("pizza", NOW), {**seconds(NOW), "view": {"item": {"category": "pizza"}}})
        assert {"sushi": 1 / 16, "pizza": 1.0, "plain": 1 / 16} == one.factors()
        assert NONE == one.factors(consent=ConsentGrants(purposes=[CONSENT_PURPOSE_CONTEXTUAL]))
        only_context = ConsentGrants(purposes=[CONSENT_PURPOSE_CONTEXTUAL])
        assert SUSHI == one.factors(NOW, in_basket("sushi"), consent=only_context)
        only_profile = ConsentGrants(purposes=[CONSENT_PURPOSE_PROFILING])
        assert PIZZA | {"sushi": 1 / 16, "plain": 1 / 16} == one.factors(NOW, in_basket("sushi"), consent=only_profile)


def test_viewed_categories_count_for_a_while() -> None:
    """Views of the session and of events count up to `within`, and no longer; 30 minutes if a rule says nothing."""
    with shop({"rule_id": "seen", "viewed": {}, "lift": 4}) as one:
        one.happened({**seconds(NOW - 60), "view": {"item": {"category": "sushi"}}})
        assert (SUSHI, NOW + 1740) == (one.factors(), one.ask().refresh_after.seconds)
        assert NONE == one.factors(NOW + 1740)
        session = Session()
        session.viewed_categories["pizza"].seconds = NOW - 100
        assert {"sushi": 1.0, "pizza": 1.0, "plain": 0.25} == one.factors(NOW, session)
        assert NOW + 1700 == one.ask(NOW, session).refresh_after.seconds
    with shop({"rule_id": "seen", "viewed": {"within": "50s"}, "lift": 4}) as one:
        one.happened({**seconds(NOW - 50), "view": {"item": {"category": "sushi"}}})
        assert NONE == one.factors()
        assert SUSHI == one.factors(NOW - 1)


def test_impressions_and_orders_are_no_views() -> None:
    """Offers shown or bought are not viewed by that."""
    with shop({"rule_id": "seen", "viewed": {}, "lift": 4}) as one:
        one.happened(added("sushi", NOW), {**seconds(NOW), "order": {"items": [{"category": "sushi"}]}})
        assert NONE == one.factors()


@pytest.mark.parametrize(
    ("subject", "lifted"),
    [
        ({"category": "sushi"}, "sushi"),
        ({"brand": "Maki"}, "sushi"),
        ({"campaign_id": "spring"}, "pizza"),
        ({"category": "nowhere"}, ""),
        ({"brand": "sushi"}, ""),
    ],
)
def test_fixed_subjects(subject: dict[str, str], lifted: str) -> None:
    """A category, a brand or a campaign is lifted for everybody; a name is not taken for one of another kind."""
    with shop({"rule_id": "fixed", **subject, "lift": 2}) as one:
        assert {name: 1.0 if name == lifted else 0.5 for name in NONE} == one.factors()
        answer = one.ask(full=False)
        told = {offer.offer_id for offer in answer.offers if REASON_CODE_BEHAVIOUR in offer.reasons}
        assert ({lifted} - {""}, False) == (told, any(offer.factors for offer in answer.offers))


def test_lifts_of_rules_multiply_and_weigh() -> None:
    """An offer's factor is its own lifts by all lifts of rules that hold, and counts by its weight."""
    rules = (
        {"rule_id": "a", "category": "sushi", "lift": 2},
        {"rule_id": "b", "brand": "Maki", "lift": 5},
        {"rule_id": "c", "campaign_id": "spring", "lift": 4},
        {"rule_id": "d", "segment_id": "pushed", "category": "pizza", "lift": 100},
    )
    strategy = {"ranking_strategy_id": "s", "behaviour_rules": rules, "weights": {"behaviour": 0.5}}
    with shop(ranking_strategies=[strategy]) as one:
        assert {"sushi": 0.25, "pizza": 0.1, "plain": 0.025} == one.factors()
        for offer in one.ask().offers:
            (factor,) = (told for told in offer.factors if told.name == FACTOR_NAME_BEHAVIOUR)
            assert 0.5 == factor.weight
            assert pytest.approx(0.5 * math.log(factor.value)) == factor.log_contribution
            logs = math.fsum(told.log_contribution for told in offer.factors)
            assert pytest.approx(offer.score) == math.exp(logs)
        pushed = one.factors(NOW, Session(entry_channel="push"))
        assert {"sushi": 0.0025, "pizza": 0.1, "plain": 0.00025} == pushed


RULE_OF = {"rule_id": "i", "category": "sushi", "lift": 4}


def intents_shown(session: Session) -> list[str]:
    """Return which of the built-in intents hold in a session."""
    names = []
    for name in ("reassure", "buy", "compare", "inspire"):
        with shop(RULE_OF | {"intent_id": name}) as one:
            if one.factors(NOW, session) == SUSHI:
                names.append(name)
    return names


def test_the_built_in_intents() -> None:
    """Exactly one built-in intent holds: reading reviews, having a basket, comparing, or none of these."""
    reading = in_basket("sushi", NOW)
    reading.micro_conversions["reviews_read"].seconds = NOW
    assert ["reassure"] == intents_shown(reading)
    reading.micro_conversions["checkout_started"].seconds = NOW
    assert ["buy"] == intents_shown(reading)
    comparing = Session()
    for name in ("a", "b", "c"):
        comparing.viewed_products[name].seconds = NOW
    assert ["compare"] == intents_shown(comparing)
    assert ["inspire"] == intents_shown(Session())


def test_a_catalogue_has_its_own_intents_and_the_first_that_holds_counts() -> None:
    """Own intents take the place of all built-in ones, in the order of the catalogue; those left to CEL as well."""
    intents = [
        {"intent_id": "buy", "expression": "session.basket.items.exists(item, item.category == 'pizza')"},
        {"intent_id": "dream", "expression": "session.entry_campaign == 'spring'"},
        {"intent_id": "more", "expression": "true"},
    ]
    rules = [
        RULE_OF | {"rule_id": "b", "intent_id": "buy"},
        RULE_OF | {"rule_id": "d", "intent_id": "dream", "lift": 2},
    ]
    with shop(*rules, intents=intents) as one:
        session = in_basket("pizza")
        assert SUSHI == one.factors(NOW, session)
        session.entry_campaign = "spring"
        assert SUSHI == one.factors(NOW, session)
        session.ClearField("basket")
        assert {"sushi": 1.0, "pizza": 0.5, "plain": 0.5} == one.factors(NOW, session)
        assert NONE == one.factors(NOW, Session())


def test_rules_of_a_variant_s_strategy_hold_for_its_persons() -> None:
    """Persons with a variant that ranks otherwise get the rules of its strategy, on the placement's surfaces."""
    experiment = {
        "experiment_id": "e",
        "variants": [
            {"variant_id": "a", "weight": 1e-9},
            {"variant_id": "b", "weight": 1000, "ranking_strategy_id": "lifting"},
        ],
    }
    strategies = [{"ranking_strategy_id": "s"}, {"ranking_strategy_id": "lifting", "behaviour_rules": [LEFT]}]
    with shop(ranking_strategies=strategies, experiments=[experiment]) as one:
        one.happened(added("sushi", NOW - 1800))
        assert SUSHI == one.factors()


def test_a_person_who_did_much_is_read_to_the_end() -> None:
    """Of a basket with more than 100 items the last 100 count, as in the profile."""
    with shop({"rule_id": "any", "basket": {}, "lift": 4}) as one:
        one.happened(added("sushi", NOW - 300), *(added("pizza", NOW - 200 + n, f"p{n}") for n in range(99)))
        assert {"sushi": 1.0, "pizza": 1.0, "plain": 0.25} == one.factors()
        one.happened(added("pizza", NOW, "one more"))
        assert PIZZA == one.factors()


def test_explanations_name_the_rules_and_tell_the_factor() -> None:
    """ExplainOffers names the rules that lift an offer, by intents, events and session, and their factor."""
    rules = [LEFT, RULE_OF | {"intent_id": "buy"}, RULE_OF | {"rule_id": "other", "intent_id": "compare"}]
    with shop(*rules, {"rule_id": "seen", "viewed": {}, "lift": 2}) as one:
        one.happened({**seconds(NOW - 60), "view": {"item": {"category": "pizza"}}})
        told = one.explain(in_basket("sushi", NOW - 1800))
    assert {"sushi": ["left", "i"], "pizza": ["seen"], "plain": []} == {
        name: list(explanation.behaviour_rule_ids) for name, explanation in told.items()
    }
    factors = {
        name: next(factor.value for factor in explanation.factors if factor.name == FACTOR_NAME_BEHAVIOUR)
        for name, explanation in told.items()
    }
    assert {"sushi": 1 / 2, "pizza": 1 / 16, "plain": 1 / 32} == pytest.approx(factors)
    assert {"sushi": 1, "pizza": 2, "plain": 3} == {name: explanation.rank for name, explanation in told.items()}


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("now >= timestamp('2026-01-01T00:00:00Z')", 86_400),
        ("now < timestamp('2026-01-01T00:00:00Z') || now - session.start_time < duration('10m')", 300),
        ("string(now) != ''", 1),
    ],
)
def test_an_expression_about_now_is_promised_until_it_can_change(expression: str, seconds: int) -> None:
    """An intent makes an answer hold until the clock changes it; one that cannot be followed, for a second."""
    intents = [{"intent_id": "late", "expression": expression}]
    with shop(RULE_OF | {"intent_id": "late"}, intents=intents) as one:
        session = Session(start_time=Timestamp(seconds=NOW - 300))
        assert NOW + seconds == one.ask(NOW, session).refresh_after.seconds


@pytest.mark.parametrize("text", ["", "sushi", "déjà vu", "寿司"])
def test_texts_are_found_by_the_hash_they_are_kept_by(text: str) -> None:
    """The compiled hash of a text is the one in snapshots."""
    data = b"x" + text.encode() + b"y"
    hashed = int(hash_of(data, 1, len(data) - 1, 0))
    assert text_hash(text) == (hashed if hashed < 2**63 else hashed - 2**64)
