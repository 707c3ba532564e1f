"""Processes that use stores; tests start many of them, and kill them."""

import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from offers.settings import Settings
from offers.state.ledger import Amounts, Demand, Redemption
from offers.state.opening import Stores, open_stores
from offers.state.stores import Change, LoggedEvent
from offers.v1.event_pb2 import EVENT_KIND_CLICK

PERSONS = ("u:1", "a:1", "u:2", "u:3")
BATCH = 20
OFFER_UNITS, CAMPAIGN_UNITS = 150, 400
OFFERS = ("offer-1", "offer-2", "offer-3", "offer-4")
"""Together they have more units than their campaign."""
HOLD_S = 1_000


def count(stores: Stores, times: str) -> None:
    """Add one to the records of one to three persons, repeatedly."""
    for _ in range(int(times)):
        stores.state.change([(one, lambda record, _: b"%d" % (int(record or 0) + 1)) for one in ("u:1", "a:1", "u:2")])


def counting(event_id: str) -> Change:
    """Return a change that counts an event once."""

    def change(record: bytes, _erased: int) -> bytes | None:
        state = orjson.loads(record or b'{"count": 0, "applied": []}')
        if event_id in state["applied"]:
            return None
        return orjson.dumps({"count": state["count"] + 1, "applied": [*state["applied"], event_id]})

    return change


def apply(stores: Stores, events: list[LoggedEvent]) -> None:
    """Apply events, and confirm them."""
    stores.state.change([(event.person, counting(event.event_id)) for event in events])
    stores.events.applied([event.event_id for event in events])


def batch(number: int) -> list[LoggedEvent]:
    """Return the events of a batch, which are the same for every process."""
    return [
        LoggedEvent(
            f"e{number}-{one}", PERSONS[one % 4], number, number, EVENT_KIND_CLICK, "c", "", "", learn=True, body=b""
        )
        for one in range(BATCH)
    ]


def report(stores: Stores, batches: str, begun: str) -> None:
    """Append and apply batches of events, and note in a file which was begun last."""
    with Path(begun).open("a", encoding="utf-8") as journal:
        for number in range(int(batches)):
            journal.write(f"{number}\n")
            journal.flush()
            events = batch(number)
            if number % 2:
                stores.events.append(events)
                apply(stores, events)
                continue
            with stores.events.together(stores.state) as is_whole:
                stores.events.append(events, applied=is_whole)
                apply(stores, events)


def demands_of(offer: str, units: int) -> list[Demand]:
    """Return the demands of a redemption on its offer's budget and its campaign's, in units and money."""
    campaign = Demand("campaign", 500, units, units * 1_500_000, CAMPAIGN_UNITS, -1, CAMPAIGN_UNITS - 1, -1)
    return [Demand(offer, 0, units, 0, OFFER_UNITS, -1, -1, -1), campaign]


def asked(redemption: str, offer: str, units: int) -> Redemption:
    """Return a step of a redemption of some units."""
    amounts, demands = Amounts(units, units * 1_500_000), demands_of(offer, units)
    return Redemption(redemption, redemption, offer, amounts=amounts, demands=demands)


def redeem(stores: Stores, threads: str, seed: str, begun: str) -> None:
    """Take random steps of redemptions until killed, noting each redemption in a file before it begins."""

    def client(thread: int) -> None:
        choose = random.Random(f"{seed} {thread}")
        with Path(f"{begun}-{thread}").open("a", encoding="utf-8") as journal:
            for number in range(1_000_000):
                redemption = f"{seed}-{thread}-{number}"
                offer = choose.choice(OFFERS)
                first, last = (asked(redemption, offer, choose.randint(1, 3)) for _ in range(2))
                journal.write(f"{redemption} {offer}\n")
                journal.flush()
                held = stores.ledger.reserve(first, 0, HOLD_S).done or choose.random() < 0.1
                step = choose.random()
                if held and step < 0.25:
                    stores.ledger.confirm(last, 1)
                    if step < 0.05:
                        stores.ledger.reverse(last._replace(amounts=Amounts()), 2)
                elif step < 0.8:
                    stores.ledger.release(first, 1)

    with ThreadPoolExecutor(int(threads)) as pool:
        list(pool.map(client, range(int(threads))))


ROLES: dict[str, Callable[..., None]] = {"count": count, "report": report, "redeem": redeem}

if __name__ == "__main__":
    role, settings, *rest = sys.argv[1:]
    opened = open_stores(Settings.model_validate_json(settings))
    ROLES[role](opened, *rest)
    opened.close()
