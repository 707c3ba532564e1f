"""Decisions read the same attributes of a request and a person as models learn from the decision's record."""

import math
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from offers.decision.engine import Engine
from offers.decision.kernels.memory.scratch import PersonFact, Scratchpad
from offers.decision.kernels.person.meet import AGREED, BLIND, HIDDEN, NAMED, TAUGHT
from offers.decision.person import Person
from offers.decision.reference.models import geohash_of
from offers.learning.propensity.features import Features, default_features
from offers.learning.values import REQUEST_NAMES, request_values
from offers.model.hashing import signed
from offers.model.query import Query, Surface
from offers.model.visits import MAX_VISITS, PLACE_DIGITS, VISIT, place_of, visit
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import Context, Session
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.profile_pb2 import Profile
from offers.v1.ranking_pb2 import FactorWeights, RankingStrategy
from offers.v1.state_pb2 import DecisionRecord, UserState
from tests.decision.kernels.test_kernels_equal_reference import engine_of
from tests.decision.made_models import model_of, online

NAMES = ("weather", "é", "x y", "🌧", "a" * 64, "nested")
FEATURES = default_features(
    (*REQUEST_NAMES, *(f"context.{name}" for name in NAMES), *(f"profile.{name}" for name in NAMES), "offer.id"), 10
)
ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "UTC")
CATALOG = Catalog(
    catalog_id="random", time_zone="Asia/Kathmandu", default_ranking_strategy_id="s", sensitive_attributes=["x y"],
    ranking_strategies=[RankingStrategy(ranking_strategy_id="s", weights=FactorWeights(propensity=1))],
    offers=[Offer(offer_id="o", title="o", benefit=Benefit(custom="o"), target=Target(everywhere=True))],
)  # fmt: skip
NOW = 1_795_000_000


@pytest.fixture(scope="module")
def engine() -> Any:  # noqa: ANN401 - a generator of an Engine
    """Make an engine that asks a model."""
    with engine_of(CATALOG) as made:
        arrays = {f"click.{name}": one for name, one in online(FEATURES, 1).items()}
        made.use(model_of(arrays, FEATURES))
        yield made


def decided(engine: Engine, query: Query, person: Person, characters: int) -> tuple[Scratchpad, DecisionRecord]:
    """Decide. Returns the scratchpad with the model's attributes, and the record for the log."""
    pad = Scratchpad()
    assert engine.decide(query, pad, person, characters, 5).personal
    size = int(pad.arrays["person"][PersonFact.logged])
    return pad, DecisionRecord.FromString(pad.arrays["logged"][:size].tobytes())


def told(pad: Scratchpad) -> tuple[list[int], list[float]]:
    """Return keys and numbers of a request."""
    size = FEATURES.request_size
    return pad.arrays["request_key"][:size].tolist(), pad.arrays["request_number"][:size].tolist()


def learned_from(record: DecisionRecord) -> dict[str, object]:
    """Return what models learn from a decision's record, without sensitive attributes."""
    values = request_values(record, record.time, CATALOG.time_zone)
    return {name: value for name, value in values.items() if name != "profile.x y"}


VALUES = st.recursive(
    st.builds(Value, string_value=st.text(max_size=20))
    | st.builds(Value, number_value=st.floats() | st.integers(-40, 40).map(float))
    | st.builds(Value, bool_value=st.booleans())
    | st.just(Value(null_value=0))  # type: ignore[arg-type]
    | st.just(Value()),
    lambda inner: st.builds(
        lambda values: Value(list_value=ListValue(values=values)), st.lists(inner, max_size=3)
    ) | st.builds(
        lambda fields: Value(struct_value=Struct(fields=fields)), st.dictionaries(st.sampled_from(NAMES), inner)
    ),
    max_leaves=4,
)  # fmt: skip
STRUCTS = st.builds(
    lambda fields: Struct(fields=fields), st.dictionaries(st.sampled_from([*NAMES, "", "unheard"]), VALUES, max_size=6)
)
SECONDS = st.integers(1, 4_102_444_799) | st.sampled_from(
    [1_774_745_999, 1_774_746_000, 1_792_889_999, 1_792_890_000, 1_775_314_799, 1_775_314_800, 1_325_239_200]
)
"""Any, and both sides of changes of the clock."""
PLACES = st.none() | st.tuples(
    st.floats(-90, 90) | st.sampled_from([90.0, -90.0, 0.0]), st.floats(-180, 180) | st.sampled_from([180.0, -180.0])
)


@settings(max_examples=200)
@given(
    st.tuples(STRUCTS, STRUCTS), SECONDS, st.sampled_from(["", *ZONES]), PLACES,
    st.tuples(st.sampled_from(["", "app", "é" * 32]), st.sampled_from(["", "push", "é" * 32])), st.integers(0, 12),
    st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]),
)  # fmt: skip
@example((Struct(), Struct()), 1_774_746_000, "Europe/Paris", (90.0, 180.0), ("app", "push"), 6, -(2**63))
def test_decisions_are_told_what_their_record_says(
    engine: Engine, structs: tuple[Struct, Struct], second: int, zone: str, place: tuple[float, float] | None,
    channels: tuple[str, str], characters: int, draw: int,
) -> None:  # fmt: skip
    """Whatever is in the request and the profile, decision and learner have the same keys and numbers."""
    channel, entry = channels
    context = Context(
        time=Timestamp(seconds=second), time_zone=zone, channel=channel, attributes=structs[0],
        session=Session(entry_channel=entry),
    )  # fmt: skip
    record = UserState(profile=Profile(attributes=structs[1]))
    person = Person(
        draw, record.SerializeToString(), GetOffersRequest(context=context).SerializeToString(), -1,
        NAMED | AGREED | TAUGHT,
    )  # fmt: skip
    latitude, longitude = place or (math.nan, math.nan)
    query = Query(Surface(time_zone=zone, channel=channel), second, latitude, longitude)
    pad, logged = decided(engine, query, person, characters)
    values = learned_from(logged)
    keys, numbers = told(pad)
    size = FEATURES.request_size
    assert [int(key) for key in FEATURES.keys(values)[:size]] == keys
    np.testing.assert_array_equal(FEATURES.numbers(values)[:size], numbers)
    facts = pad.arrays["person"]
    ahead = datetime.fromtimestamp(second, ZoneInfo(CATALOG.time_zone)).utcoffset()  # as visits are kept
    assert ahead is not None
    assert second + ahead.total_seconds() == facts[PersonFact.local_second]
    assert signed(place_of(geohash_of(query, min(characters, PLACE_DIGITS)))) == facts[PersonFact.place]


def somebody(flags: int, draw: int = 7, visits: bytes = b"") -> Person:
    """Return a person with a profile, asking with attributes and a session."""
    attributes = Struct()
    attributes["weather"] = "sun"
    context = Context(attributes=attributes, session=Session(entry_channel="push"))
    record = UserState(profile=Profile(attributes=attributes), visits=visits)
    request = GetOffersRequest(context=context).SerializeToString()
    return Person(draw, record.SerializeToString(), request, -1, flags)


def known(features: Features, keys: list[int]) -> set[str]:
    """Return the keys that are not missing."""
    return {name for name, key in zip(features.attributes, keys, strict=False) if key}


QUERY = Query(Surface(channel="app"), NOW, 48.8, 2.3)
OF_MOMENT = {"hour", "weekday", "daypart", "channel", "place", "entry_channel", "context.weather"}
OF_PERSON = {"person", "profile.weather"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (NAMED | AGREED, OF_MOMENT | OF_PERSON),
        (NAMED, OF_MOMENT),
        (0, OF_MOMENT),
        (NAMED | AGREED | BLIND, OF_MOMENT),
        (NAMED | AGREED | HIDDEN, (OF_MOMENT | OF_PERSON) - {"place", "entry_channel"}),
    ],
)
def test_models_are_told_no_more_than_was_agreed_to(engine: Engine, flags: int, expected: set[str]) -> None:
    """Without profiling the model reads nothing of the person; without the context, neither place nor session."""
    pad, _ = decided(engine, QUERY, somebody(flags), 6)
    assert expected == known(FEATURES, told(pad)[0])


@pytest.mark.parametrize(
    ("flags", "draw", "expected"),
    [
        (NAMED | AGREED | TAUGHT, 7, 7),
        (NAMED | AGREED | TAUGHT, -7, -7),
        (NAMED | AGREED | TAUGHT, 0, 0),
        (NAMED | AGREED, 7, 0),
        (NAMED | TAUGHT, 7, 0),
        (NAMED | AGREED | TAUGHT | BLIND, 7, 0),
        (NAMED | AGREED | TAUGHT | HIDDEN, 7, 0),
    ],
)
def test_log_tells_persons_only_with_consent_to_learning(
    engine: Engine, flags: int, draw: int, expected: int
) -> None:  # fmt: skip
    """The log keeps the person's number only with consent to profiling and learning."""
    _, logged = decided(engine, QUERY, somebody(flags, draw), 6)
    assert expected == logged.draw
    assert logged.learn == bool(flags & TAUGHT and not flags & (BLIND | HIDDEN))
    assert logged.model_version == "0000000000000001"


def recalled(engine: Engine, visits: bytes) -> bytes:
    """Return the visits that a decision reads."""
    pad, _ = decided(engine, QUERY, somebody(NAMED | AGREED, visits=visits), 6)
    return pad.arrays["visit"][: pad.arrays["person"][PersonFact.visits]].tobytes()


VISITS = b"".join(visit(item, NOW - 1_000_000 + item, 1.0, place=5) for item in range(1, MAX_VISITS + 10))


def test_histories_that_are_broken_are_used_as_far_as_they_go(engine: Engine) -> None:
    """Visits that are cut short, over the limit, or out of order are left out."""
    one = VISIT.itemsize
    assert VISITS[: 3 * one] == recalled(engine, VISITS[: 3 * one])
    assert VISITS[: 3 * one] == recalled(engine, VISITS[: 4 * one - 1])
    assert b"" == recalled(engine, VISITS[: one - 1])
    assert VISITS[: MAX_VISITS * one] == recalled(engine, VISITS)
    later, earlier = VISITS[5 * one : 6 * one], VISITS[:one]
    assert later == recalled(engine, later + earlier + later)


def test_nobodys_history_is_used_without_profiling(engine: Engine) -> None:
    """Visits of a person who did not agree to profiling are not read."""
    pad, _ = decided(engine, QUERY, somebody(NAMED, visits=VISITS), 6)
    assert 0 == pad.arrays["person"][PersonFact.visits]
