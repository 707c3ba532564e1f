"""Budgets and their usage in SQLite, and how often persons redeem."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from offers.state.ledger import (
    FORGET_EVERY_S,
    KEPT_S,
    PERIOD_KEPT_S,
    UNKNOWN,
    Amounts,
    Demand,
    KeptRedemption,
    Redemption,
    RedemptionOutcome,
    Usage,
    adjusted,
    is_reached,
    is_repeated,
    refusal,
    refused,
    settled,
)
from offers.state.sqlite.file import Database, translated
from offers.state.stores import Person

_EXPIRED_AT_ONCE = 500
_COLUMNS = (
    "redemption, phase, second, demands, event_id, confirm_event_id, offer, person, units, micros, currency"  # in order
)


class _RefusedError(Exception):
    """A step is refused, for a reason and for lack of something."""


class _Row(NamedTuple):
    """A redemption in the file."""

    kept: KeptRedemption
    until: int = 0
    """When the hold is over."""
    held: tuple[Demand, ...] = ()
    """The amounts taken from budgets, without limits."""


class SqliteLedger:
    """A Ledger in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._forget_at = 0

    def reserve(self, asked: Redemption, now: int, until: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._do(asked, now, "held", until)

    def confirm(self, asked: Redemption, now: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._do(asked, now, "confirmed", now)

    def release(self, asked: Redemption, now: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._do(asked, now, "released", now)

    def reverse(self, asked: Redemption, now: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._do(asked, now, "reversed", now)

    def find(self, name: str) -> KeptRedemption:
        """See Ledger."""
        with translated(self._database.path):
            return _row(self._database.connection(), name).kept

    def redeemed(self, persons: Sequence[Person]) -> list[tuple[int, int]]:
        """See Ledger."""
        with translated(self._database.path):
            connection = self._database.connection()
            return sorted(
                row
                for person in persons
                for row in connection.execute(
                    "SELECT cap, second FROM redeemed WHERE person = ?", (self._database.hash(person),)
                )
            )

    def forget(self, persons: Sequence[Person]) -> None:
        """See Ledger."""
        with self._database.writing() as connection:
            hashes = [(self._database.hash(person),) for person in persons]
            connection.executemany("DELETE FROM redeemed WHERE person = ?", hashes)

    def expire(self, now: int) -> int:
        """See Ledger. Takes the write lock only where a reservation has expired."""
        expired = 0
        query = "SELECT redemption FROM redemption WHERE phase = 'held' AND second <= ? LIMIT ?"
        with translated(self._database.path):
            while self._database.connection().execute(query, (now, 1)).fetchone():
                with self._database.writing() as connection:  # in batches, so that others can write in between
                    rows = connection.execute(query, (now, _EXPIRED_AT_ONCE)).fetchall()
                    for (redemption,) in rows:
                        _expire(connection, redemption, _row(connection, redemption), now)
                expired += len(rows)
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY_S
            with self._database.writing() as connection:
                for phase in ("expired", "released", "confirmed", "reversed"):
                    query = "DELETE FROM redemption WHERE phase = ? AND second <= ?"
                    connection.execute(query, (phase, now - KEPT_S))
                connection.execute("DELETE FROM used WHERE period > 0 AND period <= ?", (now - PERIOD_KEPT_S,))
                connection.execute("DELETE FROM redeemed WHERE matters <= ?", (now,))
        return expired

    def usage(self) -> Iterable[Usage]:
        """See Ledger."""
        with translated(self._database.path):
            rows = self._database.connection().execute("SELECT budget, period, units, micros FROM used").fetchall()
        return [Usage(*row) for row in rows]

    def close(self) -> None:
        """See Ledger."""
        self._database.close()

    def _do(self, asked: Redemption, now: int, phase: str, second: int) -> RedemptionOutcome:
        """Bring a redemption into a phase since a second or, for "held", until a second."""
        hashes = [self._database.hash(person) for person in asked.persons]
        with self._database.writing() as connection:
            row = _row(connection, asked.name)
            if row.kept.phase == "held" and row.until <= now:
                row = _expire(connection, asked.name, row, now)
            if reason := refusal(row.kept, asked, hashes, phase):
                return refused(reason, row.kept)
            if is_repeated(row.kept, phase):
                repeated = row.kept.event_id != asked.event_id
                return RedemptionOutcome(done=True, repeated=repeated, kept=row.kept)
            try:
                with self._database.writing():  # undone alone where it is refused
                    is_taken = phase in {"held", "confirmed"}
                    after = (
                        _taken(connection, asked, hashes, row) if is_taken else _given_back(connection, asked.name, row)
                    )
            except _RefusedError as error:
                reason, lacking = error.args
                return refused(reason, row.kept, lacking)
            kept = after.kept._replace(phase=phase, event_id=asked.event_id)
            if phase == "confirmed":
                kept = kept._replace(confirm_event_id=asked.event_id)
            _write(connection, asked.name, after._replace(kept=kept), second)
            return RedemptionOutcome(done=True, kept=row.kept)


def _row(connection: sqlite3.Connection, name: str) -> _Row:
    query = f"SELECT {_COLUMNS} FROM redemption WHERE redemption = ?"
    found = connection.execute(query, (name,)).fetchone()
    if found is None:
        return _Row(UNKNOWN)
    _, phase, second, demands, event_id, confirm_event_id, offer, person, units, micros, currency = found
    amounts = Amounts(units, micros, currency)
    held = tuple(Demand._make((*one, -1, -1, -1, -1)) for one in orjson.loads(demands))
    return _Row(KeptRedemption(phase, event_id, confirm_event_id, offer, person, amounts), second, held)


def _write(connection: sqlite3.Connection, name: str, row: _Row, second: int) -> None:
    kept, demands = row.kept, orjson.dumps([demand[:4] for demand in row.held])
    values = (name, kept.phase, second, demands, kept.event_id, kept.confirm_event_id, kept.offer, kept.person)
    places = ", ".join("?" * (len(values) + len(kept.amounts)))
    connection.execute(f"INSERT OR REPLACE INTO redemption ({_COLUMNS}) VALUES ({places})", (*values, *kept.amounts))


def _expire(connection: sqlite3.Connection, name: str, row: _Row, now: int) -> _Row:
    """Give back what a hold that is over has taken."""
    after = _given_back(connection, name, row)
    after = after._replace(kept=after.kept._replace(phase="expired"))
    _write(connection, name, after, now)
    return after


def _taken(connection: sqlite3.Connection, asked: Redemption, hashes: Sequence[bytes], row: _Row) -> _Row:
    """Take what a step asks for, beyond what is held, and return the row with it. Raises _RefusedError."""
    kept = row.kept
    changes = adjusted(row.held, asked) if kept.phase == "held" else [(one, one) for one in asked.demands]
    for change, _ in changes:
        _take(connection, change, 0, change.max_units, change.max_micros)
        if change.period:
            _take(connection, change, change.period, change.max_period_units, change.max_period_micros)
    if hashes and (kept.phase != "held" or not kept.person):
        _count(connection, asked, hashes)
    elif hashes:
        _count_again(connection, asked, hashes, kept.person)
    known = kept.amounts if kept.phase == "held" else Amounts(1, 0, kept.amounts.currency)
    amounts = settled(known, asked.amounts)
    kept = kept._replace(offer=kept.offer or asked.offer, person=kept.person or b"".join(hashes[:1]), amounts=amounts)
    return row._replace(kept=kept, held=tuple(after for _, after in changes))


def _take(connection: sqlite3.Connection, demand: Demand, period: int, max_units: int, max_micros: int) -> None:
    units, micros = connection.execute(
        "INSERT INTO used VALUES (?, ?, ?, ?) ON CONFLICT (budget, period) DO UPDATE"
        " SET units = units + excluded.units, micros = micros + excluded.micros RETURNING units, micros",
        (demand.budget, period, demand.units, demand.micros),
    ).fetchone()
    if (demand.units > 0 and 0 <= max_units < units) or (demand.micros > 0 and 0 <= max_micros < micros):
        raise _RefusedError("exhausted", demand.budget)


def _count(connection: sqlite3.Connection, asked: Redemption, hashes: Sequence[bytes]) -> None:
    """Count a redemption for its person. Raises _RefusedError at a cap."""
    matters: dict[int, int] = {}
    query = f"SELECT second FROM redeemed WHERE cap = ? AND person IN ({', '.join('?' * len(hashes))})"
    for cap in asked.caps:
        seconds = [second for (second,) in connection.execute(query, (cap.key, *hashes))]
        if is_reached(cap, seconds, asked.second):
            raise _RefusedError("capped", cap.name)
        matters[cap.key] = max(matters.get(cap.key, 0), cap.matters_until(asked.second))
    connection.executemany(
        "INSERT OR REPLACE INTO redeemed VALUES (?, ?, ?, ?, ?)",
        [(asked.name, key, hashes[0], asked.second, until) for key, until in matters.items()],
    )


def _count_again(connection: sqlite3.Connection, asked: Redemption, hashes: Sequence[bytes], own: bytes) -> None:
    """Count a held redemption with what was confirmed under ids that have become the same person.

    Raises _RefusedError at a cap.
    """
    confirmed = (
        "SELECT redeemed.person, redeemed.second FROM redeemed LEFT JOIN redemption USING (redemption)"
        f" WHERE cap = ? AND redeemed.person IN ({', '.join('?' * len(hashes))})"
        " AND coalesce(phase, 'confirmed') = 'confirmed'"  # older redemptions are forgotten before their counts
    )
    for cap in asked.caps:
        query = "SELECT second FROM redeemed WHERE redemption = ? AND cap = ?"
        found = connection.execute(query, (asked.name, cap.key)).fetchone()
        others = connection.execute(confirmed, (cap.key, *hashes)).fetchall()
        if found is None or all(person == own for person, _ in others):
            continue
        is_in = cap.rolling_s or cap.begin <= found[0] < cap.end
        if is_in and is_reached(cap, [second for _, second in others], found[0]):
            raise _RefusedError("capped", cap.name)


def _given_back(connection: sqlite3.Connection, name: str, row: _Row) -> _Row:
    """Give back all that a redemption has taken, and return the row without it."""
    for budget, period, units, micros, *_ in row.held:
        for one in {0, period}:
            connection.execute(
                "UPDATE used SET units = units - ?, micros = micros - ? WHERE budget = ? AND period = ?",
                (units, micros, budget, one),
            )
    connection.execute("DELETE FROM redeemed WHERE redemption = ?", (name,))
    return row._replace(held=())
