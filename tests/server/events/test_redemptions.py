"""Redemptions from reservation to reversal, over a real server and SQLite."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2

from offers.catalogue.publish import publish
from offers.model.keys import key_of
from offers.server.process.worker import warm_engine
from offers.testing import serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING, ConsentGrants, Context, User
from offers.v1.event_pb2 import Event, EventKind, RedemptionEvent
from offers.v1.event_service_pb2 import EventResult
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_service_pb2 import DeleteProfileRequest, ExportProfileRequest, LinkIdentitiesRequest
from tests.server.persons import AGREED, NOW, Server

DAY = 86_400
CATALOG = """
catalog_id: till
time_zone: Europe/Paris
campaigns:
  - campaign_id: spring
    budget: {amount: {currency_code: EUR, units: 20}}
    redemption_caps: [{max_count: 3}]
offers:
  - {offer_id: units, title: Five, benefit: {percent_off: 10}, target: {everywhere: true}, budget: {units: 5}}
  - {offer_id: other, title: Six, benefit: {percent_off: 10}, target: {everywhere: true}, budget: {units: 6}}
  - {offer_id: money, title: Money, benefit: {percent_off: 10}, target: {everywhere: true}, campaign_id: spring,
     budget: {amount: {currency_code: EUR, units: 10}}}
  - {offer_id: once, title: Once, benefit: {percent_off: 10}, target: {everywhere: true}, budget: {units: 50},
     redemption_caps: [{max_count: 1}]}
  - {offer_id: daily, title: Daily, benefit: {percent_off: 10}, target: {everywhere: true}, campaign_id: spring,
     redemption_caps: [{max_count: 1, calendar: CALENDAR_PERIOD_DAY}]}
  - {offer_id: weekly, title: Weekly, benefit: {percent_off: 10}, target: {everywhere: true},
     redemption_caps: [{max_count: 2, rolling: 604800s}]}
"""
OK, EXHAUSTED, FAILED = 0, code_pb2.RESOURCE_EXHAUSTED, code_pb2.FAILED_PRECONDITION


class Till:
    """A server, and steps of redemptions on it; every step is an event of its own."""

    def __init__(self, server: Server) -> None:
        self.server, self.count = server, 0

    def event(self, phase: str, name: str, offer: str, user: str = "u:ada", **fields: Any) -> Event:  # noqa: ANN401
        """Return a step. `user` is "u:" or "a:" with an id, or "" for nobody; `late` are seconds before now."""
        self.count += 1
        made = Event(event_id=fields.pop("event_id", f"e{self.count}"), offer_id=offer)
        made.event_time.seconds = int(self.server.clock[0]) - fields.pop("late", 0)
        kind, _, name_of_user = user.partition(":")
        if user:
            consent = fields.pop("consent", AGREED)
            who = User(user_id=name_of_user) if kind == "u" else User(anonymous_id=name_of_user)
            made.user.CopyFrom(who)
            made.user.consent.CopyFrom(consent)
        if "euros" in fields:
            euros = fields.pop("euros")
            fields["amount"] = {"currency_code": fields.pop("currency", "EUR"), "units": int(euros)}
        phase_number = RedemptionEvent.Phase.Value(f"PHASE_{phase.upper()}")
        made.redemption.MergeFrom(RedemptionEvent(phase=phase_number, redemption_id=name, **fields))
        return made

    def do(self, phase: str, name: str, offer: str = "units", user: str = "u:ada", **fields: Any) -> EventResult:  # noqa: ANN401
        """Take a step."""
        return self.server.report(self.event(phase, name, offer, user, **fields))[0]

    def code(self, phase: str, name: str, offer: str = "units", user: str = "u:ada", **fields: Any) -> int:  # noqa: ANN401
        """Take a step, and return its code."""
        return int(self.do(phase, name, offer, user, **fields).status.code)

    def used(self, name: str) -> tuple[int, int]:
        """Return the units and whole euros used of a budget."""
        found = {one.budget: one for one in self.server.served.stores.ledger.usage() if one.period == 0}
        one = found.get(f"till/{name}")
        return (one.units, one.micros // 1_000_000) if one else (0, 0)

    def shown(self, user: str = "ada") -> set[str]:
        """Return the offers that are shown to a user."""
        context = Context(user=User(user_id=user, consent=AGREED))
        context.time.seconds = int(self.server.clock[0])
        response = OfferServiceStub(self.server.served.channel).GetOffers(GetOffersRequest(context=context), timeout=10)
        return {one.offer_id for one in response.offers}

    def link(self, user: str, visitor: str) -> None:
        """Let a visitor sign in."""
        request = LinkIdentitiesRequest(user_id=user, anonymous_ids=[visitor], consent=AGREED)
        self.server.profiles.LinkIdentities(request, timeout=10)


@pytest.fixture
def till(tmp_path: Path) -> Iterator[Till]:
    """A server with empty stores."""
    source, clock = tmp_path / "catalog.yaml", [float(NOW)]
    source.write_text(CATALOG, encoding="utf-8")
    with serving(source, clock=lambda: clock[0], data_dir=tmp_path / "data") as served:
        yield Till(Server(served, tmp_path / "data", clock))


def test_more_units_than_reserved_are_taken_or_refused(till: Till) -> None:
    """A confirmation of more takes the rest of the budget; when it is empty, nobody else gets anything."""
    assert OK == till.code("reserve", "r", units=1)
    assert OK == till.code("confirm", "r", units=5)
    assert (5, 0) == till.used("offer:units")
    assert [EXHAUSTED] * 4 == [till.code("confirm", f"r{number}") for number in range(4)]
    assert (5, 0) == till.used("offer:units")


def test_more_money_than_is_left_is_refused_and_the_reservation_stays(till: Till) -> None:
    """All budgets of an offer have enough for the rest, or nothing changes."""
    assert OK == till.code("reserve", "r", "money", euros=2)
    assert EXHAUSTED == till.code("confirm", "r", "money", euros=50)
    assert ((1, 2), (1, 2)) == (till.used("offer:money"), till.used("campaign:spring"))
    assert OK == till.code("confirm", "r", "money", euros=10)
    assert ((1, 10), (1, 10)) == (till.used("offer:money"), till.used("campaign:spring"))


def test_less_than_reserved_gives_the_rest_back(till: Till) -> None:
    """A confirmation of less frees the rest; one that tells no amounts confirms those of the reservation."""
    till.do("reserve", "r1", units=3)
    till.do("reserve", "r2", units=2)
    assert EXHAUSTED == till.code("reserve", "r3")
    assert [OK, OK] == [till.code("confirm", "r1", units=1), till.code("confirm", "r2")]
    assert (3, 0) == till.used("offer:units")


def test_a_confirmation_after_the_hold_has_the_amounts_of_the_reservation(till: Till) -> None:
    """An expired reservation is taken anew with its own amounts, if there is enough left."""
    till.do("reserve", "r1", units=3, hold={"seconds": 10})
    till.do("reserve", "r2", "money", euros=9, hold={"seconds": 10})
    till.server.clock[0] += 10
    till.do("confirm", "other", units=2)
    assert [OK, OK] == [till.code("confirm", "r1"), till.code("confirm", "r2", "money")]
    assert ((5, 0), (1, 9)) == (till.used("offer:units"), till.used("offer:money"))


@pytest.mark.parametrize(
    ("step", "both"),
    [
        ({"offer": "other"}, ("'money'", "'other'")),
        ({"offer": "money", "user": "u:bob"}, ("'u:ada'", "'u:bob'")),
        ({"offer": "money", "euros": 2, "currency": "USD"}, ("EUR", "USD")),
    ],
)
@pytest.mark.parametrize("phase", ["reserve", "confirm"])
def test_one_redemption_is_about_one_thing(till: Till, phase: str, step: dict[str, Any], both: tuple[str, str]) -> None:
    """Another offer, person or currency under the same id is refused, and the message names both."""
    till.do("reserve", "r", "money", euros=2)
    status = till.do(phase, "r", **step).status
    assert FAILED == status.code
    assert all(name in status.message for name in both)
    assert ((1, 2), (0, 0)) == (till.used("offer:money"), till.used("offer:other"))
    assert OK == till.code("confirm", "r", "money", euros=2)


@pytest.mark.parametrize(("phase", "given"), [("confirm", {"units": 2}), ("reverse", {"units": 2})])
def test_a_confirmed_redemption_keeps_its_amounts(till: Till, phase: str, given: dict[str, Any]) -> None:
    """Confirming again with other amounts is refused, as is reversing a part; the message names both."""
    till.do("confirm", "r", units=3)
    status = till.do(phase, "r", **given).status
    assert (FAILED, "the redemption 'r' is of 3 units, not 2") == (status.code, status.message)
    assert (3, 0) == till.used("offer:units")


def test_a_step_reported_by_another_event_is_a_duplicate(till: Till) -> None:
    """A confirmation or reversal that is reported twice counts once, for budgets, persons and the log."""
    for phase in ("reserve", "confirm", "reverse"):
        results = [till.do(phase, "r", "once") for _ in range(3)]
        assert [False, True, True] == [one.duplicate for one in results]
        assert [OK] * 3 == [one.status.code for one in results]
    assert 3 == len(till.server.served.stores.events.read(0, 99))
    assert (0, 0) == till.used("offer:once")


def test_a_reversal_gives_all_back_once(till: Till) -> None:
    """Budgets and counts are as before; the id is used up."""
    till.do("reserve", "r", "once")
    assert "once" in till.shown()
    till.do("confirm", "r", "once", late=5)
    key = key_of("offer", "till", "once"), EventKind.EVENT_KIND_REDEMPTION
    assert {key: [NOW - 5]} == till.server.counted("u:ada")
    assert "once" not in till.shown()

    assert OK == till.code("reverse", "r", "once")
    assert ((0, 0), {}) == (till.used("offer:once"), till.server.counted("u:ada"))
    assert [] == list(till.server.state("u:ada").recent)
    assert "once" in till.shown()
    assert [FAILED] * 3 == [till.code(phase, "r", "once") for phase in ("reserve", "confirm", "release")]
    assert OK == till.code("confirm", "again", "once")


@pytest.mark.parametrize("before", [[], ["reserve"], ["reserve", "release"]])
def test_only_confirmed_redemptions_are_reversed(till: Till, before: list[str]) -> None:
    """A reversal of anything else is refused."""
    for phase in before:
        till.do(phase, "r")
    used = till.used("offer:units")
    assert FAILED == till.code("reverse", "r")
    assert used == till.used("offer:units")


def test_steps_in_one_batch_are_taken_in_their_order(till: Till) -> None:
    """A batch that confirms and reverses leaves nothing, and the log knows what was reversed."""
    names = ("reserve", "confirm", "reverse")
    results = till.server.report(*(till.event(phase, "r", "once", units=2) for phase in names))
    assert [EventResult()] * 3 == results
    assert ((0, 0), {}) == (till.used("offer:once"), till.server.counted("u:ada"))
    reversal = Event.FromString(till.server.served.stores.events.read(0, 9)[-1].event.body).redemption
    assert ("e2", NOW, 2) == (reversal.confirm_event_id, reversal.confirm_time.seconds, reversal.units)


def test_steps_without_a_person_are_those_of_the_person_before(till: Till) -> None:
    """A till and a back office need not know the person: counts are the reserving person's."""
    till.do("reserve", "r", "once")
    till.do("confirm", "r", "once", user="")
    assert "once" not in till.shown()
    assert [EXHAUSTED, OK] == [till.code("reserve", "r2", "once"), till.code("reverse", "r", "once", user="")]
    assert "once" in till.shown()
    assert OK == till.code("reserve", "r3", "once")


def test_a_reversal_is_attributed_as_its_redemption(till: Till) -> None:
    """The log has the proposition of the confirmation, for learning."""
    proposition = "01a" + "b" * 23 + "-1"
    shown = Event(event_id="click", offer_id="once", proposition_id=proposition)
    shown.click.SetInParent()
    shown.event_time.seconds = NOW - 60
    shown.user.CopyFrom(User(user_id="ada", consent=AGREED))
    till.server.report(shown)
    till.do("confirm", "r", "once")
    till.do("reverse", "r", "once", user="")
    confirm, reversal = (Event.FromString(one.event.body) for one in till.server.served.stores.events.read(0, 9)[-2:])
    assert [proposition] * 2 == [confirm.attributed_proposition_id, reversal.attributed_proposition_id]


def test_a_cap_on_redemptions_is_kept_at_reservation_and_confirmation(till: Till) -> None:
    """Reservations count; what is released, expired or reversed does not; the message names the cap."""
    assert OK == till.code("reserve", "r1", "once")
    refused = till.do("confirm", "r2", "once").status
    assert (EXHAUSTED, EXHAUSTED) == (refused.code, till.code("reserve", "r2", "once"))
    assert "1 in all (offer once)" in refused.message
    till.do("release", "r1", "once")
    assert OK == till.code("reserve", "r2", "once", hold={"seconds": 10})
    till.server.clock[0] += 10
    till.server.served.stores.ledger.expire(int(till.server.clock[0]))
    assert OK == till.code("confirm", "r3", "once")
    assert EXHAUSTED == till.code("confirm", "r2", "once")
    assert OK == till.code("reserve", "r4", "once", user="u:bob")
    assert OK == till.code("confirm", "r5", "once", user="")
    assert OK == till.code("confirm", "r6", "once", user="")


def test_caps_have_windows_and_campaigns(till: Till) -> None:
    """A cap a day ends at midnight where the catalogue is, a rolling one later; a campaign's is over its offers."""
    midnight = NOW - NOW % DAY + DAY - 3_600  # in Paris, in winter
    till.server.clock[0] = midnight - 10.0
    assert [OK, EXHAUSTED] == [till.code("confirm", f"d{number}", "daily") for number in range(2)]
    assert "daily" not in till.shown()
    till.server.clock[0] = float(midnight)
    assert "daily" in till.shown()
    assert EXHAUSTED == till.code("confirm", "d2", "daily", late=5)
    assert [OK, OK] == [till.code("confirm", "d3", "daily"), till.code("confirm", "m1", "money", euros=1)]
    assert EXHAUSTED == till.code("confirm", "m2", "money", euros=1)
    assert {"daily", "money"}.isdisjoint(till.shown())

    codes = [till.code("confirm", f"w{number}", "weekly") for number in range(3)]
    assert [OK, OK, EXHAUSTED] == codes
    till.server.clock[0] += 604_800
    assert OK == till.code("confirm", "w4", "weekly")


def test_late_confirmations_count_when_they_happened(till: Till) -> None:
    """Confirmations of the past fill the windows of their own time, in any order."""
    codes = [till.code("confirm", f"w{days}", "weekly", late=days * DAY) for days in (20, 19, 1, 6, 5, 12, 13, 14)]
    assert [OK, OK, OK, OK, EXHAUSTED, OK, OK, EXHAUSTED] == codes


def test_caps_count_over_all_ids_of_a_person(till: Till) -> None:
    """A guest who has redeemed and signs in has redeemed; so has every other device."""
    assert [OK, EXHAUSTED] == [till.code("confirm", f"g{number}", "once", user="a:phone") for number in range(2)]
    till.link("ada", "phone")
    till.link("ada", "laptop")
    assert [EXHAUSTED] * 2 == [till.code("reserve", f"r-{user}", "once", user=user) for user in ("u:ada", "a:laptop")]
    assert OK == till.code("confirm", "g3", "once", user="a:tablet")


def test_a_reservation_of_a_guest_is_confirmed_after_sign_in(till: Till) -> None:
    """The guest and the user are one person, whoever confirms."""
    till.do("reserve", "r", "once", user="a:phone")
    till.link("ada", "phone")
    assert [OK, FAILED] == [till.code("confirm", "r", "once"), till.code("reverse", "r", "once", user="u:bob")]


def test_caps_hold_without_consent_and_keep_no_id(till: Till) -> None:
    """A person who has not agreed to profiling is counted under a hash alone."""
    nothing = ConsentGrants()
    codes = [till.code("confirm", f"r{number}", "once", user="u:somebody", consent=nothing) for number in range(2)]
    assert [OK, EXHAUSTED] == codes
    assert b"" == till.server.served.stores.state.read("u:somebody")
    assert all(b"somebody" not in path.read_bytes() for path in till.server.folder.glob("state.db*"))


def test_what_caps_count_is_exported_and_erased(till: Till) -> None:
    """An export has the redemptions that caps count; an erasure removes them."""
    till.do("confirm", "r1", "once")
    till.do("reserve", "r2", "weekly")
    who = User(user_id="ada")
    exported = till.server.profiles.ExportProfile(ExportProfileRequest(user=who), timeout=10).redemptions
    keys = {key_of("offer", "till", name) % 2**64 for name in ("once", "weekly")}
    assert keys == {one.key for one in exported}
    assert [NOW] * 2 == [one.times[0].seconds for one in exported]
    till.server.profiles.DeleteProfile(DeleteProfileRequest(user=who), timeout=10)
    till.server.clock[0] += 1
    assert OK == till.code("confirm", "r3", "once")


def test_a_hold_is_confirmed_though_the_offer_is_gone(till: Till) -> None:
    """What was reserved stays promised when the catalogue changes, and can be reversed afterwards."""
    till.do("reserve", "r", "money", euros=4)
    source = till.server.folder.parent / "catalog.yaml"
    source.write_text(CATALOG.replace("offer_id: money", "offer_id: moneyless"), encoding="utf-8")
    till.server.served.worker.live.swap([warm_engine(publish(source, till.server.folder).path)])
    assert OK == till.code("confirm", "r", "money")
    assert (1, 4) == till.used("campaign:spring")
    assert OK == till.code("reverse", "r", "money")
    assert (0, 0) == till.used("campaign:spring")


def test_nothing_of_the_server_s_own_can_be_sent(till: Till) -> None:
    """A caller cannot say what a reversal reverses."""
    till.do("confirm", "r", "once")
    till.do("reverse", "r", "once", confirm_event_id="forged", confirm_time={"seconds": 1})
    reversal = Event.FromString(till.server.served.stores.events.read(0, 9)[-1].event.body).redemption
    assert ("e1", NOW) == (reversal.confirm_event_id, reversal.confirm_time.seconds)


def test_consent_of_the_log_is_not_needed_for_a_reversal(till: Till) -> None:
    """Without consent to learning a reversal gives back all the same."""
    grants = ConsentGrants(purposes=[CONSENT_PURPOSE_PROFILING])
    till.do("confirm", "r", "once", consent=grants)
    assert OK == till.code("reverse", "r", "once", consent=grants)
    assert {} == till.server.counted("u:ada")
