"""What an engine needs to bring a person into its decisions, and the steps around the compiled `meet`."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from offers.decision.calendar import Calendar
from offers.decision.experiments import Experiments
from offers.decision.kernels.memory.records import Record, Table
from offers.decision.kernels.memory.scratch import COUNTER, Outcome, Room, Scratchpad
from offers.decision.kernels.person.meet import BY_PLACE, BY_TIME, NO_ROOM, OTHER_PERIODS, Fact, People, meet
from offers.decision.person import Person
from offers.decision.segments.evaluate import Facts, Segments
from offers.model.keys import key_of
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.profile_pb2 import Profile


class Meeting:
    """The segments, experiments, periods and the holdout of a catalogue."""

    def __init__(self, catalog_id: str, meta: Mapping[str, Any]) -> None:
        """`meta` is a snapshot's."""
        self.segments = Segments([segment["expression"] for segment in meta["segments"]])
        self.experiments = Experiments(catalog_id, meta["experiments"])
        self._numbers = {segment["id"]: number for number, segment in enumerate(meta["segments"])}
        self._calendar = Calendar(meta["periods"])
        changes = np.zeros(len(meta["segments"]), np.uint8)
        changes[sorted(self.segments.timed)] |= BY_TIME
        changes[sorted(self.segments.placed)] |= BY_PLACE
        self.record = Record(
            People,
            {
                "fact": np.array([self.segments.rules.table, key_of("holdout", catalog_id, ""), 0, 0, 0], np.int64),
                "holdout": np.array([meta["holdout"]], np.float64),
                "period": self._calendar.spans,
                "experiment": self.experiments.experiments,
                "arm": self.experiments.arms,
                "text": self.experiments.text,
                "changes": changes,
            },
        )

    def meet(self, columns: Table, terms: Table, pad: Scratchpad, person: Person, time: int) -> None:
        """Bring a person into a pad that holds what was found."""
        record, request, draw, grants, flags = person.record, person.request, person.draw, person.grants, person.flags
        while True:
            left = meet(columns, self.record.table, terms, pad.table, record, request, draw, grants, flags, time)
            if left >= 0:
                break
            self.help(left, pad, len(record), time)
        if left:
            facts = person.facts() if person.facts else Facts(User(), Session(), Context(), Profile(), time)
            self.ask(pad, left, facts)

    def help(self, wanting: int, pad: Scratchpad, record_size: int, time: int) -> None:
        """Do what `meet` said is wanting, for a record of so many bytes: NO_ROOM or OTHER_PERIODS."""
        if wanting == OTHER_PERIODS:
            self._calendar.roll(time, self.record.arrays["fact"][Fact.begin : Fact.end + 1])
        elif wanting == NO_ROOM:
            pad.fit(Room(counters=record_size // COUNTER.itemsize + 1, times=record_size // 4 + 1))

    def ask(self, pad: Scratchpad, left: int, facts: Facts) -> None:
        """Find out of the segments that are left to CEL which hold."""
        self.segments.evaluate(sorted(pad.arrays["wanted"][:left].tolist()), facts, pad.arrays["segment"])

    def exposures(self, pad: Scratchpad) -> list[tuple[str, str]]:
        """The experiments that have a part in a pad's decision, and the person's variants."""
        if not pad.arrays["outcome"][Outcome.personal]:
            return []
        exposed = pad.arrays["exposed"][: len(self.experiments)].nonzero()[0].tolist()
        return self.experiments.named(exposed, pad.arrays["variant"].tolist())

    def segments_of(self, names: Iterable[str], facts: Facts) -> frozenset[str]:
        """Those of some segments that a person is in."""
        numbers = {name: self._numbers[name] for name in names}
        holds = np.zeros(len(self._numbers), np.uint8)
        self.segments.evaluate(numbers.values(), facts, holds)
        return frozenset(name for name, number in numbers.items() if holds[number])
