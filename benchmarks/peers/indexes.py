"""Peers in this process that find places by an index of boxes: SQLite's R*Tree and shapely's STRtree."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np

from benchmarks.peers.questions import Offering, Question
from benchmarks.peers.ranking import Asked, MissingError, Ranked, Ranking


@contextmanager
def sqlite_rtree(offering: Offering) -> Iterator[Asked]:
    """Prepare SQLite's R*Tree, in memory."""
    ranking = Ranking(offering)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE VIRTUAL TABLE places USING rtree(id, west, east, south, north)")
        west, south, east, north = (side.tolist() for side in offering.boxes())
        rows = zip(range(len(west)), west, east, south, north, strict=True)
        database.executemany("INSERT INTO places VALUES (?, ?, ?, ?, ?)", rows)
        find = "SELECT id FROM places WHERE west <= ?1 AND east >= ?1 AND south <= ?2 AND north >= ?2"

        def ask(question: Question) -> Ranked:
            rows = database.execute(find, (question.longitude, question.latitude))
            return ranking.best(np.array([place for (place,) in rows], np.int64), question)

        yield Asked(ask, f"SQLite {sqlite3.sqlite_version}")


@contextmanager
def shapely_strtree(offering: Offering) -> Iterator[Asked]:
    """Prepare the STRtree of shapely. Raises MissingError."""
    try:
        import shapely
    except ImportError as error:
        raise MissingError(".venv/bin/pip install shapely") from error
    ranking = Ranking(offering)
    tree = shapely.STRtree(shapely.box(*offering.boxes()))

    def ask(question: Question) -> Ranked:
        return ranking.best(tree.query(shapely.Point(question.longitude, question.latitude)), question)

    yield Asked(ask, f"shapely {shapely.__version__}")
