"""The record of a person is read in one pass, whatever the order of its fields."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.decision.engine import Engine
from offers.decision.kernels.memory.scratch import COUNTER, PersonFact, Scratchpad
from offers.decision.kernels.person.meet import AGREED, COUNTED, NAMED
from offers.decision.person import Person
from offers.model.query import Query, Surface
from offers.model.visits import visit
from offers.v1.catalog_pb2 import Catalog
from offers.v1.experiment_pb2 import Experiment, Variant
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import VariantAssignment
from offers.v1.state_pb2 import RecentEvent, UserState
from tests.decision.kernels.test_kernels_equal_reference import engine_of

NOW = 1_795_000_000
CATALOG = Catalog(
    catalog_id="random",
    experiments=[
        Experiment(experiment_id=f"e{number}", layer=f"l{number}", variants=[Variant(variant_id=one) for one in "abc"])
        for number in range(3)
    ],
    offers=[Offer(offer_id="o", title="o", benefit=Benefit(custom="o"), target=Target(everywhere=True))],
)
COUNTS, FEWER = np.array([(-5, 1, 0, 2, 0), (7, 1, 0, 1, 2)], COUNTER), np.array([(9, 1, 0, 1, 0)], COUNTER)
TIMES = np.array([NOW - 9, NOW - 8, NOW - 7], np.uint32)
PROFILE, VISIT = Profile(order_count=3), visit(5, NOW - 60, 1.0)
ONCE = [
    UserState(profile=PROFILE), UserState(counters=COUNTS.tobytes()), UserState(times=TIMES.tobytes()),
    UserState(draw=77), UserState(visits=VISIT), UserState(recent=[RecentEvent(category="c")]),
    *(UserState(assignments=[VariantAssignment(experiment_id=f"e{one}", variant_id="c")]) for one in range(3)),
]  # fmt: skip
STALE = [
    UserState(counters=FEWER.tobytes()), UserState(times=TIMES[:1].tobytes()), UserState(draw=5),
    UserState(visits=2 * VISIT),
]  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Make an engine with experiments."""
    with engine_of(CATALOG) as made:
        yield made


def met(engine: Engine, record: bytes, flags: int) -> tuple[int, bytes, bytes, bytes, bytes, list[int]]:
    """Return draw, counters, times, profile, visits and variants of a person, as a decision reads them."""
    pad = Scratchpad()
    engine.decide(
        Query(Surface(), NOW), pad, Person(3, record, GetOffersRequest().SerializeToString(), -1, flags, None)
    )
    arrays, facts = pad.arrays, pad.arrays["person"].tolist()
    counters = arrays["counter"][: facts[PersonFact.counters]]
    profile = record[facts[PersonFact.profile_begin] : facts[PersonFact.profile_end]]
    visits = record[facts[PersonFact.visits_begin] : facts[PersonFact.visits_end]]
    times = arrays["times"][: counters["count"].sum()]
    return facts[PersonFact.draw], counters.tobytes(), times.tobytes(), profile, visits, arrays["variant"].tolist()


@given(st.permutations(STALE), st.permutations(ONCE))
def test_order_of_fields_does_not_matter(engine: Engine, stale: list[UserState], once: list[UserState]) -> None:
    """The last of several fields of the same number counts; assignments may stand anywhere."""
    record = b"".join(one.SerializeToString() for one in (*stale, *once))
    expected = (77, COUNTS.tobytes(), TIMES.tobytes(), PROFILE.SerializeToString(), VISIT, [2, 2, 2])
    assert expected == met(engine, record, NAMED | AGREED)


@pytest.mark.parametrize(
    ("flags", "counted"), [(NAMED, b""), (NAMED | COUNTED, COUNTS.tobytes()), (AGREED | COUNTED, COUNTS.tobytes())]
)
def test_without_consent_only_what_callers_count_is_used(engine: Engine, flags: int, counted: bytes) -> None:
    """Without consent, no draw, profile or assignments are used; counters are if the caller said them."""
    record = b"".join(one.SerializeToString() for one in ONCE)
    draw, counters, _, profile, _, variants = met(engine, record, flags)
    assert (3, counted, b"") == (draw, counters, profile)
    assert variants == met(engine, b"", flags)[-1]


@pytest.mark.parametrize("kept", range(12))
def test_broken_record_is_used_as_far_as_it_goes(engine: Engine, kept: int) -> None:
    """The fields before the broken one count."""
    record = UserState(draw=77).SerializeToString() + UserState(times=TIMES.tobytes()).SerializeToString()[:kept]
    assert met(engine, record, NAMED | AGREED)[0] == 77
