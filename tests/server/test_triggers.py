"""Triggers over a real server and SQLite: when, to whom and what they send."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from offers.demo import catalogue as demo_catalogue
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_LEARNING,
    CONSENT_PURPOSE_MESSAGING,
    CONSENT_PURPOSE_PROFILING,
    ConsentGrants,
    ConsentPurpose,
    User,
)
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_service_pb2 import (
    DeleteProfileRequest,
    ExportProfileRequest,
    KeptTrigger,
    LinkIdentitiesRequest,
)
from offers.v1.trigger_pb2 import OfferTriggered
from tests.server.triggering import AWAY, BASKET, DAY, HEAD, HOUR, MINUTE, NOON, at, message_of, server

IDLE = 30 * MINUTE
MONTH = 30 * DAY
PROFILING, MESSAGING = CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_MESSAGING


def told(messages: list[OfferTriggered]) -> list[tuple[str, str, str]]:
    """Return which trigger sent whom which offer."""
    return [(one.trigger_id, one.user.user_id, one.proposition.offer_id) for one in messages]


def test_a_basket_left_behind_is_spoken_of_once(tmp_path: Path) -> None:
    """The best offer is sent at the second the basket has been idle for half an hour, and once only."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        running.report("ada", NOON + MINUTE, view={"item": {"category": "ramen"}})

        assert [] == running.look(NOON + IDLE - 1)
        assert [("basket", "ada", "delivery")] == told(running.look(NOON + IDLE))
        assert [] == [one for day in range(10) for one in running.look(NOON + IDLE + day * DAY)]
        assert [] == running.due("ada")


def test_a_message_says_all_that_is_needed_to_send_it(tmp_path: Path) -> None:
    """The message is a CloudEvent with the person and the proposition of GetOffers; the decision is logged."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        link = LinkIdentitiesRequest(user_id="ada", anonymous_ids=["phone"])
        running.profiles.LinkIdentities(link, timeout=10)
        running.look(NOON + IDLE + 5)
        (line,) = running.lines()
        message = message_of(line)
        request = GetOffersRequest(placement="push", max_offers=1)
        request.context.user.user_id = "ada"
        (asked,) = OfferServiceStub(running.served.channel).GetOffers(request, timeout=10).offers
        assert message.proposition.proposition_id.startswith(f"{message.decision_id}-1-")
        asked.proposition_id = message.proposition.proposition_id
        (logged,) = running.served.stores.events.decisions([message.decision_id])

    del line["data"]
    assert {
        "specversion": "1.0",
        "id": message.decision_id,
        "source": "/offers/corner",
        "type": "offers.v1.OfferTriggered",
        "time": "2026-11-18T11:30:05Z",
        "subject": "u:ada",
        "datacontenttype": "application/json",
    } == line
    assert ("basket", "corner", "push") == (message.trigger_id, message.catalog, message.placement)
    assert ["phone"] == list(message.anonymous_ids)
    assert (NOON + IDLE + 5, NOON + IDLE) == (message.time.seconds, message.condition_time.seconds)
    assert asked == message.proposition
    assert ("u:ada", NOON + IDLE + 5) == (logged.person, logged.second)
    assert ("corner", "push", ["delivery"]) == (
        logged.told().catalog,
        logged.told().placement,
        list(logged.told().offer_ids),
    )


def test_a_decision_that_depends_on_nobody_is_logged_as_well(tmp_path: Path) -> None:
    """A decision without limits and audiences is logged, too, so that events can refer to it."""
    head = HEAD.partition("segments:")[0] + HEAD[HEAD.index("offers:") :]
    with server(tmp_path, BASKET, head=head) as running:
        running.put_into_basket("ada", NOON)
        (message,) = running.look(NOON + IDLE)
        result = running.report(
            "ada", NOON + HOUR, click={}, proposition_id=message.proposition.proposition_id, catalog="corner"
        )
        running.look(NOON + HOUR)

        assert [] == list(result.warnings)
        assert ["delivery"] == [one.offer_id for one in running.state("ada").recent if one.offer_id]


def test_an_order_or_an_empty_basket_ends_the_occasion(tmp_path: Path) -> None:
    """An order or an emptied basket ends the occasion; later items begin a new one."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        running.report("ada", NOON + MINUTE, order={"order_id": "1"})
        running.put_into_basket("ben", NOON)
        running.report("ben", NOON + MINUTE, remove_from_cart={"items": [{"product_id": "ramen 0"}]})

        assert [] == running.look(NOON + IDLE + 5 * MINUTE)
        assert ([], []) == (running.due("ada"), running.due("ben"))
        running.put_into_basket("ada", NOON + HOUR)
        assert [("basket", "ada", "delivery")] == told(running.look(NOON + HOUR + IDLE))


def test_every_change_of_the_basket_puts_it_off(tmp_path: Path) -> None:
    """The delay counts from the last change, in whatever order events arrive."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        running.put_into_basket("ada", NOON + 20 * MINUTE)
        running.put_into_basket("ada", NOON + 10 * MINUTE)

        assert [] == running.look(NOON + 20 * MINUTE + IDLE - 1)
        assert [("basket", "ada", "delivery")] == told(running.look(NOON + 20 * MINUTE + IDLE))


@pytest.mark.parametrize(
    ("prices", "currency", "is_enough"), [([20, 10], "EUR", True), ([20, 9], "EUR", False), ([40], "USD", False)]
)
def test_a_basket_must_be_worth_it(tmp_path: Path, prices: list[int], currency: str, is_enough: bool) -> None:  # noqa: FBT001
    """Only a basket of the trigger's minimum value, in its currency, is an occasion."""
    least = "{trigger_id: rich, abandoned_basket: {idle: 600s, minimum_value: {currency_code: EUR, units: 30}}, "
    with server(tmp_path, least + "placement_id: push}") as running:
        for second, price in enumerate(prices):
            running.put_into_basket("ada", NOON + second, price, currency)

        assert is_enough == bool(running.look(NOON + 10 * MINUTE + 1))


def test_inactive_persons_are_sent_a_message(tmp_path: Path) -> None:
    """A message is sent once, a month after the last event; a return restarts the month."""
    with server(tmp_path, AWAY) as running:
        running.report("ada", NOON, view={"item": {"category": "ramen"}})

        assert [] == running.look(NOON + MONTH - 1)
        (message,) = running.look(NOON + MONTH)
        assert [] == running.look(NOON + MONTH + 2 * DAY)
        seen = NOON + MONTH + 2 * DAY
        running.report("ada", seen, impression={}, proposition_id=message.proposition.proposition_id)
        assert [seen + MONTH] == running.due("ada")
        assert [("away", "ada", "delivery")] == told(running.look(seen + MONTH))


def test_persons_who_stop_ordering_are_sent_a_message(tmp_path: Path) -> None:
    """The time counts from the last order, whatever else happened; without an order there is no occasion."""
    trigger = "{trigger_id: back, lapsing: {after: 864000s, since: SINCE_LAST_ORDER}, placement_id: push}"
    with server(tmp_path, trigger) as running:
        running.report("ada", NOON, order={"order_id": "1"})
        running.report("ada", NOON + 9 * DAY, view={"item": {"category": "ramen"}})
        running.report("ben", NOON, view={"item": {"category": "ramen"}})

        assert [("back", "ada", "delivery")] == told(running.look(NOON + 10 * DAY))
        assert [] == running.due("ben")


@pytest.mark.parametrize("purposes", [(PROFILING,), (MESSAGING, CONSENT_PURPOSE_LEARNING)])
def test_nobody_is_written_to_without_consent(tmp_path: Path, purposes: tuple[ConsentPurpose.ValueType, ...]) -> None:
    """Both PROFILING and MESSAGING are needed, as stored decisions; a request's consent does not count."""
    with server(tmp_path, BASKET, default_consent=("contextual",)) as running:
        running.consent("ada", granted=True, purposes=purposes)
        ada = User(user_id="ada", consent=ConsentGrants(purposes=[PROFILING, MESSAGING]))
        running.report(ada, NOON, add_to_cart={"items": [{"product_id": "ramen"}]})

        assert [] == running.due("ada")
        assert [] == running.look(NOON + IDLE)
        running.consent("ada", granted=True, purposes=(PROFILING, MESSAGING))
        assert [("basket", "ada", "delivery")] == told(running.look(NOON + IDLE + 1))


@pytest.mark.parametrize("purpose", [PROFILING, MESSAGING])
def test_withdrawing_consent_stops_messages(tmp_path: Path, purpose: ConsentPurpose.ValueType) -> None:
    """After a withdrawal the person is not due."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        running.consent("ada", granted=False, purposes=(purpose,))

        assert [] == running.due("ada")
        assert [] == running.look(NOON + IDLE)


def test_quiet_hours_are_kept(tmp_path: Path) -> None:
    """Occasions in quiet hours are sent at their end, by the catalogue's clock, without repeated checks meanwhile."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", at("2026-11-18 23:00"))

        assert [] == running.look(at("2026-11-18 23:30"))
        assert [at("2026-11-19 00:30")] == running.due("ada")
        hours = [one for hour in range(8) for one in running.look(at(f"2026-11-19 {hour:02}:30") - 1)]
        assert [] == hours
        assert [at("2026-11-19 08:00")] == running.due("ada")
        assert [] == running.look(at("2026-11-19 08:00") - 1)
        assert [("basket", "ada", "delivery")] == told(running.look(at("2026-11-19 08:00")))


@pytest.mark.parametrize(("day", "night_h"), [("2026-10-25", 11), ("2027-03-28", 9)])
def test_quiet_hours_end_by_the_clock_on_the_wall(tmp_path: Path, day: str, night_h: int) -> None:
    """In a night with a clock change, quiet hours are an hour longer or shorter."""
    begin = at(f"{day} 08:00") - night_h * HOUR
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", begin - IDLE)
        assert [] == running.look(begin)
        early = [one for minute in range(0, night_h * 60, 5) for one in running.look(begin + minute * MINUTE)]

        assert [] == early
        assert [("basket", "ada", "delivery")] == told(running.look(begin + night_h * HOUR))


def test_quiet_hours_are_by_the_person_s_own_clock(tmp_path: Path) -> None:
    """A time zone in the profile is used; an unknown one is ignored."""
    with server(tmp_path, BASKET) as running:
        for user, zone in (("ada", "America/New_York"), ("ben", "Mars/Olympus"), ("eve", "")):
            running.update(user, attributes={"time_zone": zone})
            running.put_into_basket(user, at("2026-11-18 12:00", ZoneInfo("America/New_York")) + 5 * HOUR)

        assert [("basket", "ada", "delivery")] == told(running.look(at("2026-11-18 23:30")))


def test_the_language_is_the_person_s(tmp_path: Path) -> None:
    """A language in the profile excludes offers in other languages."""
    head = HEAD.replace("value: 0.9}", "value: 0.9, language_codes: [fr]}")
    with server(tmp_path, BASKET, head=head) as running:
        for user, language in (("ada", "en"), ("ben", "fr-CA"), ("eve", "no language")):
            running.update(user, attributes={"language_code": language})
            running.put_into_basket(user, NOON)

        expected = [("basket", "ada", "dessert"), ("basket", "ben", "delivery"), ("basket", "eve", "delivery")]
        assert expected == sorted(told(running.look(NOON + IDLE)))


def test_nothing_is_sent_too_late(tmp_path: Path) -> None:
    """Nothing is sent after `within`, be it for lack of an offer or of a check."""
    trigger = "{trigger_id: soon, abandoned_basket: {}, placement_id: push, within: 7200s}"
    with server(tmp_path, trigger) as running:
        running.put_into_basket("ada", at("2026-11-18 22:00"))
        looks = [one for minute in range(60 * 15) for one in running.look(at("2026-11-18 22:00") + minute * MINUTE)]
        running.put_into_basket("ben", at("2026-11-20 12:00"))
        late = running.look(at("2026-11-20 12:00") + IDLE + 2 * HOUR + 1)
        running.put_into_basket("eve", at("2026-11-21 12:00"))

        assert ([], [], []) == (looks, late, running.due("ada"))
        assert [("soon", "eve", "delivery")] == told(running.look(at("2026-11-21 12:00") + IDLE + 2 * HOUR))


def test_events_of_long_ago_send_nothing(tmp_path: Path) -> None:
    """Importing old events sends nothing."""
    with server(tmp_path, BASKET, AWAY) as running:
        running.put_into_basket("ada", NOON - 365 * DAY)

        assert [] == running.due("ada")
        assert [] == running.look(NOON)


def test_the_contact_policy_counts_what_was_seen(tmp_path: Path) -> None:
    """When the contact policy is exhausted, nothing is sent until it permits more."""
    trigger = "{trigger_id: often, abandoned_basket: {}, placement_id: push, cool_down: 0s, within: 2592000s}"
    with server(tmp_path, trigger) as running:
        for day in range(3):
            running.put_into_basket("ada", NOON + day * DAY)
            for message in running.look(NOON + day * DAY + IDLE):
                proposition = message.proposition.proposition_id
                running.report("ada", NOON + day * DAY + IDLE + 1, impression={}, proposition_id=proposition)

        assert 2 == len(running.lines())
        hours = range(2 * 24 + 1, 10 * 24)
        later = [(hour, told(found)) for hour in hours if (found := running.look(NOON + hour * HOUR + IDLE + 1))]
        assert [(7 * 24, [("often", "ada", "delivery")])] == later


def test_a_person_is_left_in_peace_for_the_cool_down(tmp_path: Path) -> None:
    """Another basket within a day after a message waits for the end of the cool-down."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        running.look(NOON + IDLE)
        running.put_into_basket("ada", NOON + HOUR)

        assert [NOON + IDLE + DAY] == running.due("ada")
        assert [] == running.look(NOON + IDLE + DAY - 1)
        assert [("basket", "ada", "delivery")] == told(running.look(NOON + IDLE + DAY))


def test_one_of_several_triggers_is_sent(tmp_path: Path) -> None:
    """Of several triggers the first one with an offer is sent; the others are checked an hour later."""
    none = "{trigger_id: none, abandoned_basket: {}, placement_id: email}"
    head = HEAD.replace("value: 0.9}", "value: 0.9, placement_ids: [push]}").replace("0.3}", "0.3, channels: [push]}")
    second = "{trigger_id: second, abandoned_basket: {}, placement_id: push}"
    with server(tmp_path, none, BASKET, second, head=head) as running:
        running.put_into_basket("ada", NOON)

        assert ["basket"] == [one.trigger_id for one in running.look(NOON + IDLE)]
        assert [] == running.look(NOON + IDLE + HOUR - 1)
        assert ["second"] == [one.trigger_id for one in running.look(NOON + IDLE + HOUR)]


def test_a_segment_must_hold_when_it_is_looked_at(tmp_path: Path) -> None:
    """A person outside the segment is checked again an hour later; derived attributes hold as in decisions."""
    member = "{trigger_id: member, abandoned_basket: {}, segment_id: member, placement_id: push}"
    browsing = "{trigger_id: browsing, lapsing: {after: 3600s}, segment_id: browsing, placement_id: push}"
    with server(tmp_path, member, browsing) as running:
        running.put_into_basket("ada", NOON)
        running.update("ada", attributes={"member": False})

        assert [] == running.look(NOON + IDLE)
        running.update("ada", attributes={"member": True})
        assert [("member", "ada", "delivery")] == told(running.look(NOON + IDLE + HOUR))
        assert [] == running.look(NOON + 3 * HOUR)


def test_a_trigger_that_is_new_is_for_those_who_are_known(tmp_path: Path) -> None:
    """A new trigger also applies to persons last seen before it."""
    with server(tmp_path) as running:
        running.report("ada", NOON, view={"item": {"category": "ramen"}})
        running.look(NOON)
        assert [] == running.due("ada")
    with server(tmp_path, AWAY) as running:
        running.look(NOON + DAY)
        assert [NOON + MONTH] == running.due("ada")
    with server(tmp_path, AWAY.replace("2592000s", "1728000s")) as running:
        running.look(NOON + 2 * DAY)
        assert [NOON + 20 * DAY] == running.due("ada")
        assert [("away", "ada", "delivery")] == told(running.look(NOON + 20 * DAY))


def test_a_trigger_that_comes_back_is_for_those_who_came_meanwhile(tmp_path: Path) -> None:
    """A restored trigger also applies to persons first seen without it."""
    for triggers in ([AWAY], [], [AWAY]):
        with server(tmp_path, *triggers) as running:
            running.look(NOON)
            due = running.due("ada")
            if not triggers:
                running.report("ada", NOON, view={"item": {"category": "ramen"}})

    assert [NOON + MONTH] == due


def test_a_trigger_that_is_taken_away_sends_nothing_and_is_forgotten(tmp_path: Path) -> None:
    """A removed trigger makes nobody due, and its marks go with the next check."""
    with server(tmp_path, BASKET, AWAY) as running:
        running.put_into_basket("ada", NOON)
        running.look(NOON + IDLE)
        assert ["basket"] == [one.trigger_id for one in running.state("ada").triggers]
    with server(tmp_path, AWAY) as running:
        running.look(NOON + DAY)
        running.look(NOON + MONTH)
        assert ["away"] == [one.trigger_id for one in running.state("ada").triggers]


def test_a_visitor_s_basket_is_the_user_s(tmp_path: Path) -> None:
    """A visitor who becomes a user is sent a message as the user, and once only."""
    with server(tmp_path, BASKET) as running:
        running.put_into_basket("ada", NOON)
        link = LinkIdentitiesRequest(user_id="ada", anonymous_ids=["phone"])
        running.report(User(anonymous_id="phone"), NOON + 1, add_to_cart={"items": [{"product_id": "soba"}]})
        running.look(NOON + IDLE)
        running.profiles.LinkIdentities(link, timeout=10)

        assert [] == running.look(NOON + IDLE + 1)
        assert [] == running.look(NOON + 2 * DAY)


def test_the_erased_are_not_due_and_the_export_tells_what_is_kept(tmp_path: Path) -> None:
    """ExportProfile has the marks of triggers; DeleteProfile removes them and the due second."""
    with server(tmp_path, BASKET, AWAY) as running:
        running.put_into_basket("ada", NOON)
        running.look(NOON + IDLE)
        ada = User(user_id="ada")
        export = running.profiles.ExportProfile(ExportProfileRequest(user=ada), timeout=10)
        kept = KeptTrigger(catalog="corner", trigger_id="basket", sent=True)
        kept.begin_time.seconds, kept.last_sent_time.seconds = NOON, NOON + IDLE
        running.profiles.DeleteProfile(DeleteProfileRequest(user=ada), timeout=10)

        assert [kept] == list(export.triggers)
        assert [] == running.due("ada")
        assert [] == running.look(NOON + MONTH + IDLE)


def test_the_demo_has_a_trigger_that_sends(tmp_path: Path) -> None:
    """A person of the demo who has not ordered for a month gets an offer of the weekly mail."""
    with server(tmp_path, source=demo_catalogue()) as running:
        running.report("ada", NOON, order={"order_id": "1"})
        (message,) = running.look(NOON + MONTH)

    assert ("miss-you", "ada", "email_digest") == (message.trigger_id, message.user.user_id, message.placement)
    assert message.proposition.offer_id
