"""The open basket, out of what was done to it since the last order."""

from collections.abc import Iterable, Sequence

from offers.v1.event_pb2 import Item
from offers.v1.profile_pb2 import Basket
from offers.v1.state_pb2 import BasketStep, UserState

MAX_STEPS = 200
MAX_ITEMS = 100
_MICROS = 1_000_000


def take_steps(state: UserState, items: Iterable[Item], sign: int, seconds: int, nanos: int) -> None:
    """Put items into the basket (1) or take them out (-1). Steps of before the last order change nothing."""
    ordered = state.profile.last_order_time
    if state.profile.HasField("last_order_time") and (seconds, nanos) <= (ordered.seconds, ordered.nanos):
        return
    steps = state.basket_steps
    before = len(steps)
    last = steps[-1].event_time if steps else None
    in_order = last is None or (last.seconds, last.nanos) < (seconds, nanos)
    for item in items:
        quantity = item.quantity if item.HasField("quantity") else 1
        step = steps.add(
            product_id=item.product_id, category=item.category, venue_id=item.venue_id, quantity=sign * quantity
        )
        step.event_time.seconds, step.event_time.nanos = seconds, nanos
        if item.HasField("price"):
            step.price.CopyFrom(item.price)
    if not in_order or len(steps) > before + 1 or len(steps) > MAX_STEPS:
        settle(state)


def settle(state: UserState) -> None:
    """Bring the steps in order of time, and forget those of before the last order and the oldest beyond 200."""
    ordered = state.profile.last_order_time
    steps = sorted(state.basket_steps, key=_order)
    if state.profile.HasField("last_order_time"):
        since = ordered.seconds, ordered.nanos
        steps = [step for step in steps if (step.event_time.seconds, step.event_time.nanos) > since]
    kept = steps[-MAX_STEPS:]
    if len(kept) < len(state.basket_steps) or any(a is not b for a, b in zip(kept, state.basket_steps, strict=True)):
        copies = UserState(basket_steps=kept)
        state.ClearField("basket_steps")
        state.basket_steps.extend(copies.basket_steps)


def is_empty(steps: Sequence[BasketStep]) -> bool:
    """Whether nothing is in the basket, by its steps in order of time."""
    return not steps or (steps[-1].quantity < 0 and not any(_quantities(steps).values()))


def _quantities(steps: Iterable[BasketStep]) -> dict[tuple[str, str, str], int]:
    """How many there are of everything that was ever put in, by product, venue and category."""
    quantities: dict[tuple[str, str, str], int] = {}
    for step in steps:
        what = step.product_id, step.venue_id, step.category
        quantities[what] = max(0, quantities.get(what, 0) + step.quantity)
    return quantities


def fill_in(basket: Basket, steps: Sequence[BasketStep]) -> None:
    """Work out what is in the basket: things by product, venue and category, no fewer than none of each."""
    prices: dict[tuple[str, str, str], tuple[str, int]] = {}
    for step in steps:
        if step.HasField("price"):
            what = step.product_id, step.venue_id, step.category
            prices[what] = step.price.currency_code, step.price.units * _MICROS + step.price.nanos // 1000
        basket.update_time.CopyFrom(step.event_time)
    quantities = _quantities(steps)
    inside = [what for what, quantity in quantities.items() if quantity][-MAX_ITEMS:]
    for what in inside:
        product_id, venue_id, category = what
        basket.items.add(product_id=product_id, venue_id=venue_id, category=category, quantity=quantities[what])
    currencies = {prices[what][0] for what in inside if what in prices}
    if len(currencies) == 1:
        micros = sum(prices[what][1] * quantities[what] for what in inside if what in prices)
        basket.value.currency_code = currencies.pop()
        basket.value.units, basket.value.nanos = micros // _MICROS, micros % _MICROS * 1000


def _order(step: BasketStep) -> tuple[object, ...]:
    """By time; of the same instant, things are put in before they are taken out."""
    time, price = step.event_time, step.price
    what = step.product_id, step.venue_id, step.category
    return time.seconds, time.nanos, -step.quantity, what, price.currency_code, price.units, price.nanos
