"""A peer that answers by one SQL query: PostgreSQL with PostGIS."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.peers import servers
from benchmarks.peers.questions import Offering, Question
from benchmarks.peers.ranking import (
    BEST,
    HALVED,
    LEAST_NEARNESS,
    LEAST_TIMELINESS,
    NEARNESS_M,
    TIMELINESS_S,
    WITHOUT_DISTANCE,
    Asked,
    MissingError,
    Ranked,
)
from benchmarks.synthetic import NOW

_RAW_TABLES = """
CREATE TEMPORARY TABLE raw_places (place int, longitude float8, latitude float8, reach_m float8,
    west float8, south float8, east float8, north float8);
CREATE TABLE entries (place int, number int, starts int8, ends int8, terms int2, log_value float8);
"""
_TABLES = """
CREATE TABLE places AS SELECT place, reach_m, ST_SetSRID(ST_MakePoint(longitude, latitude), 4326)::geography AS point,
    ST_MakeEnvelope(west, south, east, north, 4326) AS box FROM raw_places ORDER BY place;
CREATE INDEX ON places USING gist (point);
CREATE INDEX ON places USING gist (box);
CREATE INDEX ON entries (place);
CREATE INDEX ON entries (number) WHERE place IS NULL;
"""
_HERE = "ST_SetSRID(ST_MakePoint(%(longitude)s, %(latitude)s), 4326)"
_WITHIN = f"ST_DWithin(point, {_HERE}::geography, %(farthest_m)s)"
"""Places within the longest reach of any place: the obvious way."""
_BOXED = f"box && {_HERE}"
"""Places whose own box of reach contains the location: fewer."""
_SHOWN = f"starts <= {NOW} AND ends > {NOW} AND terms = ANY(%(terms)s)"
_QUERY = f"""
SELECT number, score FROM (
    SELECT DISTINCT ON (number) number,
        %(weight)s::float8 * nearness + log_value
            + greatest({HALVED / TIMELINESS_S}::float8 * (ends - {NOW}), {LEAST_TIMELINESS}::float8) AS score
    FROM (
        SELECT number, ends, log_value, metres,
            greatest({HALVED / NEARNESS_M**2}::float8 * metres * metres, {LEAST_NEARNESS}::float8) AS nearness
        FROM (
            SELECT place, reach_m, ST_Distance(point, {_HERE}::geography) AS metres FROM places WHERE {{near}} OFFSET 0
        ) AS near JOIN entries USING (place)
        WHERE metres <= reach_m AND {_SHOWN}
        UNION ALL
        SELECT number, ends, log_value, 'infinity', {WITHOUT_DISTANCE}::float8
        FROM entries WHERE place IS NULL AND {_SHOWN}
    ) AS eligible
    ORDER BY number, metres, ends DESC
) AS nearest
ORDER BY score DESC, number LIMIT {BEST}
"""  # noqa: S608 - of constants


@contextmanager
def database() -> Iterator[Any]:
    """Connect to a new server that has PostGIS. Raises MissingError."""
    try:
        import psycopg
    except ImportError as error:
        raise MissingError(".venv/bin/pip install 'psycopg[binary]'") from error
    connect = partial(
        psycopg.connect, host=servers.HOST, user=servers.POSTGRES_USER, dbname="postgres", autocommit=True
    )
    with servers.postgres() as server:
        deadline = time.monotonic() + servers.START_S
        while True:
            try:
                connection = connect(port=server.port, password=server.password)
                break
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        with connection:
            try:
                connection.execute("CREATE EXTENSION postgis")
            except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
                raise MissingError("apt-get install postgresql-postgis") from error
            yield connection


@contextmanager
def postgis(offering: Offering) -> Iterator[dict[str, Asked]]:
    """Prepare PostGIS, for both queries. Raises MissingError."""
    with database() as connection:
        connection.execute(_RAW_TABLES)
        _load(connection, offering)
        row = connection.execute("SELECT PostGIS_Lib_Version()").fetchone()
        version = f"PostgreSQL {connection.info.server_version // 10_000}, PostGIS {row[0] if row else ''}"
        farthest_m = float(offering.reach_m.max())
        yield {
            way: Asked(partial(_ask, connection.cursor(), _QUERY.format(near=near), farthest_m), version)
            for way, near in (("ST_DWithin", _WITHIN), ("boxes", _BOXED))
        }


def _ask(cursor: Any, query: str, farthest_m: float, question: Question) -> Ranked:  # noqa: ANN401 - may be missing
    arguments = {
        "longitude": question.longitude,
        "latitude": question.latitude,
        "farthest_m": farthest_m,
        "terms": question.terms,
        "weight": question.nearness_weight,
    }
    rows: Ranked = cursor.execute(query, arguments, prepare=True).fetchall()
    return rows


def _load(connection: Any, offering: Offering) -> None:  # noqa: ANN401
    places = (offering.longitude, offering.latitude, offering.reach_m, *offering.boxes())
    _copy(connection, "raw_places", zip(range(len(offering.reach_m)), *(one.tolist() for one in places), strict=True))
    everywhere = len(offering.number) - offering.everywhere
    ends = offering.ends()
    entries = (offering.number, offering.start, ends, offering.terms, offering.log_value)
    columns = ([*offering.place.tolist(), *[None] * everywhere], *(one.tolist() for one in entries))
    _copy(connection, "entries", zip(*columns, strict=True))
    for statement in (*_TABLES.split(";"), "VACUUM ANALYZE places", "VACUUM ANALYZE entries"):
        connection.execute(statement)


def _copy(connection: Any, table: str, rows: Iterable[tuple[Any, ...]]) -> None:  # noqa: ANN401
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
