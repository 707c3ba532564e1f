"""The contract of event logs."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from offers.settings import Settings
from offers.state.opening import Stores, open_stores
from offers.state.postgres import events as postgres_events
from offers.state.sqlite import events as sqlite_events
from offers.state.stores import PAGE, EventLog, LoggedDecision, LoggedEvent
from offers.v1.event_pb2 import EVENT_KIND_CLICK, EVENT_KIND_IMPRESSION, EVENT_KIND_ORDER, EventKind

FOREVER = 2_000_000_000


def event(
    event_id: str,
    person: str = "u:1",
    second: int = 100,
    kind: EventKind.ValueType = EVENT_KIND_CLICK,
    received: int = 110,
) -> LoggedEvent:
    """Return an event with all fields set."""
    return LoggedEvent(
        event_id, person, second, received, kind, "paris", "offre-é", "u09tvw", learn=True, body=b"\0body\xff"
    )


def decision(decision_id: str, person: str = "u:1", second: int = 100) -> LoggedDecision:
    """Return a decision with all fields set."""
    return LoggedDecision(decision_id, person, second, b"\0record\xff")


def ids(log: EventLog) -> list[str]:
    """Return the ids of all events in the log."""
    return [position.event.event_id for position in log.read(0, 10_000)]


def test_an_event_is_read_as_it_was_written(events_stores: Stores) -> None:
    """Every field of an event is read back, also of events of nobody."""
    log = events_stores.events
    written = [
        event("e1"),
        event("e2", person="")._replace(learn=False, catalog="", offer_id="", geohash="", body=b""),
        event("e3")._replace(body=bytes(range(256)) * 100),
    ]

    assert [True] * 3 == log.append(written)
    assert written == [position.event for position in log.read(0, 10)]
    assert written == log.unapplied(10)


@pytest.mark.parametrize("text", ["\0", "a\0b\\0\\\\", "\\", "é'\"{},\n", "{NULL}", "x" * 256])
def test_any_text_is_an_id(events_stores: Stores, text: str) -> None:
    """Ids of events and decisions may be any text."""
    log = events_stores.events
    written = event(text, person=f"u:{text}")._replace(catalog=text, offer_id=text)
    decided = decision(text, person=f"u:{text}")
    log.record([decided])

    assert [True] == log.append([written])
    assert [False] == log.append([written])
    assert {text} == log.known([text]) == log.pending([text])
    assert [written] == log.of_person([f"u:{text}"]) == log.unapplied(1)
    assert [decided] == log.decisions([text])
    log.applied([text])
    assert set() == log.pending([text])
    assert 1 == log.erase([f"u:{text}"])


def test_an_event_is_kept_once(events_stores: Stores) -> None:
    """An id that is known, or repeated in the call, is not new, and the stored event stays."""
    log = events_stores.events

    assert set() == log.known(["e1", "e2"])
    assert [True, True, False] == log.append([event("e1"), event("e2"), event("e1", person="u:2")])
    assert {"e1", "e2"} == log.known(["e1", "e2", "e3"])
    assert [False, True, False] == log.append([event("e2", second=1), event("e3"), event("e1")])
    assert [event("e1"), event("e2"), event("e3")] == [position.event for position in log.read(0, 10)]
    assert [] == log.append([])


def test_events_are_known_by_their_ids(events_stores: Stores) -> None:
    """Known ids are those in the log, applied or not."""
    log = events_stores.events
    log.append([event("e1"), event("e2")])
    log.applied(["e1"])

    assert {"e1", "e2"} == log.known(["e2", "e3", "e1"])
    assert set() == log.known([])


def test_an_event_is_found_by_its_id(events_stores: Stores) -> None:
    """An event is found as it was written, until it is erased."""
    log = events_stores.events
    log.append([event("e1"), event("e2", person="u:2")])
    assert event("e2", person="u:2") == log.find("e2")
    assert log.find("e3") is None
    log.erase(["u:2"])
    assert log.find("e2") is None
    assert event("e1") == log.find("e1")


def test_an_event_that_many_send_at_once_is_new_to_one(events_stores: Stores) -> None:
    """Of eight threads that append the same hundred events in different orders, one sees each as new."""

    def send(number: int) -> list[str]:
        batch = [event(f"e{(one * 7 + number * 13) % 100}") for one in range(100)]
        new = events_stores.events.append(batch)
        return [one.event_id for one, is_new in zip(batch, new, strict=True) if is_new]

    with ThreadPoolExecutor(8) as pool:
        found = [event_id for sent in pool.map(send, range(8)) for event_id in sent]

    assert sorted(f"e{number}" for number in range(100)) == sorted(found)


def test_positions_rise_and_are_never_used_again(events_stores: Stores) -> None:
    """Reading on from a number finds later events in order, also after erasures and sweeps."""
    log = events_stores.events
    log.append([event("e1", "u:1"), event("e2", "u:2")])
    places = [position.number for position in log.read(0, 10)]
    log.erase(["u:2"])
    log.sweep({EVENT_KIND_CLICK: FOREVER}, 0)
    log.append([event("e3"), event("e4")])
    later = [position.number for position in log.read(places[-1], 10)]

    assert sorted({*places, *later}) == [*places, *later]
    assert 2 == len(later)
    assert ["e3"] == [position.event.event_id for position in log.read(places[-1], 1)]
    assert [] == log.read(later[-1], 10)


def test_a_reader_of_the_log_misses_nothing(events_stores: Stores, events_settings: Settings) -> None:
    """A reader gets events of concurrent writers once each, however their transactions overlap."""
    following = open_stores(events_settings)
    total = 8 * 20 * 5

    def add(writer: int) -> None:
        for batch in range(20):
            events_stores.events.append([event(f"e{writer}-{batch}-{one}") for one in range(5)])

    seen: list[str] = []
    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(add, writer) for writer in range(8)]
        after = 0
        while len(seen) < total:
            done = all(writer.done() for writer in writers)
            found = following.events.read(after, 7)
            seen += [position.event.event_id for position in found]
            after = found[-1].number if found else after
            if done and not found:
                break
        for writer in writers:
            writer.result()
    following.close()

    assert total == len(seen) == len(set(seen))


def test_an_event_is_unapplied_until_it_is_confirmed(events_stores: Stores) -> None:
    """Unapplied events are returned, the oldest first, until they are confirmed."""
    log = events_stores.events
    log.append([event(f"e{number}") for number in range(5)])
    log.applied(["e0", "e3", "stranger"])
    log.applied(["e3"])
    log.applied([])

    assert ["e1", "e2", "e4"] == [one.event_id for one in log.unapplied(10)]
    assert ["e1", "e2"] == [one.event_id for one in log.unapplied(2)]
    assert {"e1", "e4"} == log.pending(["e0", "e1", "e4", "stranger"])
    assert set() == log.pending([])


def test_a_person_s_events_come_by_time(events_stores: Stores) -> None:
    """Events of all ids of a person, and no others', are returned by time."""
    log = events_stores.events
    log.append([event("e1", "u:1", 30), event("e2", "a:1", 20), event("e3", "u:2", 10), event("e4", "", 5)])
    log.append([event("e5", "u:1", 10)])

    assert ["e5", "e2", "e1"] == [one.event_id for one in log.of_person(["u:1", "a:1", "u:3"])]
    assert [] == log.of_person([""])


def test_a_person_s_log_comes_in_pages(events_stores: Stores) -> None:
    """Pages are of one size and by time; what is erased meanwhile is left out."""
    log = events_stores.events
    persons, count = ["u:1", "a:1"], PAGE + 44
    order = [(7 * number) % count for number in range(count)]
    log.append([event(f"e{second}", persons[second % 2], second) for second in order])
    log.record([decision(f"d{second}", persons[second % 2], second) for second in order])

    pages, decided = log.pages_of([*persons, "u:2"]), list(log.decision_pages_of([*persons, "u:2"]))
    first = next(pages)
    log.erase(["a:1"])
    (last,) = pages

    assert [PAGE, 44] == [len(page) for page in decided]
    assert [f"d{second}" for second in range(count)] == [one.decision_id for page in decided for one in page]
    assert [f"e{second}" for second in range(PAGE)] == [one.event_id for one in first]
    assert [f"e{second}" for second in range(PAGE, count, 2)] == [one.event_id for one in last]
    assert [] == list(log.pages_of(["u:2"])) == list(log.pages_of([]))
    assert [] == list(log.decision_pages_of([""]))


def test_a_long_log_is_erased_in_parts(events_stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each transaction erases a page at most, so that others can write between them; a short log needs only one."""
    log = events_stores.events
    log.append([event(f"e{number}", person=f"u:{number % 2}") for number in range(10)])
    log.record([decision(f"{number:032x}", person="u:1") for number in range(5)])
    owner, name = (log, "_writing") if hasattr(log, "_writing") else (vars(log)["_database"], "writing")
    writing, begun = getattr(owner, name), list[object]()

    def counted(**kwargs: bool) -> AbstractContextManager[object]:
        begun.append(kwargs)
        opened: AbstractContextManager[object] = writing(**kwargs)
        return opened

    monkeypatch.setattr(owner, name, counted)

    with monkeypatch.context() as small:
        for module in (sqlite_events, postgres_events):
            small.setattr(module, "PAGE", 2)
        assert 5 == log.erase(["u:1", "a:1"])
    assert 3 <= len(begun)
    assert ["e0", "e2", "e4", "e6", "e8"] == ids(log)
    assert [] == [one for page in log.decision_pages_of(["u:1"]) for one in page]

    begun.clear()
    assert 5 == log.erase(["u:0", "a:0"])
    assert 1 == len(begun)


def test_an_erased_person_s_events_and_decisions_are_gone(events_stores: Stores) -> None:
    """Erasing all ids removes applied and unapplied events; others' and nobody's stay; repeating finds none."""
    log = events_stores.events
    log.append([event("e1", "u:1"), event("e2", "a:1"), event("e3", "u:2"), event("e4", "")])
    log.applied(["e1"])
    log.record([decision("d1", "u:1"), decision("d2", "u:2"), decision("d3", "")])

    assert 2 == log.erase(["u:1", "a:1"])
    assert 0 == log.erase(["u:1", "a:1", ""])
    assert ["e3", "e4"] == ids(log)
    assert ["e3", "e4"] == [one.event_id for one in log.unapplied(10)]
    assert set() == log.pending(["e2"])
    assert [] == log.of_person(["u:1", "a:1"])
    assert [decision("d2", "u:2"), decision("d3", "")] == log.decisions(["d1", "d2", "d3"])


def test_erasing_up_to_a_second_leaves_later_rows(events_stores: Stores) -> None:
    """Erasing up to a second removes earlier events and decisions, and leaves later ones."""
    log = events_stores.events
    log.append([event("e1", second=10), event("e2", second=11), event("e3", "u:2", second=10)])
    log.record([decision("d1", second=10), decision("d2", second=11)])

    assert 1 == log.erase(["u:1"], 10)
    assert ["e2"] == [one.event_id for one in log.of_person(["u:1"])]
    assert ["d2"] == [one.decision_id for one in log.decisions_of(["u:1"])]
    assert ["e2", "e3"] == ids(log)
    assert 1 == log.erase(["u:1"], 11)
    assert ["e3"] == ids(log)
    assert [] == log.decisions_of(["u:1"])


def test_a_person_can_come_back_after_erasure(events_stores: Stores) -> None:
    """New events of an erased person are stored."""
    log = events_stores.events
    log.append([event("e1")])
    log.erase(["u:1"])
    log.append([event("e2")])

    assert [event("e2")] == log.of_person(["u:1"])


@pytest.mark.parametrize("count", [1, 2500])
def test_old_events_are_swept_by_kind(events_stores: Stores, count: int) -> None:
    """Events reported before their kind's second are swept, decisions made before theirs, too."""
    log = events_stores.events
    old = [event(f"old{number}", "u:old", kind=EVENT_KIND_IMPRESSION, received=99) for number in range(count)]
    kept = [
        event("e1", kind=EVENT_KIND_IMPRESSION, received=100),
        event("e2", kind=EVENT_KIND_CLICK, received=99),
        event("e3", kind=EVENT_KIND_ORDER, received=1),
    ]
    log.append([*old, *kept])
    log.record([decision("d1", "u:old", 49), decision("d2", "u:1", 50)])

    assert count == log.sweep({EVENT_KIND_IMPRESSION: 100, EVENT_KIND_CLICK: 99}, 50)
    assert 0 == log.sweep({EVENT_KIND_IMPRESSION: 100, EVENT_KIND_CLICK: 99}, 50)
    assert kept == [position.event for position in log.read(0, 10)]
    assert kept == log.of_person(["u:1", "u:old"])
    assert [decision("d2", second=50)] == [found for _, found in log.decisions_after(0, 10)]


def test_a_person_s_decisions_come_by_time(events_stores: Stores) -> None:
    """Decisions of all ids of a person, neither others' nor erased ones, are returned by time."""
    log = events_stores.events
    log.record([decision("d1", "u:1", 30), decision("d2", "a:1", 20), decision("d3", "u:2", 10), decision("d4", "", 5)])
    log.record([decision("d5", "u:1", 10)])

    assert ["d5", "d2", "d1"] == [one.decision_id for one in log.decisions_of(["u:1", "a:1", "u:3"])]
    assert [] == log.decisions_of([""])
    log.erase(["u:1"])
    assert [decision("d2", "a:1", 20)] == log.decisions_of(["u:1", "a:1"])


def test_many_decisions_are_recorded_at_once(events_stores: Stores) -> None:
    """However many decisions are recorded in a call, each is stored once, in order."""
    log = events_stores.events
    many = [decision(f"d{number}", f"u:{number % 7}" if number % 5 else "", number) for number in range(75)]
    log.record([*many[:40], many[3], *many[40:], many[3]])

    assert many == [one for _, one in log.decisions_after(0, 100)]
    assert [one for one in many if one.person == "u:1"] == log.decisions_of(["u:1"])


def test_decisions_are_read_as_they_were_written(events_stores: Stores) -> None:
    """Every field is read back; a known id stays as it was; numbers rise."""
    log = events_stores.events
    plain = decision("d2", "")._replace(record=b"")
    log.record([decision("d1"), plain])
    log.record([decision("d1", "u:2"), decision("d3")])
    log.record([])
    places, found = zip(*log.decisions_after(0, 10), strict=True)

    assert (decision("d1"), plain, decision("d3")) == found
    assert sorted(set(places)) == list(places)
    assert [(places[1], plain)] == log.decisions_after(places[0], 1)
    assert {"d1", "d3"} == {one.decision_id for one in log.decisions(["d3", "stranger", "d1"])}


def test_the_end_of_a_log_stays_when_its_rows_go(events_stores: Stores) -> None:
    """The numbers given last are those of the last rows, also once these are erased. The identity is the log's own."""
    log = events_stores.events
    identity, *none = log.end()
    assert identity
    assert [0, 0] == none
    log.append([event("e1"), event("e2")])
    log.record([decision("d1")])
    last = identity, log.read(0, 10)[-1].number, log.decisions_after(0, 10)[-1][0]
    assert last == log.end()
    log.erase(["u:1"])
    log.sweep({EVENT_KIND_CLICK: FOREVER}, FOREVER)
    assert last == log.end()
