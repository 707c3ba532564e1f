"""A process to be killed: learn_slowly LOG FOLDER. It learns in small pages, and publishes and saves after each."""

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
    one = Learner(SqliteEvents(Database(Path(log))), Path(folder), OFFERS, bits=12)
    one.catch_up(lambda: False, lambda _: one.publish(), at_its_end)


if __name__ == "__main__":
    main(*sys.argv[1:])
