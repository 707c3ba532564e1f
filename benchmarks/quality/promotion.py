"""A promotion, replayed: whom to send it to, by the foreseen probabilities to buy with it and without."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.figures import COST, GAIN, Floats, Truths, interval, sent
from benchmarks.quality.mapping import DataSet, Row
from benchmarks.quality.result import Figure, Found
from benchmarks.quality.service import Service, event, parts, propensity, proposition, service
from offers.v1.context_pb2 import Context
from offers.v1.offer_service_pb2 import VIEW_FULL, GetOffersRequest

NAME = "promotion"
FOLDS = 5
BEGIN = 1_325_462_400
"""2 January 2012."""
EVERY_S = 2
"""Seconds between one person and the next."""
AT_ONCE = 100
"""Persons who come while a purchase may still follow."""
PROMOTION, NOTHING = "promotion", "nothing"


def run(folder: Path) -> Found:
    """Replay the data set in a folder."""
    data = DataSet.read(NAME)
    (rows,) = data.rows(folder)
    contexts = [data.context(row, BEGIN + EVERY_S * number) for number, row in enumerate(rows)]
    treated = np.array([row["Promotion"] == "Yes" for row in rows])
    bought = np.array([float(row["purchase"]) for row in rows])
    folds = np.random.default_rng(1).integers(0, FOLDS, len(rows))
    more = np.empty(len(rows))
    for fold in range(FOLDS):
        replay_fold(data, rows, contexts, folds == fold, more)
    return Found(_judged(GAIN * more > COST, treated, bought))


def replay_fold(data: DataSet, rows: Sequence[Row], contexts: Sequence[Context], tested: Truths, more: Floats) -> None:
    """Learn from all persons except the tested, and write how much likelier each of these buys with the promotion."""
    with service(data.catalog(rows), BEGIN) as one:
        for some in parts(np.flatnonzero(~tested).tolist(), AT_ONCE):
            live(one, data, [(rows[number], contexts[number]) for number in some])
        one.second += 3_600
        one.learn()
        numbers = np.flatnonzero(tested).tolist()
        requests = [GetOffersRequest(context=contexts[number], view=VIEW_FULL) for number in numbers]
        for number, response in zip(numbers, one.ask(requests), strict=True):
            with_it, without = (propensity(proposition(response, offer)) for offer in (PROMOTION, NOTHING))
            more[number] = with_it - without


def live(one: Service, data: DataSet, some: Sequence[tuple[Row, Context]]) -> None:
    """Replay some persons: each is shown the promotion or nothing, and buys or not."""
    one.second = max(context.time.seconds for _, context in some)
    responses = one.get([GetOffersRequest(context=context) for _, context in some])
    events = []
    for (row, context), response in zip(some, responses, strict=True):
        shown = proposition(response, data.offer_id(row))
        seen = event(f"{row['ID']}-seen", context, shown)
        seen.impression.SetInParent()
        events.append(seen)
        if row["purchase"] == "1":
            bought = event(f"{row['ID']}-bought", context)
            bought.proposition_id = shown.proposition_id
            bought.order.SetInParent()
            events.append(bought)
    one.report(events)


def _judged(chosen: Truths, treated: Truths, bought: Floats) -> list[Figure]:
    """Return the result of sending to the chosen, compared with sending to everyone."""
    found, all_of_them = sent(chosen, treated, bought), sent(np.ones(len(chosen), bool), treated, bought)
    nir, irr = interval(len(chosen), lambda drawn: sent(chosen[drawn], treated[drawn], bought[drawn]))
    beside = f"everyone: NIR {all_of_them.nir:,.0f}, IRR {all_of_them.irr:.4f}"
    return [
        Figure(
            NAME, f"NIR, sent to {chosen.mean():.0%}", f"{found.nir:,.0f} ({nir[0]:,.0f} to {nir[1]:,.0f})",
            "above 0", nir[0] > 0, beside,
        ),
        Figure(
            NAME, "IRR", f"{found.irr:.4f} ({irr[0]:.4f} to {irr[1]:.4f})",
            "≥ .0188, and above 0", found.irr >= 0.0188 and irr[0] > 0, beside,
        ),
    ]  # fmt: skip
