"""The open basket, derived from its changes since the last order."""

from collections.abc import Iterable, Sequence

from offers.model.instants import instant_of
from offers.model.money import micros_of, set_micros
from offers.v1.event_pb2 import Item
from offers.v1.profile_pb2 import Basket
from offers.v1.state_pb2 import BasketStep, UserState

MAX_STEPS = 200
MAX_ITEMS = 100

_Entry = tuple[str, str, str]
"""Product, venue and category: steps with the same three change the same entry of the basket."""


def take_steps(state: UserState, items: Iterable[Item], sign: int, instant: tuple[int, int]) -> None:
    """Add items to the basket (`sign` 1) or remove them (-1); steps before the last order have no effect."""
    profile = state.profile
    if profile.HasField("last_order_time") and instant <= instant_of(profile.last_order_time):
        return
    steps = state.basket_steps
    before = len(steps)
    in_order = not steps or instant_of(steps[-1].event_time) < instant
    for item in items:
        quantity = item.quantity if item.HasField("quantity") else 1
        step = steps.add(
            product_id=item.product_id, category=item.category, venue_id=item.venue_id, quantity=sign * quantity
        )
        step.event_time.seconds, step.event_time.nanos = instant
        if item.HasField("price"):
            step.price.CopyFrom(item.price)
    if not in_order or len(steps) > before + 1 or len(steps) > MAX_STEPS:
        settle(state)


def settle(state: UserState) -> None:
    """Sort the steps by time, and drop those before the last order and the oldest beyond MAX_STEPS."""
    steps = sorted(state.basket_steps, key=_order)
    if state.profile.HasField("last_order_time"):
        ordered = instant_of(state.profile.last_order_time)
        steps = [step for step in steps if instant_of(step.event_time) > ordered]
    kept = steps[-MAX_STEPS:]
    if len(kept) < len(state.basket_steps) or any(a is not b for a, b in zip(kept, state.basket_steps, strict=True)):
        copies = UserState(basket_steps=kept)
        state.ClearField("basket_steps")
        state.basket_steps.extend(copies.basket_steps)


def is_empty(steps: Sequence[BasketStep]) -> bool:
    """Return whether nothing is in the basket; the steps must be in order of time."""
    return not steps or (steps[-1].quantity < 0 and not any(_quantities(steps).values()))


def fill_in(basket: Basket, steps: Sequence[BasketStep]) -> None:
    """Fill in items, value and update time from the steps; the steps must be in order of time.

    The value is left out where prices are in several currencies.
    """
    prices: dict[_Entry, tuple[str, int]] = {}
    for step in steps:
        if step.HasField("price"):
            prices[_entry_of(step)] = step.price.currency_code, micros_of(step.price, round_up=False)
        basket.update_time.CopyFrom(step.event_time)
    quantities = _quantities(steps)
    inside = [entry for entry, quantity in quantities.items() if quantity][-MAX_ITEMS:]
    for entry in inside:
        product_id, venue_id, category = entry
        basket.items.add(product_id=product_id, venue_id=venue_id, category=category, quantity=quantities[entry])
    currencies = {prices[entry][0] for entry in inside if entry in prices}
    if len(currencies) == 1:
        basket.value.currency_code = currencies.pop()
        set_micros(basket.value, sum(prices[entry][1] * quantities[entry] for entry in inside if entry in prices))


def _quantities(steps: Iterable[BasketStep]) -> dict[_Entry, int]:
    """Return the quantity of each entry that was ever added; removals never make it negative."""
    quantities: dict[_Entry, int] = {}
    for step in steps:
        entry = _entry_of(step)
        quantities[entry] = max(0, quantities.get(entry, 0) + step.quantity)
    return quantities


def _entry_of(step: BasketStep) -> _Entry:
    return step.product_id, step.venue_id, step.category


def _order(step: BasketStep) -> tuple[object, ...]:
    """Return the sort key of a step: by time; additions precede removals of the same instant."""
    price = step.price
    second, nanos = instant_of(step.event_time)
    return second, nanos, -step.quantity, _entry_of(step), price.currency_code, price.units, price.nanos
