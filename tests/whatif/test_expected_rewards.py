"""Expected rewards of offers in logged decisions."""

from collections.abc import Collection, Sequence

import pytest

from offers.v1.offer_pb2 import Offer
from offers.whatif.evaluation import listing
from offers.whatif.expected_rewards import Moments
from offers.whatif.logged_outcomes import REWARDS, ShownDecision
from tests.learning.made_log import NOON, decision

COUNT = 1_200


def shown(number: int, person: int, clicked: Sequence[str], **attributes: str) -> ShownDecision:
    """A decision that showed a and b, of which some were clicked."""
    told = decision(f"{number:032x}", NOON + number, ["a", "b"], time=NOON + number, draw=person).told()
    told.profile_attributes.update(attributes)
    rewards = {name: [float(offer in clicked) for offer in "ab"] for name in REWARDS}
    return ShownDecision(number, NOON + number, f"u:{person}" if person else "", told, rewards)


def by_faith(sensitive: Collection[str]) -> dict[str, float]:
    """Return the mean expected reward of a, by the faith of persons: those of one faith click it, others click b."""
    decisions = [
        shown(number, number + 1, "a" if number % 2 else "b", faith="one" if number % 2 else "other")
        for number in range(COUNT)
    ]
    listed = [listing(one) for one in decisions]
    offers = {name: Offer(offer_id=name, category=name) for name in "ab"}
    expected = Moments(decisions, "UTC").expected("click", listed, offers, sensitive)
    return {"one": float(expected[1::2, 0].mean()), "other": float(expected[::2, 0].mean())}


def test_attributes_are_used_unless_they_are_sensitive() -> None:
    """Attributes of persons are used, except those that the catalogue marks as sensitive."""
    open_, barred = by_faith([]), by_faith(["faith"])

    assert open_["one"] > 0.8
    assert open_["other"] < 0.2
    assert barred["one"] == pytest.approx(barred["other"], abs=0.02)


def test_persons_are_told_apart_and_nobody_stands_alone() -> None:
    """Decisions of one person have one number, whatever came between; those of nobody have one each."""
    decisions = [shown(number, person, "") for number, person in enumerate([1, 2, 1, 0, 0, 2])]

    found = Moments(decisions, "UTC").person.tolist()

    assert [0, 1, 0, 3, 4, 1] == found
