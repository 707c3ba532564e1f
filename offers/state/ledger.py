"""Contract of ledgers: budgets, redemptions, and how often persons redeem. One test suite runs over all of them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from offers.model.instants import DAY_S, HOUR_S
from offers.state.stores import EVER, Person

LATE_S = 31 * DAY_S
"""Seconds for which redemptions are kept beyond the windows of caps, as events may be reported late."""


class Demand(NamedTuple):
    """The amount a redemption takes from one budget, with the budget's limits."""

    budget: str
    """The budget's key."""
    period: int
    """First second of the current period; 0: the budget has no period."""
    units: int
    micros: int
    """Money in millionths of its unit."""
    max_units: int
    """The most that may be used in total; -1: no limit. The same holds for the other limits."""
    max_micros: int
    max_period_units: int
    max_period_micros: int


class RedemptionCap(NamedTuple):
    """A limit on how often a person redeems, around the instant of a redemption."""

    name: str
    """As errors name it."""
    key: int
    """The key of the offer or campaign that is redeemed: see `keys.key_of`."""
    max_count: int
    begin: int
    """First second of the window in which redemptions are counted, unless it is rolling."""
    end: int
    """Exclusive; EVER: no end."""
    rolling_s: int
    """Length of a rolling window, in seconds; 0: the window is fixed. No window of this length may have too many,
    in whichever order redemptions come."""

    def matters_until(self, second: int) -> int:
        """Return the second until which a redemption at a second is kept, to count; EVER: for ever."""
        end = second + self.rolling_s if self.rolling_s else self.end
        return min(end + LATE_S, EVER)


class Amounts(NamedTuple):
    """The amounts of a redemption, as far as they are told; None: not told."""

    units: int | None = None
    micros: int | None = None
    """Money in millionths of its unit."""
    currency: str = ""
    """Code of ISO 4217; "" without money."""


class Redemption(NamedTuple):
    """One step of a redemption, as it is asked for."""

    name: str
    """The key of the redemption, the same in all its steps."""
    event_id: str = ""
    """The event that asks for the step."""
    offer: str = ""
    persons: tuple[Person, ...] = ()
    """All ids of the person; the first is the one to count under. Empty: nobody known."""
    second: int = 0
    """When it happened; redemption caps count by it."""
    amounts: Amounts = Amounts()
    """As far as they are told. Where nothing is held, others are 1 unit and no money."""
    demands: Sequence[Demand] = ()
    """Budgets with the amounts to take from each, which follow from `amounts`."""
    caps: Sequence[RedemptionCap] = ()


class KeptRedemption(NamedTuple):
    """A redemption as a ledger has it."""

    phase: str
    """One of "unknown", "held", "expired", "released", "confirmed" or "reversed"."""
    event_id: str = ""
    """The event that brought it into its phase; for "expired" the one that reserved it."""
    confirm_event_id: str = ""
    """The event that confirmed it; "" where it never was."""
    offer: str = ""
    person: bytes = b""
    """One-way hash of the id it counts under; b"" for nobody."""
    amounts: Amounts = Amounts()


UNKNOWN = KeptRedemption("unknown")


class RedemptionOutcome(NamedTuple):
    """The outcome of a step of a redemption."""

    done: bool
    """Whether the redemption is in the state the step asks for, be it since now or before."""
    reason: str = ""
    """Why it is not: the phase it is in, or one of these.

    - "exhausted": a budget has too little left.
    - "capped": the person is at a redemption cap.
    - "offer", "person", "currency", "units", "amount": it was about another one.
    """
    lacking: str = ""
    """The exhausted budget, or the cap."""
    repeated: bool = False
    """Whether another event had brought the redemption into this state before."""
    kept: KeptRedemption = UNKNOWN
    """The redemption as it was before the step."""


KEPT_S = 400 * DAY_S
"""Seconds for which a redemption is known after its last step, so that steps can be repeated and undone."""
FORGET_EVERY_S = HOUR_S
"""Seconds between removals of redemptions older than KEPT_S; reservations expire several times a second."""
PERIOD_KEPT_S = 62 * DAY_S
"""Seconds for which the usage of a period is kept: longer than any period and reservation together."""


def refused(reason: str, kept: KeptRedemption, lacking: str = "") -> RedemptionOutcome:
    """Return the outcome of a step that was not done."""
    return RedemptionOutcome(done=False, reason=reason, lacking=lacking, kept=kept)


_FROM = {
    "held": {"unknown", "held", "confirmed"},
    "confirmed": {"unknown", "held", "expired", "confirmed"},
    "released": {"held", "expired", "released"},
    "reversed": {"confirmed", "reversed"},
}
"""The phases from which a redemption comes into a phase, or in which asking for that phase changes nothing."""


def refusal(kept: KeptRedemption, asked: Redemption, hashes: Sequence[bytes], phase: str) -> str:
    """Return why a redemption may not come into a phase; "" where it may. `hashes` are those of `asked.persons`."""
    known, told = kept.amounts, asked.amounts
    if phase == "reversed" and kept.phase == "confirmed" and known.units is None:
        return "unknown"  # confirmed by an older version, which did not keep what was taken
    # A reservation that is repeated after its confirmation may have other amounts: the confirmation changed them.
    is_same = phase in {"reversed", kept.phase}
    pairs = (
        ("offer", kept.offer == asked.offer or not (kept.offer and asked.offer)),
        ("person", kept.person in hashes or not (kept.person and hashes)),
        ("currency", known.currency == told.currency or not (known.currency and told.currency)),
        ("units", not is_same or known.units == told.units or None in {known.units, told.units}),
        ("amount", not is_same or known.micros == told.micros or None in {known.micros, told.micros}),
    )
    return next((what for what, fits in pairs if not fits), "" if kept.phase in _FROM[phase] else kept.phase)


def is_repeated(kept: KeptRedemption, phase: str) -> bool:
    """Return whether a redemption has been brought into a phase before."""
    return kept.phase == phase or (phase == "held" and kept.phase == "confirmed")


def adjusted(held: Sequence[Demand], asked: Redemption) -> list[tuple[Demand, Demand]]:
    """Return for each held demand what is to be taken on top of it, or below 0 given back, and what it becomes.

    Amounts that are not told stay, as does all that is held of a budget that is not asked any more.
    """
    asking = {demand.budget: demand for demand in asked.demands}
    found = []
    for one in held:
        wanted = asking.get(one.budget, one)
        units = wanted.units if asked.amounts.units is not None else one.units
        micros = wanted.micros if asked.amounts.micros is not None else one.micros
        change = wanted._replace(period=one.period, units=units - one.units, micros=micros - one.micros)
        found.append((change, one._replace(units=units, micros=micros)))
    return found


def settled(known: Amounts, told: Amounts) -> Amounts:
    """Return the amounts of a redemption after a step."""
    units = told.units if told.units is not None else known.units
    micros = told.micros if told.micros is not None else known.micros
    return Amounts(units, micros, told.currency or known.currency)


def is_reached(cap: RedemptionCap, seconds: Iterable[int], second: int) -> bool:
    """Return whether a redemption at a second would exceed a cap, beside those at other seconds."""
    if not cap.rolling_s:
        return sum(cap.begin <= one < cap.end for one in seconds) >= cap.max_count
    found = sorted([*seconds, second])
    return any(
        last - first < cap.rolling_s and first <= second <= last
        for first, last in zip(found, found[cap.max_count :], strict=False)
    )


class Usage(NamedTuple):
    """The used part of a budget."""

    budget: str
    period: int
    """First second of the period; 0: in total."""
    units: int
    """Confirmed or held."""
    micros: int


class Ledger(Protocol):
    """Budgets and their usage, and how often persons redeem.

    Steps are atomic, so nothing is oversold, whatever other writers do or crash. All steps of a redemption must be
    about one offer, person and currency, as far as they are told; a repeated step also about the same amounts. Repeated
    steps have no further effect. A budget that an offer gets between two steps of a redemption is not touched by it.

    Persons are kept as one-way hashes. Every method raises StoreUnavailableError when the ledger cannot be reached in
    time.
    """

    def reserve(self, asked: Redemption, now: int, until: int) -> RedemptionOutcome:
        """Hold what a redemption needs until a second, from all its budgets or none, if no cap is reached."""
        ...

    def confirm(self, asked: Redemption, now: int) -> RedemptionOutcome:
        """Take what was held, adjusted to the amounts that are told.

        More than was held is taken from the same budgets, in the period of the reservation, or the step is refused and
        the hold stays. Less gives the rest back. Where nothing was held, or the hold has expired, all is taken anew.
        """
        ...

    def release(self, asked: Redemption, now: int) -> RedemptionOutcome:
        """Give back what was held; a confirmed redemption stays."""
        ...

    def reverse(self, asked: Redemption, now: int) -> RedemptionOutcome:
        """Give back a confirmed redemption, once."""
        ...

    def find(self, name: str) -> KeptRedemption:
        """Return a redemption, UNKNOWN where there is none. A hold that is over may still be "held"."""
        ...

    def redeemed(self, persons: Sequence[Person]) -> list[tuple[int, int]]:
        """Return key and second of the redemptions that caps count for a person's ids, in their order."""
        ...

    def forget(self, persons: Sequence[Person]) -> None:
        """Remove what caps count for a person's ids."""
        ...

    def expire(self, now: int) -> int:
        """Give back what was held until now; return the number of reservations.

        Also removes what is older than KEPT_S and PERIOD_KEPT_S, and what no cap counts any more.
        """
        ...

    def usage(self) -> Iterable[Usage]:
        """Return the usage of every budget, in total and by period."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...
