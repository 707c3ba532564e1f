"""A process that writes to a database as it is told, line by line, and says what was acknowledged."""

import sys
from pathlib import Path

from offers.errors import StoreUnavailableError
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from offers.state.stores import LoggedDecision, LoggedEvent
from offers.v1.event_pb2 import EVENT_KIND_CLICK


def main(path: str, body_size: str) -> None:
    """Append an event for each id that is read; an id with a minus erases its person, with a plus logs a decision."""
    events = SqliteEvents(Database(Path(path)))
    print("open", flush=True)  # noqa: T201 - the answer
    for line in map(str.strip, sys.stdin):
        try:
            if line.startswith("-"):
                events.erase([f"u:{line[1:]}"])
            elif line.startswith("+"):
                events.record([LoggedDecision(line[1:], "", 1, b"record")])
            else:
                person, body = f"u:{line}", bytes(int(body_size))
                events.append([LoggedEvent(line, person, 1, 1, EVENT_KIND_CLICK, "c", "", "", learn=True, body=body)])
        except StoreUnavailableError:
            print("failed", line, flush=True)  # noqa: T201 - the answer
        else:
            print("done", line, flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
