"""Transactions over log and state, in one file and in several."""

from contextlib import suppress

from offers.settings import Settings
from offers.state.opening import Stores, open_stores
from tests.state.contract.test_events import event, ids
from tests.state.contract.test_ledger import asked, refusal, units, used
from tests.state.contract.test_state import adding, joined, to


class StopError(Exception):
    """An interruption of a transaction."""


def test_all_or_nothing_is_kept_in_one_file(settings: Settings, stores: Stores) -> None:
    """In one file, an interruption leaves neither log nor state; elsewhere earlier calls stay."""
    shared = not settings.events_url
    with suppress(StopError), stores.events.together(stores.state) as is_whole:
        assert shared == is_whole
        assert [True] == stores.events.append([event("e1")], applied=is_whole)
        stores.state.change([("u:1", to(b"one"))])
        assert (["e1"], b"one") == (ids(stores.events), stores.state.read("u:1"))
        raise StopError

    assert ([] if shared else ["e1"]) == ids(stores.events)
    assert (b"" if shared else b"one") == stores.state.read("u:1")
    with stores.events.together(stores.state) as is_whole:
        assert [shared] == stores.events.append([event("e1")], applied=is_whole)
        stores.state.change([("u:1", to(b"again"))])
    assert b"again" == stores.state.read("u:1")
    assert ([] if shared else ["e1"]) == [one.event_id for one in stores.events.unapplied(9)]


def test_events_may_be_logged_with_their_effect(events_stores: Stores) -> None:
    """Events logged as applied wait for no confirmation; earlier unconfirmed ones still do."""
    log = events_stores.events
    log.append([event("e1")])

    assert [False, True] == log.append([event("e1"), event("e2")], applied=True)
    assert ["e1"] == [one.event_id for one in log.unapplied(9)]


def test_changes_after_a_look_see_earlier_changes(stores: Stores) -> None:
    """A change after a look sees earlier changes, by every id of the person."""
    state = stores.state
    state.change([("u:1", to(b"user"))])
    state.link("u:1", "a:1", joined)
    with stores.events.together(state):
        assert [(b"user", -1), (b"user", -1), (b"", -1)] == state.look(["u:1", "a:1", "u:2"])
        state.change([("u:1", adding(b"1")), ("a:1", adding(b"2")), ("u:2", to(b"x")), ("u:2", adding(b"3"))])
        state.change([("a:1", adding(b"4")), ("u:2", adding(b"5"))])

    assert [b"user124", b"x35"] == [state.read(person) for person in ("a:1", "u:2")]


def test_a_look_is_forgotten_with_its_transaction(settings: Settings, stores: Stores) -> None:
    """A change in a later transaction sees what others wrote since the look."""
    others = open_stores(settings)
    stores.state.change([("u:1", to(b"1"))])
    with stores.events.together(stores.state):
        stores.state.look(["u:1"])
    others.state.change([("u:1", adding(b"2"))])
    stores.state.change([("u:1", adding(b"3"))])
    others.close()

    assert b"123" == stores.state.read("u:1")


def test_a_step_that_is_refused_is_undone_alone(stores: Stores) -> None:
    """A reservation refused by its second budget undoes only itself within a transaction."""
    with stores.events.together(stores.state):
        stores.state.change([("u:1", to(b"kept"))])
        outcome = stores.ledger.reserve(asked("r1", units("a", 1), units("b", 2, 1)), 0, 10)
        assert ("exhausted", "b") == refusal(outcome)
        assert stores.ledger.reserve(asked("r2", units("b", 1, 1)), 0, 10).done

    assert (b"kept", {("b", 0): (1, 0)}) == (stores.state.read("u:1"), used(stores.ledger))
