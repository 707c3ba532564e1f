"""A process that learns in small pages and keeps what it knows after each, to be killed: learn_slowly LOG FOLDER."""

import sys
from pathlib import Path

from offers.learning import learner, log_reading
from offers.learning.learner import Learner
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from tests.learning.made_log import OFFERS, at_its_end


def main(log: str, folder: str) -> None:
    """Learn all there is."""
    log_reading.PAGE = 300
    learner.CHECKPOINT_S = 0.0
    Learner(SqliteEvents(Database(Path(log))), Path(folder), OFFERS, bits=12).catch_up(
        lambda: False, lambda _: None, at_its_end
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
