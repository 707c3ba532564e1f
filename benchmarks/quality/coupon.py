"""Answers to coupons, replayed: models learn from four fifths of the respondents and foresee the others' answers.

Every respondent answers one question a day, in the order of the rows, at the hour that the question is about, so that
earlier answers are learned before the next question. Respondents of the test come five weeks later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np

from benchmarks.quality.figures import Floats, auc
from benchmarks.quality.mapping import DataSet, Row
from benchmarks.quality.result import PLACEMENTS, Added, Figure, Found
from benchmarks.quality.service import Service, event, propensity, proposition, service
from offers.learning.propensity.regression import calibration_error
from offers.v1.context_pb2 import Context
from offers.v1.offer_service_pb2 import VIEW_FULL, GetOffersRequest, Proposition

NAME = "coupon"
FOLDS = 5
BEGIN = 1_325_462_400
"""Monday, 2 January 2012."""
DAY_S, HOUR_S = 86_400, 3_600
WEEKS_LATER = 5
KNOWN_AFTER = 10
"""Answers after which a respondent counts as known."""
HAS_TREES = find_spec("lightgbm") is not None
ONLINE, TREES = "", "trees"
"""Placements of the catalogue's default strategy, and of the one with trees."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A row: a respondent was offered a coupon, and accepted or refused."""

    number: int
    respondent: str
    before: int
    """Number of the respondent's earlier answers."""
    context: Context
    offer_id: str
    category: str
    yes: bool

    @property
    def second(self) -> int:
        """The instant."""
        return int(self.context.time.seconds)


def answers(data: DataSet, rows: Sequence[Row]) -> list[Answer]:
    """Return the rows in their order, at the instants of respondents who are learned from."""
    met: dict[str, int] = {}
    slots: dict[tuple[int, int], list[int]] = {}
    for number, row in enumerate(rows):
        day = met[row["respondent"]] = met.get(row["respondent"], -1) + 1
        slots.setdefault((day, hour_of(row["time"])), []).append(number)
    second = {
        number: BEGIN + day * DAY_S + hour * HOUR_S + place * HOUR_S // len(numbers)
        for (day, hour), numbers in slots.items()
        for place, number in enumerate(numbers)
    }
    return [
        Answer(
            number,
            row["respondent"],
            (second[number] - BEGIN) // DAY_S,
            data.context(row, second[number]),
            data.offer_id(row),
            row["coupon"],
            row["Y"] == "1",
        )
        for number, row in enumerate(rows)
    ]


def hour_of(text: str) -> int:
    """Return the hour of a text such as "2PM"."""
    return int(text[:-2]) % 12 + (12 if text.endswith("PM") else 0)


def later(answer: Answer) -> Answer:
    """Return the answer at the instant of a respondent of the test."""
    moved = Context()
    moved.CopyFrom(answer.context)
    moved.time.seconds += WEEKS_LATER * 7 * DAY_S
    return replace(answer, context=moved)


def live(one: Service, some: Sequence[Answer]) -> None:
    """Replay answers by time: each respondent is offered the coupons, sees one, and takes it or not.

    A respondent who takes a coupon has viewed it before.
    """
    for answer in some:
        one.second = answer.second
        (response,) = one.get([GetOffersRequest(context=answer.context)])
        shown = proposition(response, answer.offer_id)
        events = [event(f"{answer.number}-seen", answer.context, shown)]
        events[0].impression.SetInParent()
        if answer.yes:
            events.append(event(f"{answer.number}-taken", answer.context, shown))
            events[-1].click.SetInParent()
            events.append(event(f"{answer.number}-looked-at", answer.context))
            events[-1].view.item.category = answer.category
        one.report(events)


@dataclass(slots=True)
class Foreseen:
    """Probabilities foreseen for each answer, by its number; NaN: none yet."""

    first: Floats
    """Propensity by the online model before it learned anything of the respondent."""
    trees: Floats
    """The same by trees; NaN without LightGBM."""
    known: Floats
    """Propensity by the online model after it learned all earlier answers."""
    scores: Mapping[str, Floats]
    """Scores after all earlier answers were learned, by placement."""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def nothing(cls, count: int) -> "Foreseen":
        """Return an empty record for a number of answers."""
        first, trees, known, *scores = np.full((3 + len(PLACEMENTS), count), np.nan)
        return cls(first, trees, known, dict(zip(PLACEMENTS, scores, strict=True)))


def ask(
    one: Service, some: Sequence[Answer], placement: str, figure: Callable[[Proposition], float], into: Floats
) -> None:
    """Ask the server for the coupons just before they are offered."""
    requests = [GetOffersRequest(context=answer.context, placement=placement, view=VIEW_FULL) for answer in some]
    for response, answer in zip(one.ask(requests), some, strict=True):
        into[answer.number] = figure(proposition(response, answer.offer_id))


def replay_fold(data: DataSet, rows: Sequence[Row], every: Sequence[Answer], fold: int, into: Foreseen) -> None:
    """Learn from all respondents except those of a fold, then replay these."""
    learned = sorted((one for one in every if fold_of(one) != fold), key=attrgetter("second"))
    tested = sorted((later(one) for one in every if fold_of(one) == fold), key=attrgetter("second"))
    with service(data.catalog(rows), BEGIN - DAY_S) as one:
        for row in {row["respondent"]: row for row in rows}.values():
            one.keep(data.context(row, BEGIN).user, data.profile(row))
        live(one, learned)
        one.learn()
        ask(one, tested, ONLINE, propensity, into.first)
        if HAS_TREES:
            refused = [why for why in one.grow() if why.startswith("click")]
            into.notes += [f"fold {fold + 1}: no trees: {why}" for why in refused]
            ask(one, tested, TREES, propensity, into.trees)
        for _, some in groupby(tested, key=lambda answer: answer.second // DAY_S):
            today = list(some)
            ask(one, today, ONLINE, propensity, into.known)
            for placement, scores in into.scores.items():
                ask(one, today, placement, lambda shown: shown.score, scores)
            live(one, today)
            one.learn()
        into.notes.append(f"fold {fold + 1}: {one.published} models taken up, {one.refused} refused")


def fold_of(answer: Answer) -> int:
    """Return the fold of an answer, which is that of its respondent."""
    return int(answer.respondent) % FOLDS


def run(folder: Path) -> Found:
    """Replay the data set in a folder."""
    data = DataSet.read(NAME)
    (rows,) = data.rows(folder)
    every = answers(data, rows)
    into = Foreseen.nothing(len(every))
    for fold in range(FOLDS):
        replay_fold(data, rows, every, fold, into)
    yes = np.array([float(one.yes) for one in every])
    known = np.array([one.before >= KNOWN_AFTER for one in every])
    figures = [_foreseen("online model", yes, into.first, 0.735)]
    if HAS_TREES:
        figures.append(_foreseen("trees", yes, into.trees, 0.757))
    else:
        into.notes.append("no trees: LightGBM is not installed")
    on, off = auc(yes[known], into.known[known]), auc(yes[known], into.first[known])
    beside = f"without feedback {off:.3f}"
    reached = on >= 0.78 and on > off
    figures.append(Figure(NAME, "AUC, rows 11+, with feedback", f"{on:.3f}", "≥ .78, above beside", reached, beside))
    scores = {name: auc(yes[known], of_it[known]) for name, of_it in into.scores.items()}
    return Found(figures, [Added(NAME, "AUC, rows 11+", scores)], [f"{NAME}, {note}" for note in into.notes])


def _foreseen(model: str, yes: Floats, chance: Floats, least: float) -> Figure:
    """Return the quality of probabilities for people who were never met."""
    found, beside = auc(yes, chance), f"calibration error {calibration_error(yes, chance):.3f}"
    wanted = f"≥ {least}".replace("0.", ".")
    return Figure(NAME, f"AUC, {model}, {FOLDS} folds", f"{found:.3f}", wanted, found >= least, beside)
