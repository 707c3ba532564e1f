"""ExplainOffers: why offers are in an answer, and why not.

The answer is the one GetOffers gives. Everything against an offer, and what it would rank by, comes from the explainer
in decision/reference, at some milliseconds an offer. No decision is kept, and no state changes.
"""

import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from offers.catalogue.compile.behaviour import intent_name
from offers.catalogue.compile.messages import read_messages
from offers.catalogue.geo.geometry import earth_centred
from offers.catalogue.intents import intents_of
from offers.catalogue.snapshot import EVERYWHERE, NO_VENUE
from offers.decision.engine import Engine
from offers.decision.kernels.person.meet import BLIND, HIDDEN
from offers.decision.pauses import Pauses
from offers.decision.person import Person
from offers.decision.reference.behaviour import behaved
from offers.decision.reference.decide import Ranked
from offers.decision.reference.explain import OfferVerdict, explain
from offers.decision.reference.models import Taught, chance_of, taught_of, told
from offers.decision.reference.people import KnownPerson
from offers.decision.reference.words import Words
from offers.decision.segments.evaluate import Facts
from offers.errors import BusyError, FieldViolation, InvalidRequestError
from offers.learning.model import Model
from offers.learning.recommend import scores as recommend
from offers.learning.recommend.reference import ReferenceScores
from offers.model.keys import key_of
from offers.model.query import Query
from offers.server import convert
from offers.server.limits import MAX_EXPLANATIONS, MAX_ID, MAX_REQUEST_BYTES
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import Met, PersonReader
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

USUAL = 100
"""Explanations where the request does not say how many."""
MOST_EXPLAINING = 2
"""Requests that a worker explains at once: each takes a thread for up to a second, and decisions need some."""
_RECOMMEND = "recommend."


class _Answered(NamedTuple):
    """A request, who it is from, and how it was answered."""

    request: GetOffersRequest
    query: Query
    engine: Engine
    response: GetOffersResponse
    model: Model | None
    """The model that had a part in the answer."""
    met: Met
    person: Person
    state: UserState
    """The part of the person's record that may be used."""


class ExplainService:
    """Answers ExplainOffers with bytes, as OfferService does GetOffers."""

    def __init__(self, live: Live, clock: Callable[[], float], people: PersonReader, geohash_length: int = 0) -> None:
        """`geohash_length` is the number of characters of the location's geohash that models see."""
        self._live = live
        self._clock = clock
        self._people = people
        self._geohash_length = geohash_length
        self._offers = OfferService(live, clock, people, geohash_length=geohash_length)
        self._free = threading.Semaphore(MOST_EXPLAINING)
        self._recommends: tuple[str, ReferenceScores | None] = "", None
        """The version of the last model asked for its recommendation, and that recommendation."""

    def explain_offers(self, data: bytes) -> bytes:
        """Answer ExplainOffers, the request and the response encoded.

        Raises InvalidRequestError, and BusyError when too many are under way.
        """
        asked = convert.parse(ExplainOffersRequest, data, MAX_REQUEST_BYTES)
        most = _checked(asked)
        if not self._free.acquire(blocking=False):
            message = "as many explanations are under way as this server gives at once: try again later"
            raise BusyError(message)
        try:
            return self._explain(asked, most).SerializeToString()
        finally:
            self._free.release()

    def _explain(self, asked: ExplainOffersRequest, most: int) -> ExplainOffersResponse:
        """Answer a request that was checked, with at most `most` explanations."""
        with _inside("request"):
            answered = self._answer(asked.request, int(self._clock()))
        ranks = {offer.offer_id: offer.rank for offer in answered.response.offers}
        wanted = list(asked.offer_ids) or _nearest(answered.engine, answered.query, most, list(ranks))
        told = self._explained(answered, wanted, ranks)
        explanations = []
        for offer_id in wanted:
            one = OfferExplanation()
            one.CopyFrom(told.get(offer_id, _UNKNOWN))
            one.offer_id = offer_id
            explanations.append(one)
        if not asked.offer_ids:
            explanations.sort(key=_distance)
        purposes = self._people.purposes(answered.met, asked.request.context.user)
        return ExplainOffersResponse(
            explanations=explanations[:most], response=answered.response, purposes=sorted(purposes)
        )

    def _answer(self, request: GetOffersRequest, now: int) -> _Answered:
        """Answer a request, and find the engine, the model and the person that the answer came from.

        `now` is the second to decide for where the request names none.
        """
        query = convert.query_of(request, now)
        while True:
            engine = self._live.engine(query.surface.catalog)
            response = GetOffersResponse.FromString(self._offers.answer_at(request.SerializeToString(), now))
            model = engine.model if response.model_version else None
            if model is None or model.version == response.model_version:  # else the model was replaced meanwhile
                break
        met, person = self._people.meet(engine, request, query.time)
        state = self._people.known(met, request.context.user)
        return _Answered(request, query, engine, response, model, met, person, state)

    def _explained(
        self, answered: _Answered, wanted: list[str], ranks: Mapping[str, int]
    ) -> dict[str, OfferExplanation]:  # fmt: skip
        """Return the explanations of some offers, by id, given the ranks of those in the answer."""
        engine, query = answered.engine, answered.query
        catalog = read_messages(engine.snapshot.path, dict.fromkeys([*ranks, *wanted]), _selected(engine, wanted))
        known = _known(answered, catalog)
        if answered.model is not None:
            known = replace(known, taught=self._taught(answered, answered.model, known.draw))
        words, pauses, told = Words(catalog, query), Pauses(), {}
        for one in explain(catalog, query, known, ranks, pauses):
            told[one.placed.offer.offer_id] = _explanation(one, words)
            pauses()
        return told

    def _taught(self, answered: _Answered, model: Model, draw: int) -> Taught:
        """Return the model of an answer with the values it saw; `draw` is the person's."""
        if self._recommends[0] != model.version:
            found = {name.removeprefix(_RECOMMEND): array for name, array in model.arrays.items() if _RECOMMEND in name}
            scores = ReferenceScores(recommend.RecommendationModel.of(found)) if found else None
            self._recommends = model.version, scores
        request, query, state = answered.request, answered.query, answered.state
        characters, zone = self._geohash_length, answered.engine.snapshot.meta["time_zone"]
        kept = draw if self._people.may_keep(answered.met, request.context.user) else 0
        hidden = bool(answered.met.flags & HIDDEN)
        values = told(request.context, state.profile, query, kept, characters, zone, hidden=hidden)
        chance = chance_of(draw, query.time, query.seed, int(answered.response.decision_id[16:], 16))
        return taught_of(model, self._recommends[1], values, query, state.visits, characters, zone, chance)


_UNKNOWN = OfferExplanation(
    failed_checks=[FailedCheck(reason=REASON_CODE_NO_SUCH_OFFER, detail="the catalogue has no such offer")]
)


@contextmanager
def _inside(field: str) -> Iterator[None]:
    """Prefix the fields of an InvalidRequestError with the field of the outer message."""
    try:
        yield
    except InvalidRequestError as error:
        raise InvalidRequestError(
            [FieldViolation(f"{field}.{one.field}", one.reason) for one in error.violations]
        ) from None


def _checked(asked: ExplainOffersRequest) -> int:
    """Return how many explanations are wanted. Raises InvalidRequestError."""
    violations = []
    if len(asked.offer_ids) > MAX_EXPLANATIONS:
        reason = (
            f"{len(asked.offer_ids):,} offers: send at most {MAX_EXPLANATIONS:,}, or none for those of the catalogue"
        )
        violations.append(FieldViolation("offer_ids", reason))
    for index, offer_id in enumerate(asked.offer_ids[:MAX_EXPLANATIONS]):
        if not 1 <= len(offer_id) <= MAX_ID:
            violations.append(
                FieldViolation(f"offer_ids[{index}]", f"{len(offer_id):,} characters: send 1 to {MAX_ID}")
            )
    most = (
        asked.max_explanations
        if asked.HasField("max_explanations")
        else min(max(USUAL, len(asked.offer_ids)), MAX_EXPLANATIONS)
    )
    if not 1 <= most <= MAX_EXPLANATIONS:
        reason = f"{most:,} is out of range: send 1 to {MAX_EXPLANATIONS:,}, or leave it out for {USUAL}"
        violations.append(FieldViolation("max_explanations", reason))
    if violations:
        raise InvalidRequestError(violations)
    return most


def _explanation(verdict: OfferVerdict, words: Words) -> OfferExplanation:
    """Return the message of a verdict."""
    place = words.place(verdict.placed.offer, verdict.placed.shown.place)
    explanation = OfferExplanation(eligible=verdict.is_eligible, rank=verdict.rank, place=place)
    if verdict.ranked is not None:
        _score(explanation, verdict.ranked)
    explanation.behaviour_rule_ids.extend(one.rule.rule_id for one in verdict.rules)
    explanation.failed_checks.extend(words.checks(verdict))
    return explanation


def _score(explanation: OfferExplanation, ranked: Ranked) -> None:
    """Fill in a score and its factors."""
    explanation.score = math.exp(max(ranked.log_score, math.log(sys.float_info.min)))
    for name, (value, weight) in zip(FactorName.values()[1:], ranked.factors, strict=True):
        contribution = weight * math.log(value)
        explanation.factors.append(Factor(name=name, value=value, weight=weight, log_contribution=contribution))


def _distance(one: OfferExplanation) -> tuple[float, bool, float, int, float]:
    """Return the sort key of an explanation: by rank, then by how near the offer is to being in the answer."""
    missing = sum(check.missing_m for check in one.failed_checks)
    return one.rank or float("inf"), not one.eligible, -one.score, len(one.failed_checks), missing


def _nearest(engine: Engine, query: Query, most: int, first: Iterable[str]) -> list[str]:
    """Return `first`, then the offers nearest to being in the answer; of small catalogues, all offers."""
    count = int(engine.snapshot.meta["offers"])
    numbers: Iterable[int] = range(count)
    if count > MAX_EXPLANATIONS:
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
    """Return the ids of the venues at which some offers may be shown, those found by selectors among them."""
    columns = engine.snapshot.columns
    wanted = [number for name in offer_ids if (number := engine.directory.number_of(name)) is not None]
    entries = columns["entry"]
    venues = np.unique(entries["venue"][np.isin(entries["offer"], wanted)])
    first, text = columns["venue_id_first"], columns["venue_id"]
    return [text[first[one] : first[one + 1]].tobytes().decode() for one in venues.tolist() if one != NO_VENUE]


def _known(answered: _Answered, catalog: Catalog) -> KnownPerson:
    """Return what is known of the person of an answer, as far as the offers of a catalogue ask for it."""
    engine, person, state, time = answered.engine, answered.person, answered.state, answered.query.time
    facts = person.facts() if person.facts else Facts(User(), Session(), Context(), Profile(), time)
    basket = Basket()
    fill_in(basket, state.basket_steps)
    return KnownPerson(
        draw=state.draw or person.draw,
        variant_draw=state.variant_draw,
        segments=engine.meeting.segments_of(sorted(_segments_named(catalog)), facts),
        counted=_counted(catalog, state),
        assigned=[(one.experiment_id, one.variant_id) for one in state.assignments],
        used={
            (name.removeprefix(f"{catalog.catalog_id}/"), period): (usage.units, usage.micros)
            for (name, period), usage in engine.budgets.used.items()
        },
        blind=bool(person.flags & BLIND),
        did=behaved(facts.session, basket, state.recent, time),
    )


def _segments_named(catalog: Catalog) -> set[str]:
    """Return the segments and intents that audiences, experiments and behaviour rules of a catalogue name."""
    audiences = [one.audience for one in catalog.offers] + [one.audience for one in catalog.campaigns]
    audiences += [variant.audience for one in catalog.offers for variant in one.creative_variants]
    names = {name for one in audiences for name in (*one.any_segment_ids, *one.all_segment_ids, *one.none_segment_ids)}
    names |= {name for one in catalog.experiments for name in one.segment_ids}
    rules = [rule for strategy in catalog.ranking_strategies for rule in strategy.behaviour_rules]
    names |= {rule.segment_id for rule in rules if rule.segment_id}
    if any(rule.intent_id for rule in rules):
        names |= {intent_name(name) for name in intents_of(catalog.intents)}
    return names


def _counted(catalog: Catalog, state: UserState) -> dict[tuple[str, str, int], Sequence[int]]:
    """Return the instants of a person's events that limits of a catalogue count, as KnownPerson has them."""
    instants = {(key, kind): seconds for key, kind, seconds in Counters(state.counters, state.times)}
    limited = [("offer", one.offer_id) for one in catalog.offers]
    limited += [("campaign", one.campaign_id) for one in catalog.campaigns]
    limited += [("category", one.category) for one in catalog.category_limits]
    limited += [("placement", one.placement_id) for one in catalog.placements]
    limited += [("contact_policy", one.contact_policy_id) for one in catalog.contact_policies]
    return {
        (what, name, kind): instants[key_of(what, catalog.catalog_id, name), kind]
        for what, name in limited
        for kind in EventKind.values()
        if (key_of(what, catalog.catalog_id, name), kind) in instants
    }
