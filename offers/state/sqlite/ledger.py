"""Budgets and their usage in SQLite."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import orjson

from offers.state.sqlite.file import Database, translated
from offers.state.stores import DONE, FORGET_EVERY_S, KEPT_S, PERIOD_KEPT_S, Demand, RedemptionOutcome, Usage, refused

_EXPIRED_AT_ONCE = 500


class _ExhaustedError(Exception):
    """A budget has too little left; the transaction is rolled back."""


class SqliteLedger:
    """A Ledger in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._forget_at = 0

    def reserve(self, redemption: str, demands: Sequence[Demand], now: int, until: int) -> RedemptionOutcome:
        """See Ledger."""
        try:
            with self._step(redemption, now) as (connection, phase):
                if phase in {"released", "expired"}:
                    return refused(phase)
                if phase == "unknown":
                    _take(connection, demands)
                    _keep(connection, redemption, "held", until, demands)
                return DONE
        except _ExhaustedError as error:
            return refused("exhausted", str(error))

    def confirm(self, redemption: str, demands: Sequence[Demand], now: int) -> RedemptionOutcome:
        """See Ledger."""
        try:
            with self._step(redemption, now) as (connection, phase):
                if phase == "released":
                    return refused(phase)
                if phase in {"unknown", "expired"}:
                    _take(connection, demands)
                if phase != "confirmed":
                    _keep(connection, redemption, "confirmed", now, ())
                return DONE
        except _ExhaustedError as error:
            return refused("exhausted", str(error))

    def release(self, redemption: str, now: int) -> RedemptionOutcome:
        """See Ledger."""
        with self._step(redemption, now) as (connection, phase):
            if phase in {"unknown", "confirmed"}:
                return refused(phase)
            if phase == "held":
                _give_back(connection, redemption)
            if phase != "released":
                _keep(connection, redemption, "released", now, ())
            return DONE

    def expire(self, now: int) -> int:
        """See Ledger. Takes the write lock only where a reservation has expired."""
        expired = 0
        query = "SELECT redemption FROM redemption WHERE phase = 'held' AND second <= ? LIMIT ?"
        with translated(self._database.path):
            while self._database.connection().execute(query, (now, 1)).fetchone():
                with self._database.writing() as connection:  # in batches, so that others can write in between
                    rows = connection.execute(query, (now, _EXPIRED_AT_ONCE)).fetchall()
                    for (redemption,) in rows:
                        _give_back(connection, redemption)
                        _keep(connection, redemption, "expired", now, ())
                expired += len(rows)
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY_S
            with self._database.writing() as connection:
                query = "DELETE FROM redemption WHERE phase IN ('confirmed', 'released', 'expired') AND second <= ?"
                connection.execute(query, (now - KEPT_S,))
                connection.execute("DELETE FROM used WHERE period > 0 AND period <= ?", (now - PERIOD_KEPT_S,))
        return expired

    def usage(self) -> Iterable[Usage]:
        """See Ledger."""
        with translated(self._database.path):
            rows = self._database.connection().execute("SELECT budget, period, units, micros FROM used").fetchall()
        return [Usage(*row) for row in rows]

    def close(self) -> None:
        """See Ledger."""
        self._database.close()

    @contextmanager
    def _step(self, redemption: str, now: int) -> Iterator[tuple[sqlite3.Connection, str]]:
        """Run a transaction; yield it with the phase of a redemption, whose hold expires here if it is over."""
        with self._database.writing() as connection:
            query = "SELECT phase, second FROM redemption WHERE redemption = ?"
            phase, second = connection.execute(query, (redemption,)).fetchone() or ("unknown", 0)
            if phase == "held" and second <= now:
                _give_back(connection, redemption)
                phase = "expired"
                _keep(connection, redemption, phase, now, ())
            yield connection, phase


def _take(connection: sqlite3.Connection, demands: Sequence[Demand]) -> None:
    for demand in demands:
        _take_one(connection, demand, 0, demand.max_units, demand.max_micros)
        if demand.period:
            _take_one(connection, demand, demand.period, demand.max_period_units, demand.max_period_micros)


def _take_one(connection: sqlite3.Connection, demand: Demand, period: int, max_units: int, max_micros: int) -> None:
    units, micros = connection.execute(
        "INSERT INTO used VALUES (?, ?, ?, ?) ON CONFLICT (budget, period) DO UPDATE"
        " SET units = units + excluded.units, micros = micros + excluded.micros RETURNING units, micros",
        (demand.budget, period, demand.units, demand.micros),
    ).fetchone()
    if (demand.units and 0 <= max_units < units) or (demand.micros and 0 <= max_micros < micros):
        raise _ExhaustedError(demand.budget)


def _give_back(connection: sqlite3.Connection, redemption: str) -> None:
    query = "SELECT demands FROM redemption WHERE redemption = ?"
    (demands,) = connection.execute(query, (redemption,)).fetchone()
    for budget, period, units, micros in orjson.loads(demands):
        for one in {0, period}:
            connection.execute(
                "UPDATE used SET units = units - ?, micros = micros - ? WHERE budget = ? AND period = ?",
                (units, micros, budget, one),
            )


def _keep(connection: sqlite3.Connection, redemption: str, phase: str, second: int, demands: Sequence[Demand]) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO redemption VALUES (?, ?, ?, ?)",
        (redemption, phase, second, orjson.dumps([demand[:4] for demand in demands])),
    )
