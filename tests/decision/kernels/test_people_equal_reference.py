"""Compiled decisions for persons equal the plain-Python reference, on random catalogues."""

from dataclasses import replace

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.interval_pb2 import Interval
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.decision.reference import behaviour as reference_behaviour
from offers.decision.reference import concern
from offers.decision.reference import decide as reference
from offers.decision.reference import people as reference_people
from offers.decision.reference.behaviour import ActiveRule, Behaved
from offers.decision.reference.people import KnownPerson
from offers.model.query import Query
from offers.server.convert import query_of
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.v1.audience_pb2 import Audience, VariantRef
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import Context
from offers.v1.event_pb2 import EVENT_KIND_DISMISSAL, EVENT_KIND_IMPRESSION
from offers.v1.experiment_pb2 import Experiment, Variant
from offers.v1.limits_pb2 import ContactPolicy, FrequencyCap
from offers.v1.offer_pb2 import Benefit, Creative, CreativeVariant, Offer, Target
from offers.v1.offer_service_pb2 import REASON_CODE_BEHAVIOUR, GetOffersRequest, GetOffersResponse
from tests.decision.kernels.test_kernels_equal_reference import check, engine_of, undecided
from tests.people import PeopleMaker, Someone, behaving, people_makers, person_of, usages_of
from tests.strategies import LAST


def eligible_to(catalog: Catalog, query: Query, known: KnownPerson) -> set[str]:
    """Return the offers that qualify for a person."""
    channel = reference.channel_of(catalog, query)
    shown = [offer for offer, _ in reference.shown_here(catalog, query)]
    found = [one for one in shown if not reference_people.against(catalog, one, query, channel, known)]
    has_proper = any(not one.fallback for one in found)
    return {one.offer_id for one in found if not (has_proper and one.fallback)}


def check_people(catalog: Catalog, query: Query, known: KnownPerson, answer: GetOffersResponse) -> None:
    """Hold the content shown and the experiments told against the reference."""
    here = [offer for offer, _ in reference.shown_here(catalog, query)]
    offers, channel = {offer.offer_id: offer for offer in catalog.offers}, reference.channel_of(catalog, query)
    shown = [offers[got.offer_id] for got in answer.offers]
    told = [(one.experiment_id, one.variant_id) for one in answer.exposures]
    assert concern.exposures_of(catalog, query, known, here, shown) == told
    withheld = [(one.campaign_id, one.held_out) for one in answer.holdouts]
    assert concern.holdouts_of(catalog, query, known, here) == withheld
    for got in answer.offers:
        offer = offers[got.offer_id]
        creative = reference_people.creative_of(catalog, offer, query, channel, known)
        assert reference_people.creative_id_of(offer, creative) == got.creative_id
        assert (creative.creative if creative else offer.creative).body == got.creative.body


def rules_held(catalog: Catalog, query: Query, known: KnownPerson, time: int) -> list[ActiveRule]:
    """Return the behaviour rules that hold for a person at a time, of the strategy that answers a query."""
    strategy = reference_people.strategy_of(catalog, reference_people.variants_of(catalog, query, known))
    ranked_by = reference.strategy_of(catalog, query, strategy)
    return reference_behaviour.held(catalog, ranked_by, time, known.segments, known.did)


def check_behaviour(
    catalog: Catalog, request: GetOffersRequest, known: KnownPerson, answer: GetOffersResponse
) -> None:  # fmt: skip
    """Hold that offers are marked as lifted where a rule applies, and that the rules stay so until `refresh_after`."""
    query, end = query_of(request, 0), min(answer.refresh_after.seconds, LAST)
    rules, offers = rules_held(catalog, query, known, query.time), {offer.offer_id: offer for offer in catalog.offers}
    for got in answer.offers:
        is_lifted = any(one.applies(offers[got.offer_id]) for one in rules)
        assert is_lifted == (REASON_CODE_BEHAVIOUR in got.reasons)
    basket = request.context.session.basket
    if known.did != Behaved() and (basket.HasField("update_time") or not basket.items):
        for time in {end - 1, (query.time + end) // 2}:
            if query.time < time:
                assert rules == rules_held(catalog, query, known, time)


def check_promise(
    maker: PeopleMaker, catalog: Catalog, request: GetOffersRequest, known: KnownPerson, answer: GetOffersResponse
) -> None:
    """Hold that the same offers qualify for the same person until `refresh_after`."""
    query, end = query_of(request, 0), min(answer.refresh_after.seconds, LAST)
    now = eligible_to(catalog, query, known)
    turns = {second for seconds in known.counted.values() for second in seconds}
    turns |= {
        second for one in catalog.experiments for second in (one.window.start_time.seconds, one.window.end_time.seconds)
    }
    for time in {end - 1, (query.time + end) // 2, *(turn for turn in turns if query.time < turn < end)}:
        ask_later = GetOffersRequest()
        ask_later.CopyFrom(request)
        ask_later.context.time.seconds = time
        later = query_of(ask_later, 0)
        if query.time < time and not undecided(catalog, later):
            still = sorted(known.segments - {"later"})
            then = replace(known, segments=maker.segments(still, time), taught=None)
            assert now == eligible_to(catalog, later, then)


@settings(max_examples=60)
@given(people_makers, st.integers(1, 30))
def test_engine_equals_reference_for_every_person(maker: PeopleMaker, size: int) -> None:
    """The same offers, order, count, content and exposures for every person, for as long as the answer says."""
    hold_equal(maker, size)


def hold_equal(maker: PeopleMaker, size: int) -> None:
    """Hold the engine's answers to some persons equal to the reference's."""
    catalog = maker.catalog(size)
    with engine_of(catalog) as engine:
        live = Live([engine])
        for _ in range(8):
            request = maker.request(catalog)
            time = request.context.time.seconds
            if maker.chance(0.7):
                request.context.session.CopyFrom(maker.session(time))
            state = maker.history(time)
            known = behaving(catalog, maker.known(catalog, time), request.context.session, state, time)
            engine.budgets.update(usages_of(known), time)
            service = OfferService(live, lambda: 0.0, Someone(person_of(known, time, did=state)))
            answer = check(catalog, service, request, known)
            if answer is not None:
                check_people(catalog, query_of(request, 0), known, answer)
                check_behaviour(catalog, request, known, answer)
                check_promise(maker, catalog, request, known, answer)


NOW = 1_795_000_000
SOME = Catalog(
    catalog_id="random",
    experiments=[
        Experiment(
            experiment_id=name,
            window=Interval(end_time=Timestamp(seconds=NOW + end)),
            variants=[Variant(variant_id="a"), Variant(variant_id="b")],
        )
        for name, end in (("e1", 100), ("e2", 100_000))
    ],
    contact_policies=[ContactPolicy(contact_policy_id="p", channels=["app"], offer_cool_down=Duration(seconds=3600))],
)


def answer_of(offer: Offer, known: KnownPerson, channel: str = "") -> GetOffersResponse:
    """Return the answer to a person where there is one offer, for everywhere."""
    catalog = Catalog()
    catalog.CopyFrom(SOME)
    offer.MergeFrom(Offer(offer_id="o", title="o", benefit=Benefit(percent_off=5), target=Target(everywhere=True)))
    catalog.offers.append(offer)
    request = GetOffersRequest(context=Context(channel=channel, time=Timestamp(seconds=NOW)))
    with engine_of(catalog) as engine:
        service = OfferService(Live([engine]), lambda: 0.0, Someone(person_of(known, NOW)))
        return GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))


def of(experiment_id: str) -> Audience:
    """Those in an experiment."""
    return Audience(variants=[VariantRef(experiment_id=experiment_id, variant_id=one) for one in "ab"])


def test_answer_holds_until_an_experiment_it_depends_on_ends() -> None:
    """An offer for the variants of an experiment is promised for no longer than the experiment runs."""
    answer = answer_of(Offer(audience=of("e1")), KnownPerson(draw=5))
    assert (1, NOW + 100) == (len(answer.offers), answer.refresh_after.seconds)


def test_answer_holds_until_an_event_to_come_counts() -> None:
    """Asked for an instant before an event, an offer is promised until the event reaches its cap."""
    known = KnownPerson(counted={("offer", "o", EVENT_KIND_IMPRESSION): (NOW + 7,)})
    answer = answer_of(Offer(frequency_caps=[FrequencyCap(max_count=1)]), known)
    assert (1, NOW + 7) == (len(answer.offers), answer.refresh_after.seconds)


def test_experiment_that_content_alone_names_is_told() -> None:
    """Who is shown the content of a variant is exposed to its experiment."""
    creative = CreativeVariant(creative=Creative(body="b"), audience=of("e2"), creative_id="c")
    answer = answer_of(Offer(creative_variants=[creative]), KnownPerson(draw=5))
    assert (["c"], ["e2"]) == (
        [one.creative_id for one in answer.offers],
        [one.experiment_id for one in answer.exposures],
    )


def test_offer_cools_down_on_the_channels_of_its_policy() -> None:
    """An offer that was put away is still shown on a channel that the policy does not hold on."""
    known = KnownPerson(counted={("offer", "o", EVENT_KIND_DISMISSAL): (NOW - 60,)})
    assert [0, 1] == [len(answer_of(Offer(), known, channel).offers) for channel in ("app", "web")]
