"""ExplainOffers: why offers are in an answer, and why not, told by the plain-Python reference, offer by offer.

The answer is the decision's own; what stands against an offer, and what it would be ranked by, is worked out from the
document's messages, at some milliseconds an offer. Nothing is kept of it.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from offers.catalogue.compile.behaviour import intent_name
from offers.catalogue.compile.geometry import earth_centred
from offers.catalogue.compile.messages import read_messages
from offers.catalogue.intents import intents_of
from offers.catalogue.snapshot import EVERYWHERE, NO_VENUE
from offers.decision.engine import Engine
from offers.decision.kernels.person.meet import BLIND, HIDDEN
from offers.decision.person import Person
from offers.decision.reference import decide as reference
from offers.decision.reference.behaviour import behaved, held
from offers.decision.reference.decide import Ranked
from offers.decision.reference.models import Taught, chance_of, taught_of, told
from offers.decision.reference.people import Known, strategy_of, variants_of
from offers.decision.segments.evaluate import Facts
from offers.errors import FieldViolation, InvalidRequestError
from offers.learning.model import Model
from offers.learning.recommend import scores as recommend
from offers.learning.recommend.reference import ReferenceScores
from offers.model.keys import key_of
from offers.model.query import Query
from offers.server import convert
from offers.server.limits import MAX_ID, MAX_REQUEST_BYTES
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import Met, People
from offers.server.why import Miss, judge
from offers.state.person.basket import fill_in
from offers.state.person.counters import Counters
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.event_pb2 import EventKind
from offers.v1.offer_service_pb2 import (
    REASON_CODE_NO_SUCH_OFFER,
    ExplainOffersRequest,
    ExplainOffersResponse,
    Factor,
    FactorName,
    FailedCheck,
    GetOffersRequest,
    GetOffersResponse,
    OfferExplanation,
)
from offers.v1.profile_pb2 import Basket, Profile
from offers.v1.state_pb2 import UserState

MOST = 1_000
"""Offers asked for, and explanations; catalogues of more offers are not looked through as a whole."""
USUAL = 100
_RECOMMEND = "recommend."


class ExplainService:
    """Answers with bytes, as OfferService does; changes no state, and keeps no decision."""

    def __init__(self, live: Live, clock: Callable[[], float], people: People, geohash_length: int = 0) -> None:
        """Models are told so many characters of the location's geohash, as in OfferService."""
        self._live = live
        self._clock = clock
        self._people = people
        self._geohash_length = geohash_length
        self._offers = OfferService(live, clock, people, geohash_length=geohash_length)
        self._recommends: tuple[str, ReferenceScores | None] = "", None
        """By the version of the model."""

    def explain_offers(self, data: bytes) -> bytes:
        """ExplainOffers: both sides encoded. Raises InvalidRequestError."""
        asked = convert.parse(ExplainOffersRequest, data, MAX_REQUEST_BYTES)
        request = asked.request
        if not request.context.HasField("time"):  # one instant for the answer and for all that is told of it
            request.context.time.seconds = int(self._clock())
        most = _checked(asked)
        with _inside("request"):
            query = convert.query_of(request, 0)
            engine, response, model = self._answered(query, request)
        ranks = {offer.offer_id: offer.rank for offer in response.offers}
        wanted = list(asked.offer_ids) or _nearest(engine, query, most, list(ranks))
        met, person = self._people.meet(engine, request, query.time)
        state = self._people.known(met, request.context.user)
        catalog = read_messages(engine.snapshot.path, dict.fromkeys([*ranks, *wanted]), _selected(engine, wanted))
        known = _known(engine, catalog, person, state, query.time)
        if model is not None:
            known = replace(known, taught=self._taught(engine, model, request, query, met, state, known, response))
        told = _explained(catalog, query, known, ranks)
        nothing = OfferExplanation(
            failed_checks=[FailedCheck(reason=REASON_CODE_NO_SUCH_OFFER, detail="the catalogue has no such offer")]
        )
        explanations = []
        for offer_id in wanted:
            one = OfferExplanation()
            one.CopyFrom(told.get(offer_id, nothing))
            one.offer_id = offer_id
            explanations.append(one)
        if not asked.offer_ids:
            explanations.sort(key=_distance)
        return ExplainOffersResponse(explanations=explanations[:most], response=response).SerializeToString()

    def _answered(self, query: Query, request: GetOffersRequest) -> tuple[Engine, GetOffersResponse, Model | None]:
        """What answered a request, its answer, and the model that had a part in that."""
        while True:
            engine = self._live.engine(query.surface.catalog)
            response = GetOffersResponse.FromString(self._offers.get_offers(request.SerializeToString()))
            model = engine.model if response.model_version else None
            if model is None or model.version == response.model_version:  # else another one is used since
                return engine, response, model

    def _taught(
        self, engine: Engine, model: Model, request: GetOffersRequest, query: Query, met: Met, state: UserState,
        known: Known, response: GetOffersResponse,
    ) -> Taught:  # fmt: skip
        """What a model went by in an answer."""
        if self._recommends[0] != model.version:
            found = {name.removeprefix(_RECOMMEND): array for name, array in model.arrays.items() if _RECOMMEND in name}
            scores = ReferenceScores(recommend.RecommendationModel.of(found)) if found else None
            self._recommends = model.version, scores
        characters, zone = self._geohash_length, engine.snapshot.meta["time_zone"]
        draw = known.draw if self._people.may_keep(met, request.context.user) else 0
        hidden = bool(met.flags & HIDDEN)
        values = told(request.context, state.profile, query, draw, characters, zone, hidden=hidden)
        chance = chance_of(known.draw, query.time, query.seed, int(response.decision_id[16:], 16))
        return taught_of(model, self._recommends[1], values, query, state.visits, characters, zone, chance)


@contextmanager
def _inside(field: str) -> Iterator[None]:
    """Let what is refused be named by its path from the outer message."""
    try:
        yield
    except InvalidRequestError as error:
        raise InvalidRequestError(
            [FieldViolation(f"{field}.{one.field}", one.reason) for one in error.violations]
        ) from None


def _checked(asked: ExplainOffersRequest) -> int:
    """How many explanations are wanted. Raises InvalidRequestError."""
    violations = []
    if len(asked.offer_ids) > MOST:
        reason = f"{len(asked.offer_ids):,} offers: send at most {MOST:,}, or none for those of the catalogue"
        violations.append(FieldViolation("offer_ids", reason))
    for index, offer_id in enumerate(asked.offer_ids[:MOST]):
        if not 1 <= len(offer_id) <= MAX_ID:
            violations.append(
                FieldViolation(f"offer_ids[{index}]", f"{len(offer_id):,} characters: send 1 to {MAX_ID}")
            )
    most = asked.max_explanations if asked.HasField("max_explanations") else min(max(USUAL, len(asked.offer_ids)), MOST)
    if not 1 <= most <= MOST:
        reason = f"{most:,} is out of range: send 1 to {MOST:,}, or leave it out for {USUAL}"
        violations.append(FieldViolation("max_explanations", reason))
    if violations:
        raise InvalidRequestError(violations)
    return most


def _explained(
    catalog: Catalog, query: Query, known: Known, ranks: dict[str, int]
) -> dict[str, OfferExplanation]:  # fmt: skip
    """What is told of each offer of a part of a catalogue, given the ranks of those in the answer."""
    judged = {one.offer.offer_id: one for one in judge(catalog, query, known, ranks)}
    strategy = strategy_of(catalog, variants_of(catalog, query, known))
    shown = {name: one for name, one in judged.items() if one.found is not None and not one.misses}
    answered = [(one.offer, one.found) for name, one in shown.items() if name in ranks and one.found]
    has_proper = any(not offer.fallback for offer, _ in answered)
    ranked_by = reference.strategy_of(catalog, query, strategy)
    rules = held(catalog, ranked_by, query.time, known.segments, known.did)
    told = {}
    for name, one in judged.items():
        explanation = OfferExplanation(
            eligible=name in shown or name in ranks, rank=ranks.get(name, 0), place=one.place
        )
        misses = list(one.misses)
        if name in shown and one.found is not None:
            if one.offer.fallback and has_proper:
                misses, explanation.eligible = [Miss.needless()], False
            else:
                beside = [(offer, found) for offer, found in answered if offer.offer_id != name]
                ranked = reference.ranking(catalog, query, [*beside, (one.offer, one.found)], strategy, known)
                laid_out = reference.laid_out(catalog, query, ranked)
                own, limits = next((ours, limits) for ours, limits in laid_out if ours.offer_id == name)
                _score(explanation, own)
                explanation.behaviour_rule_ids.extend(rule.rule.rule_id for rule in rules if rule.applies(one.offer))
                if name not in ranks:
                    misses = Miss.outdone(own, limits, ranked, ranks)
        explanation.failed_checks.extend(_check(miss) for miss in misses)
        told[name] = explanation
    return told


def _score(explanation: OfferExplanation, ranked: Ranked) -> None:
    explanation.score = math.exp(max(ranked.log_score, math.log(sys.float_info.min)))
    for name, (value, weight) in zip(FactorName.values()[1:], ranked.factors, strict=True):
        contribution = weight * math.log(value)
        explanation.factors.append(Factor(name=name, value=value, weight=weight, log_contribution=contribution))


def _check(miss: Miss) -> FailedCheck:
    check = FailedCheck(reason=miss.reason, detail=miss.detail, missing_m=miss.missing_m)
    if miss.passes is not None:
        check.passes_time.seconds = miss.passes
    return check


def _distance(one: OfferExplanation) -> tuple[float, bool, int, float]:
    """How far an offer is from being in the answer; those in it by their rank."""
    missing = sum(check.missing_m for check in one.failed_checks)
    return one.rank or float("inf"), not one.eligible, len(one.failed_checks), missing


def _nearest(engine: Engine, query: Query, most: int, first: Iterable[str]) -> list[str]:
    """The offers that may be nearest to being in the answer: all of a small catalogue."""
    count = int(engine.snapshot.meta["offers"])
    numbers: Iterable[int] = range(count)
    if count > MOST:
        columns = engine.snapshot.columns
        centres, entries, firsts = columns["centre"], columns["entry"], columns["site_entry_first"]
        near = np.empty(0, np.int64)
        if query.latitude == query.latitude:
            here = earth_centred(np.float64(query.latitude), np.float64(query.longitude))
            away = np.sqrt(sum((centres[name] - at) ** 2 for name, at in zip("xyz", here, strict=True)))
            sites = np.argsort(away - centres["reach"])[: 4 * most]
            spans = [np.arange(firsts[site], firsts[site + 1]) for site in sites.tolist() if site + 1 < len(firsts)]
            near = np.concatenate(spans) if spans else near
        everywhere = np.flatnonzero(entries["kind"][-most:] == EVERYWHERE) + max(len(entries) - most, 0)
        found = [entries["offer"][places].tolist() for places in (near, everywhere)]
        numbers = [number for part in found for number in list(dict.fromkeys(part))[:most]]
    return list(dict.fromkeys([*first, *map(engine.directory.offer_id, dict.fromkeys(numbers))]))


def _selected(engine: Engine, offer_ids: Iterable[str]) -> list[str]:
    """The venues at which some offers may be shown, also those that selectors find."""
    columns = engine.snapshot.columns
    wanted = [number for name in offer_ids if (number := engine.directory.number_of(name)) is not None]
    entries = columns["entry"]
    venues = np.unique(entries["venue"][np.isin(entries["offer"], wanted)])
    first, text = columns["venue_id_first"], columns["venue_id"]
    return [text[first[one] : first[one + 1]].tobytes().decode() for one in venues.tolist() if one != NO_VENUE]


def _known(engine: Engine, catalog: Catalog, person: Person, state: UserState, time: int) -> Known:
    """What is known of a person, as far as it matters to some offers."""
    facts = person.facts() if person.facts else Facts(User(), Session(), Context(), Profile(), time)
    named = [one.audience for one in catalog.offers] + [one.audience for one in catalog.campaigns]
    named += [variant.audience for one in catalog.offers for variant in one.creative_variants]
    names = {name for one in named for name in (*one.any_segment_ids, *one.all_segment_ids, *one.none_segment_ids)}
    instants = {(key, kind): seconds for key, kind, seconds in Counters(state.counters, state.times)}
    limited = [("offer", one.offer_id) for one in catalog.offers]
    limited += [("campaign", one.campaign_id) for one in catalog.campaigns]
    limited += [("category", one.category) for one in catalog.category_limits]
    limited += [("placement", one.placement_id) for one in catalog.placements]
    limited += [("contact_policy", one.contact_policy_id) for one in catalog.contact_policies]
    counted: dict[tuple[str, str, int], Sequence[int]] = {
        (what, name, kind): instants[key_of(what, catalog.catalog_id, name), kind]
        for what, name in limited
        for kind in EventKind.values()
        if (key_of(what, catalog.catalog_id, name), kind) in instants
    }
    used = {
        (name.removeprefix(f"{catalog.catalog_id}/"), period): (usage.units, usage.micros)
        for (name, period), usage in engine.budgets.used.items()
    }
    rules = [rule for strategy in catalog.ranking_strategies for rule in strategy.behaviour_rules]
    names |= {rule.segment_id for rule in rules if rule.segment_id}
    if any(rule.intent_id for rule in rules):
        names |= {intent_name(name) for name in intents_of(catalog.intents)}
    segments = engine.meeting.segments_of(sorted(names), facts)
    assigned = [(one.experiment_id, one.variant_id) for one in state.assignments]
    basket = Basket()
    fill_in(basket, state.basket_steps)
    did = behaved(facts.session, basket, state.recent, time)
    return Known(state.draw or person.draw, segments, counted, assigned, used, bool(person.flags & BLIND), did)
