"""Does the steps of redemptions in the ledger, and words their refusals."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from google.rpc import code_pb2, status_pb2

from offers.errors import InvalidRequestError
from offers.model.money import MICROS, micros_of, set_micros
from offers.state.ledger import (
    Amounts,
    Demand,
    KeptRedemption,
    Redemption,
    RedemptionCap,
    RedemptionOutcome,
    refusal,
    refused,
)
from offers.state.opening import Stores
from offers.state.person.consent import Purposes
from offers.state.person.ids import user_of
from offers.state.stores import LoggedEvent, Person
from offers.v1.context_pb2 import CONSENT_PURPOSE_LEARNING, CONSENT_PURPOSE_PROFILING, User
from offers.v1.event_pb2 import Event, RedemptionEvent

HOLD_S = 900
"""Seconds for which a reservation holds that names no duration."""
_REFUSED = {
    "held": "the redemption is reserved and not confirmed: release it",
    "released": "the redemption was released",
    "confirmed": "the redemption was confirmed: reverse it",
    "expired": "the reservation has expired",
    "reversed": "the redemption was reversed",
    "unknown": "there is no such redemption, or none that is known any more",
}
_CONFIRM, _REVERSE = RedemptionEvent.PHASE_CONFIRM, RedemptionEvent.PHASE_REVERSE


class RedemptionLimits(Protocol):
    """Looks up what limits redemptions in the catalogues that are served."""

    def demands(self, catalog: str, offer_id: str, amounts: Amounts, now: int) -> Sequence[Demand]:
        """Return the demands of a redemption on the offer's budgets.

        Raises InvalidRequestError for "redemption.amount.currency_code" where it is not a budget's currency.
        """
        ...

    def caps(self, catalog: str, offer_id: str, second: int) -> Sequence[RedemptionCap]:
        """Return the redemption caps of an offer and its campaign, around a second."""
        ...


class RedemptionStep(NamedTuple):
    """A step of a redemption that an event reports."""

    event: Event
    catalog: str
    person: Person
    """Whoever was reported, with consent to profiling or without."""
    is_known: bool
    """Whether the catalogue has the offer."""

    @property
    def name(self) -> str:
        """Return the redemption's name in ledgers."""
        return f"{self.catalog}/{self.event.redemption.redemption_id}"


class Redeemer:
    """Does steps of redemptions. Its methods raise StoreUnavailableError."""

    def __init__(self, stores: Stores, limits: RedemptionLimits) -> None:
        self._state, self._log, self._ledger = stores
        self._limits = limits

    def find_person(self, step: RedemptionStep) -> tuple[User, Purposes] | None:
        """Return the person of the steps before, and the consent they were logged with.

        None where they named nobody, or the log does not know.
        """
        kept = self._ledger.find(step.name)
        logged = self._logged(kept.confirm_event_id) or self._logged(kept.event_id)
        if logged is None or not logged.person:
            return None
        learning = {CONSENT_PURPOSE_LEARNING} if logged.learn else set()
        return user_of(logged.person), frozenset({CONSENT_PURPOSE_PROFILING, *learning})

    def matters(self, step: RedemptionStep) -> bool:
        """Return whether a step is one of the ledger: of offers that are gone only those that go on with others."""
        phase = step.event.redemption.phase
        if step.is_known or phase in {RedemptionEvent.PHASE_RELEASE, _REVERSE}:
            return step.is_known or self._ledger.find(step.name).phase != "unknown"
        return phase == _CONFIRM and self._ledger.find(step.name).phase == "held"

    def do(self, step: RedemptionStep, now: int) -> RedemptionOutcome:
        """Do a step. Raises InvalidRequestError for the currency of its amount."""
        redemption = step.event.redemption
        asked = self._asked(step)
        match redemption.phase:
            case RedemptionEvent.PHASE_RELEASE:
                return self._ledger.release(asked, now)
            case RedemptionEvent.PHASE_REVERSE:
                return self._ledger.reverse(asked, now)
        kept = self._ledger.find(asked.name)
        if redemption.phase == _CONFIRM and kept.phase in {"held", "expired"}:
            asked = asked._replace(amounts=_completed(asked.amounts, kept.amounts))
        offer_id, second = step.event.offer_id, step.event.event_time.seconds
        try:
            demands = self._limits.demands(step.catalog, offer_id, asked.amounts, now)
        except InvalidRequestError:
            phase = "confirmed" if redemption.phase == _CONFIRM else "held"
            if reason := refusal(kept, asked, (), phase):
                return refused(reason, kept)
            raise
        asked = asked._replace(demands=demands, caps=self._limits.caps(step.catalog, offer_id, second))
        if redemption.phase == _CONFIRM:
            return self._ledger.confirm(asked, now)
        hold_s = redemption.hold.seconds if redemption.HasField("hold") else HOLD_S
        return self._ledger.reserve(asked, now, now + hold_s)

    def tell_amounts(self, event: Event, kept: KeptRedemption) -> None:
        """Write into a step the amounts that it leaves to the steps before."""
        redemption, known = event.redemption, kept.amounts
        if known.units is not None and not redemption.HasField("units"):
            redemption.units = known.units
        if known.micros is not None and known.currency and not redemption.HasField("amount"):
            redemption.amount.currency_code = known.currency
            set_micros(redemption.amount, known.micros)

    def tell_of_confirmation(self, event: Event, confirm: Event | None, kept: KeptRedemption) -> None:
        """Write into a reversal what it reverses: `confirm`, or what the log has of it."""
        redemption = event.redemption
        redemption.confirm_event_id = kept.confirm_event_id
        if confirm is None and (logged := self._logged(kept.confirm_event_id)):
            confirm = Event.FromString(logged.body)
        event.ClearField("attributed_proposition_id")
        if confirm is not None:
            redemption.confirm_time.CopyFrom(confirm.event_time)
            event.attributed_proposition_id = confirm.proposition_id or confirm.attributed_proposition_id
            event.ClearField("proposition_id")

    def status(self, step: RedemptionStep, outcome: RedemptionOutcome) -> status_pb2.Status:
        """Return the status of a refused step."""
        if outcome.reason == "exhausted":
            message = f"the budget '{outcome.lacking}' has not enough left"
            return status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message=message)
        if outcome.reason == "capped":
            message = f"the person has redeemed as often as a cap allows: {outcome.lacking}"
            return status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message=message)
        message = _REFUSED.get(outcome.reason) or self._difference(step, outcome)
        return status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message=message)

    def _asked(self, step: RedemptionStep) -> Redemption:
        event, redemption = step.event, step.event.redemption
        persons = tuple(self._state.ids(step.person) or [step.person]) if step.person else ()
        units = redemption.units if redemption.HasField("units") else None
        amount = redemption.amount if redemption.HasField("amount") else None
        amounts = Amounts(units, micros_of(amount), amount.currency_code) if amount else Amounts(units)
        return Redemption(step.name, event.event_id, event.offer_id, persons, event.event_time.seconds, amounts)

    def _logged(self, event_id: str) -> LoggedEvent | None:
        return self._log.find(event_id) if event_id else None

    def _difference(self, step: RedemptionStep, outcome: RedemptionOutcome) -> str:
        """Name what differs between a step and those before, in both."""
        event, kept, told = step.event, outcome.kept, step.event.redemption
        pair: tuple[str, str]
        match outcome.reason:
            case "offer":
                pair = f"of the offer '{kept.offer}'", f"'{event.offer_id}'"
            case "person":
                logged = self._logged(kept.event_id)
                person = f"'{logged.person}'" if logged and logged.person else "another"
                pair = f"of the person {person}", f"'{step.person}'"
            case "currency":
                pair = f"in {kept.amounts.currency}", told.amount.currency_code
            case "units":
                pair = f"of {kept.amounts.units} units", str(told.units)
            case _:
                pair = f"of {_sum(kept.amounts.micros or 0)}", _sum(micros_of(told.amount))
        return f"the redemption '{told.redemption_id}' is {pair[0]}, not {pair[1]}"


def clear_output(event: Event) -> None:
    """Remove from an event what only the server says of a redemption."""
    if event.HasField("redemption"):
        event.redemption.ClearField("confirm_event_id")
        event.redemption.ClearField("confirm_time")


def _completed(told: Amounts, known: Amounts) -> Amounts:
    """Return the amounts that are told, each otherwise as it was."""
    units = told.units if told.units is not None else known.units
    return told._replace(units=units) if told.micros is not None else known._replace(units=units)


def _sum(micros: int) -> str:
    return f"{micros / MICROS:,.10g}"
