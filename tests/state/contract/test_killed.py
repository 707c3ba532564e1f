"""Processes are killed at random: every event has one effect, and no budget is oversold."""

import itertools
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import orjson

from offers.settings import Settings
from offers.state.ledger import Redemption
from offers.state.opening import Stores
from tests.state.contract import actors
from tests.state.contract.backends import actor

PROCESSES, THREADS = 4, 16


def test_every_event_has_one_effect_however_often_it_is_sent(
    settings: Settings, stores: Stores, tmp_path: Path
) -> None:
    """Processes that report the same events are killed at random; then all events are sent once more.

    Each has been counted once: recovery counts those that were logged and not applied.
    """
    choose = random.Random(1)
    begun, last, rounds = tmp_path / "begun", 0, 0
    while (rounds < 8 or last <= 8) and rounds < 40:  # on a busy machine a round does not get far
        rounds += 1
        before = begun.stat().st_size if begun.exists() else 0
        children = [actor("report", settings, 10_000, begun) for _ in range(2)]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not begun.exists() or begun.stat().st_size == before):
            time.sleep(0.01)
        time.sleep(choose.uniform(0, 0.3))  # some way on
        for child in children:
            child.kill()
            child.wait()
        last = max(map(int, begun.read_text("utf-8").splitlines()))
    waiting = stores.events.unapplied(100_000)
    actors.apply(stores, waiting)
    sent = [event for number in range(last + 1) for event in actors.batch(number)]
    new = [event for event, is_new in zip(sent, stores.events.append(sent), strict=True) if is_new]
    actors.apply(stores, new)

    assert last > 8
    assert [] == stores.events.unapplied(1)
    assert sorted(event.event_id for event in sent) == sorted(
        position.event.event_id for position in stores.events.read(0, len(sent) + 1)
    )
    for person in actors.PERSONS:
        state = orjson.loads(stores.state.read(person))
        assert (last + 1) * actors.BATCH // 4 == state["count"] == len(set(state["applied"]))


def test_no_budget_is_oversold_by_clients_who_are_killed(
    state_settings: Settings, state_stores: Stores, tmp_path: Path
) -> None:
    """Sixty-four clients redeem at random while their processes are killed and replaced.

    Usage never exceeds a limit. In the end it is exactly what was confirmed; all else was released.
    """
    ledger = state_stores.ledger
    choose = random.Random(2)
    names = itertools.count()
    campaign = actors.CAMPAIGN_UNITS - 1  # in the period
    most = {"campaign": campaign, **dict.fromkeys(actors.OFFERS, actors.OFFER_UNITS)}

    def begin() -> "subprocess.Popen[bytes]":
        name = next(names)
        return actor("redeem", state_settings, THREADS, name, tmp_path / f"begun-{name}")

    def used() -> dict[tuple[str, int], int]:
        found = list(ledger.usage())
        assert [] == [one for one in found if one.units > most[one.budget] or one.micros > campaign * 1_500_000]
        return {(one.budget, one.period): one.units for one in found if one.units}

    children = [begin() for _ in range(PROCESSES)]
    deadline = time.monotonic() + 90
    killed = 0
    while time.monotonic() < deadline and (killed < 8 or used().get(("campaign", 0), 0) < campaign - 3):
        for _ in range(choose.randint(1, 20)):
            used()
            time.sleep(0.02)
        if used():  # they have begun
            number = choose.randrange(PROCESSES)
            assert children[number].poll() is None
            children[number].kill()
            children[number].wait()
            children[number] = begin()
            killed += 1
    for child in children:
        child.kill()
        child.wait()
    assert used()["campaign", 0] >= campaign - 3

    ledger.expire(actors.HOLD_S)
    confirmed: Counter[tuple[str, int]] = Counter()
    for journal in tmp_path.glob("begun-*"):
        for line in journal.read_text("utf-8").splitlines():
            redemption, offer = line.split()
            outcome = ledger.release(Redemption(redemption), actors.HOLD_S)
            if outcome.reason == "confirmed":
                units = outcome.kept.amounts.units or 0
                confirmed.update({(offer, 0): units, ("campaign", 0): units, ("campaign", 500): units})
    assert confirmed == used()
    rest = campaign - confirmed["campaign", 0]
    demands = [one._replace(budget="campaign", max_units=campaign) for one in actors.demands_of("", 1)[:1]]
    left = [Redemption(f"rest-{one}", demands=demands) for one in range(rest + 1)]
    assert [True] * rest + [False] == [ledger.confirm(one, 1).done for one in left]
