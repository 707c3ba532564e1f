"""ProfileService over a real server and SQLite."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status

from offers.model.keys import key_of
from offers.state.person.ids import draw_of
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_LEARNING,
    CONSENT_PURPOSE_MESSAGING,
    CONSENT_PURPOSE_PROFILING,
    ConsentGrants,
    Context,
    User,
)
from offers.v1.event_pb2 import CustomEvent, EventKind
from offers.v1.event_service_pb2 import EventWarning
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_pb2 import LIFE_CYCLE_NEW, Consent, Profile
from offers.v1.profile_service_pb2 import (
    DeleteProfileRequest,
    DeleteProfileResponse,
    ExportProfileRequest,
    ExportProfileResponse,
    GetProfileRequest,
    KeptDecision,
    LinkIdentitiesRequest,
    UpdateProfileRequest,
    VariantAssignment,
)
from offers.v1.state_pb2 import DecisionRecord, UserState
from tests.server.persons import AGREED, NOW, Server, event, known, server

ALICE, VISITOR = User(user_id="alice"), User(anonymous_id="v1")
SPRING = key_of("campaign", "corner", "spring")
CLICK = EventKind.EVENT_KIND_CLICK


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Server]:
    """A server with empty stores."""
    with server(tmp_path) as running:
        yield running


def get(at: Server, user: User = ALICE) -> Profile:
    """Return the profile of a person."""
    told: Profile = at.profiles.GetProfile(GetProfileRequest(user=user), timeout=10).profile
    return told


def update(at: Server, *paths: str, user: User | None = None, consents: Any = (), **attributes: Any) -> Profile:  # noqa: ANN401
    """Change the profile of Alice, who has agreed to everything."""
    profile = Profile(consents=consents)
    if attributes:
        profile.attributes.update(attributes)
    request = UpdateProfileRequest(user=user or known("alice"), profile=profile, update_mask=FieldMask(paths=paths))
    told: Profile = at.profiles.UpdateProfile(request, timeout=10).profile
    return told


def consent(purpose: int, *, granted: bool, at: int | None = None) -> Consent:
    """Return a decision on a purpose."""
    made = Consent(purpose=purpose, granted=granted, recorded_by="app", source="settings 4.2")  # type: ignore[arg-type]
    if at is not None:
        made.decision_time.seconds = at
    return made


def refusal(call: Any, request: Any) -> tuple[int, list[str]]:  # noqa: ANN401
    """Return the code that a call ends with, and the fields it names."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)
    status: Any = rpc_status.from_call(caught.value)
    bad = error_details_pb2.BadRequest()
    fields = [one.field for detail in status.details if detail.Unpack(bad) for one in bad.field_violations]
    return status.code, fields


def test_nothing_is_known_of_a_stranger(at: Server) -> None:
    """Reading and exporting an unknown person is NOT_FOUND; erasing one succeeds."""
    assert (code_pb2.NOT_FOUND, []) == refusal(at.profiles.GetProfile, GetProfileRequest(user=ALICE))
    assert (code_pb2.NOT_FOUND, []) == refusal(at.profiles.ExportProfile, ExportProfileRequest(user=ALICE))
    response = at.profiles.DeleteProfile(DeleteProfileRequest(user=ALICE), timeout=10)
    assert DeleteProfileResponse(tombstone_expire_time=Timestamp(seconds=NOW + 400 * 86_400)) == response


@pytest.mark.parametrize("user", [User(), User(user_id="x" * 257), User(anonymous_id=""), User(user_id="a\0b")])
def test_a_person_must_be_named(at: Server, user: User) -> None:
    """Every call refuses a user without an id of 1 to 256 characters, by its path."""
    field = [f"user.{user.WhichOneof('identity') or 'user_id'}"]
    for call, request in (
        (at.profiles.GetProfile, GetProfileRequest(user=user)),
        (at.profiles.UpdateProfile, UpdateProfileRequest(user=user)),
        (at.profiles.DeleteProfile, DeleteProfileRequest(user=user)),
        (at.profiles.ExportProfile, ExportProfileRequest(user=user)),
    ):
        assert (code_pb2.INVALID_ARGUMENT, field) == refusal(call, request)


def test_attributes_are_changed_as_the_mask_says(at: Server) -> None:
    """Without a mask, given attributes are set; a path sets or removes one; "attributes" replaces all."""
    assert {"city": "Lyon", "age": 40.0} == dict(update(at, city="Lyon", age=40).attributes)
    assert {"city": "Paris", "age": 40.0} == dict(update(at, city="Paris").attributes)
    dotted: dict[str, Any] = {"a.b": True, "x": 1}
    assert {"city": "Paris", "a.b": True} == dict(update(at, "attributes.age", "attributes.a.b", **dotted).attributes)
    assert {"y": 2.0} == dict(update(at, "attributes", y=2).attributes)
    assert {} == dict(update(at, "attributes").attributes)
    assert {} == dict(get(at).attributes)


def test_attributes_have_limits(at: Server) -> None:
    """More than 100 entries or 16 KiB, stored ones included, are refused and leave the profile as it was."""
    hundred: dict[str, Any] = {f"a{number}": number for number in range(100)}
    update(at, **hundred)
    for more in ({"one": 1}, {"a0": "x" * (16 << 10)}):
        attributes = Struct()
        attributes.update(more)
        request = UpdateProfileRequest(user=known("alice"), profile=Profile(attributes=attributes))
        refused = code_pb2.INVALID_ARGUMENT, ["profile.attributes"]
        assert refused == refusal(at.profiles.UpdateProfile, request)
    assert 100 == len(get(at).attributes)
    assert 0.0 == get(at).attributes["a0"]


def test_invalid_updates_are_named(at: Server) -> None:
    """Unknown paths, unknown purposes and future times are all named in one refusal."""
    request = UpdateProfileRequest(
        user=known("alice"),
        profile=Profile(
            consents=[
                consent(0, granted=True),
                consent(99, granted=True),
                consent(2, granted=True, at=NOW + 301),
                Consent(purpose=CONSENT_PURPOSE_LEARNING, recorded_by="x" * 129, source="x" * 129),
            ]
        ),
        update_mask=FieldMask(paths=["attributes", "user", "attributes.", "order_count"]),
    )
    assert [
        "update_mask.paths[1]",
        "update_mask.paths[2]",
        "update_mask.paths[3]",
        "profile.consents[0].purpose",
        "profile.consents[1].purpose",
        "profile.consents[2].decision_time",
        "profile.consents[3].recorded_by",
        "profile.consents[3].source",
    ] == refusal(at.profiles.UpdateProfile, request)[1]


def test_the_last_decision_of_a_purpose_is_kept(at: Server) -> None:
    """Decisions are kept with time, recorder and source; the latest counts, in whatever order they come."""
    update(at, consents=[consent(CONSENT_PURPOSE_MESSAGING, granted=True, at=NOW - 5)])
    told = update(
        at,
        "consents",
        consents=[
            consent(CONSENT_PURPOSE_MESSAGING, granted=False, at=NOW - 9),
            consent(CONSENT_PURPOSE_LEARNING, granted=False),
        ],
        city="not in the mask",
    )
    assert [
        consent(CONSENT_PURPOSE_LEARNING, granted=False, at=NOW),
        consent(CONSENT_PURPOSE_MESSAGING, granted=True, at=NOW - 5),
    ] == list(told.consents)
    assert {} == dict(told.attributes)


def test_attributes_are_kept_with_consent_alone(at: Server) -> None:
    """Attributes need consent to profiling, given in the same call, stored, or in the request."""
    request = UpdateProfileRequest(user=ALICE)
    request.profile.attributes.update({"city": "Lyon"})
    assert code_pb2.FAILED_PRECONDITION == refusal(at.profiles.UpdateProfile, request)[0]
    assert code_pb2.NOT_FOUND == refusal(at.profiles.GetProfile, GetProfileRequest(user=ALICE))[0]
    request.profile.consents.append(consent(CONSENT_PURPOSE_PROFILING, granted=True))
    at.profiles.UpdateProfile(request, timeout=10)
    assert {"age": 4.0, "city": "Lyon"} == dict(update(at, user=ALICE, age=4).attributes)
    refused = User(user_id="alice", consent=ConsentGrants())
    again = UpdateProfileRequest(user=refused, profile=request.profile, update_mask=FieldMask(paths=["attributes"]))
    assert code_pb2.FAILED_PRECONDITION == refusal(
        at.profiles.UpdateProfile, again
    )[0]  # fmt: skip


def test_withdrawing_consent_leaves_the_decisions_alone(at: Server) -> None:
    """Refusing profiling removes all but the consent decisions, and later events leave no state."""
    update(at, consents=[consent(CONSENT_PURPOSE_PROFILING, granted=True, at=NOW - 9)], city="Lyon")
    at.report(event("e1", offer_id="lunch", click={}))
    update(at, consents=[consent(CONSENT_PURPOSE_PROFILING, granted=False)])
    event_without = event("e2", offer_id="lunch", click={})
    event_without.user.ClearField("consent")
    (result,) = at.report(event_without)
    assert [EventWarning.CODE_NO_CONSENT] == [warning.code for warning in result.warnings]
    state = at.state("u:alice")
    assert UserState(profile=Profile(consents=state.profile.consents)) == state
    assert [False] == [one.granted for one in state.profile.consents]


def test_withdrawing_consent_forgets_how_variants_were_drawn(at: Server) -> None:
    """After a withdrawal nothing derived from the visitor's id is left, even once consent is given again."""
    at.report(visitor_event("e1", "v1", NOW - 9))
    link(at, "v1")
    assert draw_of("a:v1") == at.state("u:alice").draw
    update(at, consents=[consent(CONSENT_PURPOSE_PROFILING, granted=False, at=NOW - 1)])
    assert 0 == at.state("u:alice").draw
    told = at.profiles.GetProfile(GetProfileRequest(user=VISITOR), timeout=10).profile
    assert [False] == [one.granted for one in told.consents]
    update(at, consents=[consent(CONSENT_PURPOSE_PROFILING, granted=True)], city="Lyon")
    assert 0 == at.state("a:v1").draw


def test_a_profile_tells_what_a_person_did(at: Server) -> None:
    """Totals, basket, affinities and life cycle follow the events."""
    food = {"category": "food", "product_id": "soup", "price": {"currency_code": "EUR", "units": 4}}
    at.report(
        event(
            "o",
            at=NOW - 60,
            order={"items": [food], "total": {"currency_code": "EUR", "units": 9, "nanos": 500_000_000}},
        ),
        event("b", at=NOW - 30, add_to_cart={"items": [{**food, "quantity": 2}]}),
    )
    told = get(at)
    assert (ALICE, 1, {"EUR": 9.5}) == (told.user, told.order_count, dict(told.spent))
    assert (NOW - 60, NOW - 30, NOW - 60) == (
        told.first_seen_time.seconds, told.last_seen_time.seconds, told.last_order_time.seconds,
    )  # fmt: skip
    assert (LIFE_CYCLE_NEW, 8, 2) == (told.life_cycle, told.basket.value.units, told.basket.items[0].quantity)
    assert {"food"} == set(told.affinities.categories)
    assert abs(1.5 / 4.5 - told.affinities.categories["food"]) < 1e-5


def link(at: Server, *visitors: str, user_id: str = "alice") -> Profile:
    """Link visitors to a user who has agreed to everything."""
    request = LinkIdentitiesRequest(user_id=user_id, anonymous_ids=visitors, consent=AGREED)
    told: Profile = at.profiles.LinkIdentities(request, timeout=10).profile
    return told


def visitor_event(event_id: str, visitor: str, second: int) -> Any:  # noqa: ANN401
    """Return a click of a visitor."""
    made = event(event_id, "", at=second, offer_id="lunch", click={})
    made.user.CopyFrom(User(anonymous_id=visitor, consent=AGREED))
    return made


def test_a_visitor_becomes_a_known_person(at: Server) -> None:
    """After a link, any id leads to the joint record, and linking again changes nothing."""
    at.report(visitor_event("e1", "v1", NOW - 9), event("e2", at=NOW - 8, offer_id="lunch", click={}))
    for _ in range(2):
        told = link(at, "v1", "v2")
        assert (["v1", "v2"], ALICE) == (list(told.anonymous_ids), told.user)
    at.report(visitor_event("e3", "v2", NOW - 7))
    assert [NOW - 8, NOW - 7] == at.counted("u:alice")[SPRING, CLICK]  # of the cap's two
    assert get(at) == get(at, VISITOR) == get(at, User(anonymous_id="v2"))
    assert [NOW - 9, NOW - 8, NOW - 7] == [recent.event_time.seconds for recent in at.state("a:v1").recent]
    link(at, "v1")
    assert 3 == len(at.state("u:alice").recent)


def test_caps_affinities_and_variants_survive_a_link(at: Server) -> None:
    """A link joins counts and shares, and keeps the earlier variant."""
    for person, variant, second in (("u:alice", "b", NOW - 5), ("a:v1", "a", NOW - 9)):
        assignment = VariantAssignment(experiment_id="x", variant_id=variant, exposure_time=Timestamp(seconds=second))
        state = UserState(assignments=[assignment])
        record = state.SerializeToString()
        at.served.stores.state.change([(person, lambda _, __, record=record: record)])  # type: ignore[misc]
    at.report(visitor_event("e1", "v1", NOW - 9), event("e2", at=NOW - 8, offer_id="lunch", click={}))
    before = get(at).affinities.categories["food"]
    link(at, "v1")
    state = at.state("u:alice")
    assert ["a"] == [assignment.variant_id for assignment in state.assignments]
    assert [NOW - 9, NOW - 8] == at.counted("u:alice")[SPRING, CLICK]
    assert before < get(at).affinities.categories["food"]


def test_variants_are_drawn_as_for_the_id_seen_first(at: Server) -> None:
    """After a link, variants are drawn as for the id that was seen first."""
    at.report(visitor_event("e1", "v1", NOW - 9), visitor_event("e2", "v2", NOW - 10))
    link(at, "v1")
    assert draw_of("a:v1") == at.state("u:alice").draw
    link(at, "v2")
    assert draw_of("a:v2") == at.state("u:alice").draw
    at.report(event("e3", "bob", at=NOW - 9, checkout_started={}), visitor_event("e4", "v3", NOW - 8))
    link(at, "v3", user_id="bob")
    assert draw_of("u:bob") == at.state("u:bob").draw


def test_a_visitor_may_move_to_another_person(at: Server) -> None:
    """A visitor linked to another user leads to that one; merged data stays."""
    at.report(visitor_event("e1", "v1", NOW - 9))
    link(at, "v1")
    link(at, "v1", user_id="bob")
    at.report(visitor_event("e2", "v1", NOW - 8))
    assert [NOW - 9] == at.counted("u:alice")[SPRING, CLICK]
    assert [NOW - 8] == at.counted("u:bob")[SPRING, CLICK]
    assert [[], ["v1"]] == [list(get(at, User(user_id=user)).anonymous_ids) for user in ("alice", "bob")]


def test_a_link_needs_consent_and_ids(at: Server) -> None:
    """A link without consent to profiling is refused; ids are checked by their paths."""
    request = LinkIdentitiesRequest(user_id="alice", anonymous_ids=["v1"])
    assert code_pb2.FAILED_PRECONDITION == refusal(at.profiles.LinkIdentities, request)[0]
    assert ["u:alice"] == at.served.stores.state.ids("u:alice")
    bad = LinkIdentitiesRequest(anonymous_ids=["v1", ""])
    assert ["user_id", "anonymous_ids[1]"] == refusal(at.profiles.LinkIdentities, bad)[1]
    many = LinkIdentitiesRequest(user_id="a", anonymous_ids=["v"] * 101)
    assert ["anonymous_ids"] == refusal(at.profiles.LinkIdentities, many)[1]


def test_an_export_gives_everything(at: Server) -> None:
    """An export has the profile, events of all ids with persons and geohashes, decisions and counts."""
    update(at, city="Lyon")
    asked = GetOffersRequest(context=Context(user=known("alice"), channel="app"))
    shown = OfferServiceStub(at.served.channel).GetOffers(asked, timeout=10)
    at.served.worker.recorder.flush()
    survey = CustomEvent(name="survey")
    survey.attributes["mood"] = "fine"
    sent = visitor_event("e1", "v1", NOW - 9)
    sent.location.latitude, sent.location.longitude, sent.session_id = 48.8674, 2.3636, "s1"
    at.report(
        sent,
        event(
            "e2",
            at=NOW - 8,
            catalog="corner",
            custom=survey,
        ),
    )
    link(at, "v1")
    told: ExportProfileResponse = at.profiles.ExportProfile(ExportProfileRequest(user=VISITOR), timeout=10)
    assert get(at) == told.profile
    sent.ClearField("location")
    sent.user.ClearField("consent")
    sent.catalog = "corner"
    assert sent == told.events[0]
    assert ("e2", ALICE, "fine") == (
        told.events[1].event_id, told.events[1].user, told.events[1].custom.attributes["mood"],
    )  # fmt: skip
    assert ["u09wjb", ""] == list(told.geohashes)
    (count,) = [count for count in told.counts if count.key == SPRING % 2**64]
    assert (CLICK, [NOW - 9]) == (count.kind, [time.seconds for time in count.times])
    (decision,) = told.decisions
    assert (shown.decision_id, ALICE, "corner", shown.catalog_version, "", "app") == (
        decision.decision_id, decision.user, decision.catalog, decision.catalog_version, decision.placement,
        decision.channel,
    )  # fmt: skip
    assert [offer.offer_id for offer in shown.offers] == list(decision.offer_ids)
    assert [offer.score for offer in shown.offers] == pytest.approx([math.exp(one) for one in decision.log_scores])


def test_an_export_has_every_field_of_a_decision() -> None:
    """Exported decisions have the same field numbers, names and types as decision records."""
    told = KeptDecision.DESCRIPTOR.fields_by_number
    for field in DecisionRecord.DESCRIPTOR.fields:
        same = told[field.number]
        assert (field.name, field.type, field.message_type) == (same.name, same.type, same.message_type)


def test_erasing_counts_the_events(at: Server) -> None:
    """Erasing by any id removes the events of all ids and returns their number; repeating is safe."""
    at.report(
        visitor_event("e1", "v1", NOW - 9), event("e2", checkout_started={}), event("e3", "bob", checkout_started={})
    )
    link(at, "v1")
    counts = [at.profiles.DeleteProfile(DeleteProfileRequest(user=VISITOR), timeout=10).event_count for _ in range(2)]
    assert [2, 0] == counts
    for user in (ALICE, VISITOR):
        assert code_pb2.NOT_FOUND == refusal(at.profiles.ExportProfile, ExportProfileRequest(user=user))[0]
    assert "bob" == get(at, User(user_id="bob")).user.user_id


def test_without_a_store_a_call_is_to_be_tried_again(at: Server) -> None:
    """An unreachable store ends calls with UNAVAILABLE and a retry delay."""
    file = at.folder / "state.db"
    at.served.stores.close()
    aside = file.rename(at.folder / "aside.db")
    file.mkdir()
    with pytest.raises(grpc.RpcError) as caught:
        get(at)
    status: Any = rpc_status.from_call(caught.value)
    retry = error_details_pb2.RetryInfo()
    assert (code_pb2.UNAVAILABLE, True) == (status.code, status.details[0].Unpack(retry))
    assert 1 == retry.retry_delay.seconds
    file.rmdir()
    aside.rename(file)


def test_numbers_that_are_not_exact_are_refused(at: Server) -> None:
    """Attributes are 64-bit floating point: from 2^53 on neighbours become equal, at any depth."""
    most = 2**53 - 1
    assert most == update(at, id=most, other={"ids": [-most]}, half=0.5).attributes["id"]
    with pytest.raises(grpc.RpcError) as caught:
        update(at, id=most + 1, other={"ids": [1, -most - 1]}, fine="9007199254740993")
    detail, *_ = rpc_status.from_call(caught.value).details
    bad = error_details_pb2.BadRequest()
    detail.Unpack(bad)

    assert ["profile.attributes.id", "profile.attributes.other.ids[1]"] == [one.field for one in bad.field_violations]
    assert all("2^53" in one.description and "send it as a text" in one.description for one in bad.field_violations)
    assert most == get(at).attributes["id"]
