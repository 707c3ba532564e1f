"""Steps of clients against the services of a worker, killed at each of their writes in turn, and repeated.

    python -m tests.faults.disk.steps FOLDER STRIDE

A process that has imported everything forks a child for each kill. The child does the steps, and dies in its n-th
write. Another child then does the steps that were not acknowledged, as a client would, and tells what the stores know:
the same as without a kill. Prints how many kills there were.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson
from google.protobuf.field_mask_pb2 import FieldMask

from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.server.events.intake import Intake
from offers.server.events.live_offers import LiveOffers
from offers.server.events.service import EventService
from offers.server.live import Live
from offers.server.profile_service import ProfileService
from offers.settings import Settings
from offers.state.opening import Stores, open_stores
from offers.state.person.consent import PURPOSES
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import Event, RedemptionEvent
from offers.v1.event_service_pb2 import ReportEventsRequest, ReportEventsResponse
from offers.v1.profile_service_pb2 import DeleteProfileRequest, LinkIdentitiesRequest, UpdateProfileRequest
from offers.v1.state_pb2 import UserState
from tests.faults.clients import order, redemption, write_catalog
from tests.server.persons import AGREED

NOW = 1_795_345_200
PERSONS = ("ada", "bob", "cy", "gone")
RESERVE, CONFIRM, RELEASE = (
    RedemptionEvent.PHASE_RESERVE,
    RedemptionEvent.PHASE_CONFIRM,
    RedemptionEvent.PHASE_RELEASE,
)
MOST_KILLS = 2_000


class Services:
    """The services of a worker, without their transport."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        settings = Settings(data_dir=folder)
        self.stores: Stores = open_stores(settings)
        consent = frozenset(PURPOSES[name] for name in settings.default_consent)

        def clock() -> float:
            return NOW

        self.intake = Intake(
            self.stores, LiveOffers(Live([engine])), clock=clock, default_consent=consent, geohash_length=6
        )
        self.events = EventService(self.intake)
        self.profiles = ProfileService(
            *self.stores, clock=clock, default_consent=consent, retention_days=settings.retention_days
        )

    def report(self, *events: Event) -> None:
        """Report events, all of which must be taken."""
        for event in events:
            event.event_time.seconds = NOW
        answer = self.events.report_events(ReportEventsRequest(events=events).SerializeToString())
        results = ReportEventsResponse.FromString(answer).results
        assert not any(result.status.code for result in results), results

    def steps(self) -> list[Callable[[], object]]:
        """Return the steps, each of which may be repeated."""
        update = UpdateProfileRequest(
            user=User(user_id="bob", consent=AGREED), update_mask=FieldMask(paths=["attributes.vip"])
        )
        update.profile.attributes.update({"vip": True})
        link = LinkIdentitiesRequest(user_id="cy", anonymous_ids=["visitor"], consent=AGREED)
        erase = DeleteProfileRequest(user=User(user_id="gone"))
        return [
            lambda: self.report(*(order(f"o-{number}", PERSONS[number % 4]) for number in range(40))),
            lambda: self.report(redemption("r-1", "one", RESERVE), order("o-40", "ada")),
            lambda: self.report(redemption("r-2", "two", RESERVE)),
            lambda: self.report(redemption("c-1", "one", CONFIRM)),
            lambda: self.report(redemption("l-2", "two", RELEASE)),
            lambda: self.profiles.update_profile(update.SerializeToString()),
            lambda: self.profiles.link_identities(link.SerializeToString()),
            lambda: self.profiles.delete_profile(erase.SerializeToString()),
            lambda: self.report(*(order(f"late-{number}", PERSONS[number % 3]) for number in range(9))),
        ]

    def told(self) -> dict[str, object]:
        """Return what the stores know, apart from what chance has chosen."""
        states = {one: UserState.FromString(self.stores.state.read(f"u:{one}")) for one in PERSONS}
        return {
            "orders": {one: state.profile.order_count for one, state in states.items()},
            "vip": "vip" in states["bob"].profile.attributes.fields,
            "ids": self.stores.state.ids("a:visitor"),
            "events": sorted(one.event.event_id for one in self.stores.events.read(0, 1_000)),
            "unapplied": len(self.stores.events.unapplied(1)),
            "usage": sorted((one.budget, one.period, one.units) for one in self.stores.ledger.usage()),
        }


def main(folder: Path, stride: int) -> int:
    """Kill at every `stride`-th write. Returns the number of kills."""
    folder.mkdir()
    _count_writes_from(-MOST_KILLS)  # those of this process matter to nobody
    engine = Engine(open_snapshot(publish(write_catalog(folder), folder / "snapshots").path))
    fault = Path(os.environ["DISK_FAULT"])
    expected = _repeated(folder / "whole", engine)
    assert expected["orders"] == {"ada": 14, "bob": 13, "cy": 13, "gone": 0}, expected
    for kills, write in enumerate(range(1, MOST_KILLS, stride)):
        data = folder / f"{write}"
        fault.write_text(f"kill {write}")
        is_killed = _in_child(lambda data=data: _done(data, engine))  # type: ignore[misc]
        fault.unlink()
        if not is_killed:
            return kills
        found = _repeated(data, engine)
        assert expected == found, f"killed in write {write}: {found}, and not {expected}"
    raise AssertionError("the steps never end")


def _count_writes_from(number: int) -> None:
    sys.modules["sitecustomize"].the_disk.writes = number


def _done(data: Path, engine: Engine) -> None:
    """Do the steps, and note how many were acknowledged."""
    _count_writes_from(0)
    services = Services(data, engine)
    acknowledged = os.open(_note(data), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for step in services.steps():
        step()
        os.write(acknowledged, b".")
    services.stores.close()


def _note(data: Path) -> Path:
    return data.with_suffix(".acknowledged")


def _repeated(data: Path, engine: Engine) -> dict[str, object]:
    """Recover, do the steps that were not acknowledged, and return the state, all in a process of its own."""
    read, write = os.pipe()
    done = _note(data).stat().st_size if _note(data).exists() else 0

    def repeat() -> None:
        services = Services(data, engine)
        services.intake.recover(0)
        for step in services.steps()[done:]:
            step()
        os.write(write, orjson.dumps(services.told()))
        services.stores.close()

    assert not _in_child(repeat)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found: dict[str, object] = orjson.loads(pipe.read())
    return found


def _in_child(work: Callable[[], object]) -> bool:
    """Run something in a child. Returns whether it was killed; raises AssertionError if it failed otherwise."""
    child = os.fork()
    if not child:
        status = 1
        with suppress(KeyboardInterrupt):
            try:
                work()
                status = 0
            finally:
                os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or not os.WEXITSTATUS(status), f"a child ended with {os.WEXITSTATUS(status)}"
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2])))  # noqa: T201 - for whoever started it
