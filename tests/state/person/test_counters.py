"""Counters updated in place equal those computed plainly from all events."""

import struct
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from offers.model.facts import CounterSpec
from offers.state.person.counters import Counters

NOON = 1_795_000_000
HOUR, DAY = 3_600, 86_400
SPECS = (
    CounterSpec(-(2**63), 1, keep=2, span_s=HOUR),
    CounterSpec(-1, 10, keep=5, span_s=3 * DAY),
    CounterSpec(-1, 2, keep=1, span_s=0),
    CounterSpec(0, 1, keep=3, span_s=30 * DAY),
    CounterSpec(2**63 - 1, 3, keep=100, span_s=0),
)
adds = st.lists(st.tuples(st.sampled_from(SPECS), st.integers(0, 40 * DAY).map(NOON.__add__)), max_size=60)


@given(adds, st.randoms(use_true_random=False))
def test_what_is_taken_back_was_never_counted(added: list[tuple[CounterSpec, int]], choose: Random) -> None:
    """Removing counted instants, and others, leaves what was counted without them, as long as none was forgotten."""
    roomy = [(spec._replace(keep=100, span_s=0), second) for spec, second in added]
    gone = choose.sample(roomy, len(roomy) // 2)
    left = list(roomy)
    counters, expected = Counters(), Counters()
    for spec, second in roomy:
        counters.add(spec, second)
    for spec, second in gone:
        counters.remove(spec, second)
        left.remove((spec, second))
        counters.remove(spec, NOON - 1)
    for spec, second in left:
        expected.add(spec, second)
    assert list(expected) == list(counters)


def reckoned(added: list[tuple[CounterSpec, int]], last: int) -> list[tuple[int, int, list[int]]]:
    """Return the expected instants of each counter, by key and kind."""
    kept = []
    for spec in sorted({spec for spec, _ in added}):
        times = sorted(second for other, second in added if other == spec)
        if spec.span_s:
            reach = -(-spec.span_s // (2 * DAY)) * 2 * DAY
            begin = max(times[-1] - spec.span_s, last - last % HOUR - reach) - HOUR
            times = [second for second in times if second >= begin]
        if times:
            kept.append((spec.key, spec.kind, times[-spec.keep :]))
    return kept


@given(adds, st.integers(1, 10))
@example([(SPECS[0], NOON + 2_598_800), (SPECS[3], NOON), (SPECS[3], NOON + 3_200)], 1)
def test_counters_are_those_of_all_events(added: list[tuple[CounterSpec, int]], size: int) -> None:
    """Added in any order and batches, counters keep the last instants within their windows."""
    packed, last, before = (b"", b""), -1, -1
    for first in range(0, len(added), size):
        counters = Counters(*packed)
        for spec, second in added[first : first + size]:
            counters.add(spec, second)
            last = max(last, second)
        packed, before = counters.packed(last, before), last

    assert reckoned(added, last) == list(Counters(*packed))


@given(adds)
def test_the_layout_has_no_gaps(added: list[tuple[CounterSpec, int]]) -> None:
    """Records are ordered by key and kind without gaps, and so are their instants, as compiled loops expect."""
    counters = Counters()
    for spec, second in added:
        counters.add(spec, second)
    records, times = counters.packed(NOON)
    rows = list(struct.iter_unpack("<qBBHI", records))

    assert sorted(rows, key=lambda row: row[:2]) == rows
    assert [sum(row[3] for row in rows[:number]) for number in range(len(rows))] == [row[4] for row in rows]
    assert 4 * sum(row[3] for row in rows) == len(times)


@given(adds, adds)
def test_merged_counters_are_those_of_both(
    ours: list[tuple[CounterSpec, int]], theirs: list[tuple[CounterSpec, int]]
) -> None:
    """Merged either way, two persons' counters are those of all their events, as far as caps need them."""
    made = []
    for added in (ours, theirs):
        counters = Counters()
        for spec, second in added:
            counters.add(spec, second)
        made.append(counters)
    merged, other = Counters(*made[0].packed(NOON)), Counters(*made[1].packed(NOON))
    merged.merge(made[1])
    other.merge(made[0])
    keep = {(spec.key, spec.kind): spec.keep for spec in SPECS}

    assert list(merged) == list(other)
    # of windows, a merger keeps more than caps ask for
    in_all = {(key, kind): times for key, kind, times in reckoned(ours + theirs, NOON)}
    for key, kind, times in merged:
        assert in_all[key, kind] == [one for one in times if one >= in_all[key, kind][0]][-keep[key, kind] :]
