"""Meeting persons: what an engine needs to bring a person into its decisions, and what the compiled `meet` asks for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from offers.decision.calendar import Calendar
from offers.decision.experiments import Experiments, Holdouts
from offers.decision.kernels.memory.records import Record
from offers.decision.kernels.memory.scratch import COUNTER, Capacity, DecisionFact, PersonFact, Scratchpad
from offers.decision.kernels.need import Need
from offers.decision.kernels.person.meet import MeetingArray, MeetingFact
from offers.decision.person import Person
from offers.decision.segments.evaluate import Facts, Segments
from offers.model.keys import key_of
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.offer_service_pb2 import HoldoutExposure
from offers.v1.profile_pb2 import Profile


class Meeting:
    """The segments, experiments, periods and holdouts of a catalogue."""

    def __init__(self, catalog_id: str, version: int, meta: Mapping[str, Any], shares: Sequence[float]) -> None:
        """Take a snapshot's `meta`, its version as a signed number, and the share that each campaign holds out."""
        self.segments = Segments([segment["expression"] for segment in meta["segments"]])
        self.experiments = Experiments(catalog_id, meta["experiments"])
        self.holdouts = Holdouts(meta["holdout"], list(zip(meta["campaigns"], shares, strict=True)))
        self._numbers = {segment["id"]: number for number, segment in enumerate(meta["segments"])}
        self._calendar = Calendar(meta["periods"])
        placed = np.zeros(len(meta["segments"]), np.uint8)
        placed[sorted(self.segments.placed)] = 1
        fact = np.zeros(len(MeetingFact), np.int64)
        fact[MeetingFact.rules], fact[MeetingFact.version] = self.segments.rules.table, version
        fact[MeetingFact.holdout_key] = key_of("holdout", catalog_id, "")
        self.record = Record(
            MeetingArray,
            {
                "fact": fact,
                "holdout": np.array([meta["holdout"]], np.float64),
                "period": self._calendar.spans,
                "experiment": self.experiments.experiments,
                "arm": self.experiments.arms,
                "text": self.experiments.text,
                "placed": placed,
                "segment": self.experiments.segments,
                "withholding": self.holdouts.holdouts,
                "withholding_text": self.holdouts.text,
            },
        )

    def provide(self, need: int, pad: Scratchpad, person: Person, time: int) -> None:
        """Provide what `go_on` needs to meet a person: COUNTERS, PERIODS or SEGMENTS of Need."""
        if need == Need.PERIODS:
            self._calendar.roll(time, self.record.arrays["fact"][MeetingFact.begin : MeetingFact.end + 1])
        elif need == Need.COUNTERS:
            size = len(person.record)
            pad.fit(Capacity(counters=size // COUNTER.itemsize + 1, times=size // 4 + 1))
        elif need == Need.SEGMENTS:
            facts = person.facts() if person.facts else Facts(User(), Session(), Context(), Profile(), time)
            left = int(pad.arrays["person"][PersonFact.left])
            numbers, told = sorted(pad.arrays["wanted"][:left].tolist()), pad.arrays["decision"]
            self.segments.evaluate(numbers, facts, pad.arrays["segment"])
            told[DecisionFact.refresh_after] = min(
                int(told[DecisionFact.refresh_after]), self.segments.until(numbers, facts)
            )

    def exposures(self, pad: Scratchpad) -> list[tuple[str, str]]:
        """Return the experiments that have a part in a pad's decision, and the person's variants."""
        if not pad.arrays["decision"][DecisionFact.personal]:
            return []
        exposed = pad.arrays["exposed"][: len(self.experiments)].nonzero()[0].tolist()
        return self.experiments.named(exposed, pad.arrays["variant"].tolist())

    def withheld(self, pad: Scratchpad) -> list[HoldoutExposure]:
        """Return the holdouts that have a part in a pad's decision."""
        if not pad.arrays["decision"][DecisionFact.personal]:
            return []
        return self.holdouts.named(pad.arrays["withheld"])

    def segments_of(self, names: Iterable[str], facts: Facts) -> frozenset[str]:
        """Return those of some segments that a person is in."""
        numbers = {name: self._numbers[name] for name in names}
        holds = np.zeros(len(self._numbers), np.uint8)
        self.segments.evaluate(numbers.values(), facts, holds)
        return frozenset(name for name, number in numbers.items() if holds[number])
