"""Due seconds follow from a person's record alone."""

import itertools
from random import Random

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from offers.state.person.basket import fill_in
from offers.state.person.merge import merge
from offers.state.person.triggering import RETRY_S, Watched, due_second, mark, occasions, watched_of
from offers.state.stores import NEVER
from offers.v1.context_pb2 import CONSENT_PURPOSE_MESSAGING, CONSENT_PURPOSE_PROFILING
from offers.v1.profile_pb2 import Basket
from offers.v1.state_pb2 import TriggerMark, UserState
from offers.v1.trigger_pb2 import AbandonedBasket, Lapsing, Trigger

AGREED = frozenset({CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_MESSAGING})
START = 1_000_000
DAY = 86_400


def watched(choose: Random) -> list[Watched]:
    """Draw one to three triggers with short spans, so that they interfere."""
    found = []
    for number in range(choose.randint(1, 3)):
        trigger = Trigger(trigger_id=f"t{number}")
        if choose.random() < 0.5:
            trigger.abandoned_basket.idle.seconds = choose.choice([60, 600, 3_600])
        else:
            trigger.lapsing.after.seconds = choose.choice([3_600, 7_200, DAY])
            trigger.lapsing.since = choose.choice(Lapsing.Since.values())
        trigger.cool_down.seconds = choose.choice([0, 60, DAY])
        trigger.within.seconds = choose.choice([60, 7_200, DAY])
        found.append(watched_of("c", trigger))
    return found


def live(state: UserState, second: int, choose: Random) -> None:
    """Apply random events to a person."""
    time = Timestamp(seconds=second)
    state.profile.last_seen_time.CopyFrom(time)
    match choose.randrange(3):
        case 0:
            state.basket_steps.add(product_id="a", quantity=choose.choice([1, 1, -1]), event_time=time)
        case 1:
            state.profile.last_order_time.CopyFrom(time)
            state.ClearField("basket_steps")


@given(st.integers(0, 2**32 - 1))
def test_looking_when_one_is_due_finds_all_that_looking_always_finds(seed: int) -> None:
    """Checking a person only at due seconds sends the same as checking every minute.

    That holds for all events, with and without an offer.
    """
    choose = Random(seed)
    triggers = watched(choose)
    lazy, eager = UserState(), UserState()
    happens = sorted(START + 60 * choose.randrange(3_000) for _ in range(choose.randint(1, 6)))
    offers = {second: choose.random() < 0.5 for second in range(START, START + 60 * 3_000, 60)}
    sent: tuple[list[tuple[int, str]], list[tuple[int, str]]] = ([], [])
    due = NEVER
    for second in range(START, START + 60 * 3_000, 60):
        while happens and happens[0] <= second:
            turn = choose.getstate()
            live(lazy, happens[0], choose)
            choose.setstate(turn)
            live(eager, happens.pop(0), choose)
            due = due_second(lazy.SerializeToString(), triggers, AGREED, second)
        for state, told, is_looked_at in ((lazy, sent[0], due <= second), (eager, sent[1], True)):
            for one in occasions(state, triggers, second) if is_looked_at else ():
                if one.due <= second:
                    found = offers[second]
                    mark(state, one, sent=second if found else 0, retry=0 if found else second + RETRY_S)
                    if found:
                        told.append((second, one.watched.trigger.trigger_id))
        if due <= second:
            due = due_second(lazy.SerializeToString(), triggers, AGREED, second)
            assert due > second

    assert sent[0] == sent[1]


@given(st.integers(0, 2**32 - 1))
def test_no_cool_down_and_no_end_is_passed_over(seed: int) -> None:
    """Cool-downs are kept, each occasion is sent once, and none after `within`."""
    choose = Random(seed)
    triggers = watched(choose)
    state = UserState()
    last: dict[str, tuple[int, int]] = {}
    for second in itertools.accumulate((choose.choice([1, 59, 600, 5_000]) for _ in range(100)), initial=START):
        if choose.random() < 0.2:
            live(state, second, choose)
        for one in occasions(state, triggers, second):
            if one.due > second or choose.random() < 0.3:
                continue
            trigger = one.watched.trigger
            begin, sent = last.get(trigger.trigger_id, (0, 0))
            assert begin < one.begin <= second
            assert not sent or second >= sent + trigger.cool_down.seconds
            assert one.true <= second <= one.true + trigger.within.seconds
            mark(state, one, sent=second)
            last[trigger.trigger_id] = one.begin, second


def test_unset_spans_have_defaults() -> None:
    """By default a basket is abandoned after 30 minutes, sent within a day, with a cool-down of a day."""
    state = UserState()
    state.basket_steps.add(product_id="a", quantity=1, event_time=Timestamp(seconds=START))
    basket = watched_of("c", Trigger(trigger_id="t", abandoned_basket=AbandonedBasket()))
    (one,) = occasions(state, [basket], START)

    assert (START, START + 1_800, START + 1_800) == (one.begin, one.true, one.due)
    assert [one] == occasions(state, [basket], START + 1_800 + DAY)
    assert [] == occasions(state, [basket], START + 1_801 + DAY)
    mark(state, one, sent=START + 1_800)
    state.basket_steps.add(product_id="b", quantity=1, event_time=Timestamp(seconds=START + 3_600))
    (other,) = occasions(state, [basket], START + 3_600)
    assert START + 1_800 + DAY == other.due
    mark(state, other, retry=other.due + RETRY_S)
    (kept,) = state.triggers
    assert (START + 3_600, False, START + 1_800) == (kept.begin, kept.sent, kept.last_sent)


def test_marks_of_both_ids_count_for_the_person() -> None:
    """Merged marks have the later check and the last offer of each trigger, symmetrically."""
    old = TriggerMark(catalog="c", trigger_id="a", begin=10, sent=True, last_sent=50)
    new = TriggerMark(catalog="c", trigger_id="a", begin=20, retry=30)
    only = TriggerMark(catalog="c", trigger_id="b", begin=5, sent=True, last_sent=6)
    user, visitor = UserState(triggers=[only, old]), UserState(triggers=[new])
    user.profile.order_count = visitor.profile.order_count = 1
    merged = [
        UserState.FromString(merge(one.SerializeToString(), other.SerializeToString())).triggers
        for one, other in ((user, visitor), (visitor, user))
    ]

    expected = [TriggerMark(catalog="c", trigger_id="a", begin=20, retry=30, last_sent=50), only]
    assert [expected, expected] == list(map(list, merged))


def test_a_look_for_another_occasion_holds_nothing_up() -> None:
    """A retry for an earlier state of the basket does not delay the present one."""
    state = UserState()
    basket = watched_of("c", Trigger(trigger_id="t", abandoned_basket=AbandonedBasket()))
    state.basket_steps.add(product_id="a", quantity=1, event_time=Timestamp(seconds=START))
    (one,) = occasions(state, [basket], START + 1_800)
    mark(state, one, retry=START + 1_800 + RETRY_S)
    (again,) = occasions(state, [basket], START + 1_800)
    state.basket_steps.add(product_id="b", quantity=1, event_time=Timestamp(seconds=START + 2_000))
    (other,) = occasions(state, [basket], START + 2_000)

    assert (START + 1_800 + RETRY_S, START + 2_000 + 1_800) == (again.due, other.due)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([-2, -1, 1, 2])), max_size=6))
def test_a_basket_is_left_behind_if_anything_is_in_it(steps: list[tuple[str, int]]) -> None:
    """An emptied basket is no occasion, however often items were removed."""
    state = UserState()
    for second, (product, quantity) in enumerate(steps):
        state.basket_steps.add(product_id=product, quantity=quantity, event_time=Timestamp(seconds=START + second))
    basket = Basket()
    fill_in(basket, state.basket_steps)

    found = occasions(state, [watched_of("c", Trigger(abandoned_basket=AbandonedBasket()))], START)
    assert [basket.update_time.seconds] * bool(basket.items) == [one.begin for one in found]
