"""Ids of decisions and propositions."""

from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.model.proposition_ids import (
    DECISION_ID_DIGITS,
    PROPOSED_DIGITS,
    Proposed,
    PropositionId,
    decision_id_of,
    new_decision_id,
    parse_proposition_id,
    proposed_in,
    rank_digits,
    write_proposed,
    write_rank,
    written_decision_id,
)


def test_decision_ids_are_uuids() -> None:
    """New ids are of version 7; those of requests of version 8, and the same for every retry."""
    new = written_decision_id(*new_decision_id())
    assert DECISION_ID_DIGITS == len(new)
    assert (7, "specified in RFC 4122") == (UUID(new).version, UUID(new).variant)
    known = written_decision_id(*decision_id_of("request", "catalogue"))
    assert 8 == UUID(known).version
    assert known == written_decision_id(*decision_id_of("request", "catalogue"))
    assert known != written_decision_id(*decision_id_of("request", "other"))


@pytest.mark.parametrize("rank", [1, 9, 10, 99, 100, 999])
def test_compiled_and_plain_ids_are_the_same(rank: int) -> None:
    """A compiled loop writes the id that Python writes, and both are parsed."""
    out = np.zeros(8, np.uint8)
    end = write_rank(out, 0, rank, rank_digits(rank))
    written = f"abc{out[:end].tobytes().decode()}"
    assert f"abc-{rank}" == written
    assert PropositionId("abc", rank) == parse_proposition_id(written)


@pytest.mark.parametrize("text", ["", "abc", "-1", "abc-", "abc-0", "abc-x", "abc-1.5"])
def test_other_texts_are_no_proposition_ids(text: str) -> None:
    """A proposition id has a decision id and a rank of 1 or more."""
    assert parse_proposition_id(text) is None


def test_decision_ids_may_have_dashes() -> None:
    """The last dash separates the rank."""
    assert PropositionId("a-b", 3) == parse_proposition_id("a-b-3")


IDS = st.integers(-(2**63), 2**63 - 1)


@given(IDS, IDS, st.integers(1, 999), IDS, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_an_id_says_what_was_proposed(high: int, low: int, rank: int, key: int, channel: int, placement: int) -> None:
    """The key of the offer, and the lower halves of those of placement and channel, can be read from an id."""
    out = np.zeros(64, np.uint8)
    begin = write_rank(out, 0, rank, rank_digits(rank))
    end = write_proposed(out, begin, (high, low, rank), key, np.array([channel, placement], np.uint64))
    written = f"{written_decision_id(high, low)}{out[:end].tobytes().decode()}"
    assert 1 + PROPOSED_DIGITS == end - begin
    assert Proposed(key, placement % 2**32, channel % 2**32) == proposed_in(written)
    assert PropositionId(written_decision_id(high, low), rank) == parse_proposition_id(written)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "-1",
        "abc-1",
        f"abc-1-{'0' * 22}",
        f"{'0' * 32}-1",
        f"{'0' * 32}-1-{'!' * 22}",
        f"{'z' * 32}-1-{'0' * 22}",
        f"{'0' * 32}-0-{'0' * 22}",
    ],
)
def test_other_texts_say_nothing(text: str) -> None:
    """Ids without the last part, and texts that are none, name no offer."""
    assert proposed_in(text) is None
