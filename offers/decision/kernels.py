"""The compiled loops of a decision: retrieve, screen, score, arrange.

`reference.py` says in plain Python what they compute, and the tests hold the two equal. Every loop takes tables of
addresses (see records.py) and names at its top the arrays it reads.
"""

import math

import numpy as np
from numba import njit

from offers.catalogue.geometry import ECCENTRICITY_2, EQUATORIAL_RADIUS_M, LEAST_RADIUS_M, MEAN_RADIUS_M
from offers.catalogue.schedules import NEVER
from offers.catalogue.snapshot import AROUND_POINT, ENTRY, NO_CHAIN, NO_SCHEDULE, NO_WINDOWS, OFFER
from offers.decision.records import (
    CLOSED,
    OPEN,
    UNKNOWN,
    Column,
    Hours,
    Outcome,
    Scratch,
    Table,
    Terms,
    centres_of,
    chosen_of,
    entries_of,
    f8,
    fetch_ahead,
    i4,
    i8,
    offers_of,
    strategies_of,
    u1,
    u4,
)
from offers.v1.ranking_pb2 import Decay

GAUSS, LINEAR = int(Decay.SHAPE_GAUSS), int(Decay.SHAPE_LINEAR)
REFRESH_S = 86_400
"""The longest a decision is said to hold: catalogues are edited daily."""
HALF_TURN = math.pi / 2
ENTRY_BYTES, OFFER_BYTES = ENTRY.itemsize, OFFER.itemsize
LINE_BYTES = 64
"""A line of the processor's cache."""
_NEVER = NEVER  # numba reads globals of this module only once, as constants


@njit(error_model="numpy")
def retrieve(columns: Table, scratch: Table, terms: Table, latitude: float, longitude: float, time: int) -> int:
    """Find the entries within reach of a location (NaN: only those shown everywhere).

    Writes candidates and their distances, and the metres within which nothing else comes within reach nor anything out
    of it. Returns how many there are; more than the scratch holds means: give it more and call again.
    """
    centres, entries = centres_of(columns), entries_of(columns)
    candidate, straight = i4(scratch, Scratch.candidate), f8(scratch, Scratch.straight)
    cell_column, cell_first = i4(columns, Column.cell_column), i4(columns, Column.cell_entry_first)
    room = len(candidate)
    found = 0
    margin = math.inf
    if latitude == latitude:  # noqa: PLR0124 - not NaN
        phi, lam = math.radians(latitude), math.radians(longitude)
        normal = EQUATORIAL_RADIUS_M / math.sqrt(1 - ECCENTRICITY_2 * math.sin(phi) ** 2)
        here_x = normal * math.cos(phi) * math.cos(lam)
        here_y = normal * math.cos(phi) * math.sin(lam)
        here_z = normal * (1 - ECCENTRICITY_2) * math.sin(phi)
        for level in range(len(i4(columns, Column.level_row_first)) - 1):
            size = f8(columns, Column.level_size)[level]
            first_row = i4(columns, Column.level_row_first)[level]
            rows = i4(columns, Column.level_row_first)[level + 1] - first_row
            row = min(max(int(math.radians(latitude + 90.0) / (size / LEAST_RADIUS_M)), 0), rows - 1)
            clear, away = _clear_of_rows(phi, row, rows, size), math.inf
            for near_row in range(max(row - 1, 0), min(row + 2, rows)):
                width = i4(columns, Column.row_columns)[first_row + near_row]
                cells = i4(columns, Column.row_cell_first)
                low, high = cells[first_row + near_row], cells[first_row + near_row + 1]
                turn = (longitude if longitude < 180.0 else longitude - 360.0) + 180.0
                column = min(int(turn / 360.0 * width), width - 1)
                if width > 3:
                    west, east = turn - (column - 1) * 360.0 / width, (column + 2) * 360.0 / width - turn
                    away = min(away, west, east)
                for run in range(2):
                    # The three columns around here, which may wrap around the earth: two runs at most.
                    if width <= 3:
                        start, stop = (0, width) if run == 0 else (0, 0)
                    elif column == 0:
                        start, stop = (0, 2) if run == 0 else (width - 1, width)
                    elif column == width - 1:
                        start, stop = (column - 1, width) if run == 0 else (0, 1)
                    else:
                        start, stop = (column - 1, column + 2) if run == 0 else (0, 0)
                    if low == high or start == stop:
                        continue
                    cell = _lower_bound(cell_column, low, high, start)
                    begin = cell_first[cell]
                    while cell < high and cell_column[cell] < stop:  # three at most
                        cell += 1
                    for entry in range(begin, cell_first[cell]):
                        centre = centres[entry]
                        dx, dy, dz = centre.x - here_x, centre.y - here_y, centre.z - here_z
                        squared = dx * dx + dy * dy + dz * dz
                        radius = centre.reach
                        if squared <= radius * radius:
                            if found < room:
                                candidate[found] = entry
                                straight[found] = squared
                                fetch_ahead(columns, Column.entry, entry * ENTRY_BYTES)
                            found += 1
                        low_edge, high_edge = radius - margin, radius + margin
                        if (
                            squared < high_edge * high_edge
                            and (low_edge < 0 or squared > low_edge * low_edge)
                            and _may_ever(entries[entry], terms, time)
                        ):
                            margin = abs(math.sqrt(squared) - radius)
            clear = min(clear, _clear_of_columns(phi, away))
            # What lies outside the cells searched is too far to be within reach, by at least this much.
            margin = min(margin, max(clear - f8(columns, Column.level_reach)[level], 0.0))
    for entry in range(cell_first[len(cell_first) - 1], len(entries)):
        if found < room:
            candidate[found] = entry
            straight[found] = 0.0
        found += 1
    f8(scratch, Scratch.outcome)[Outcome.refresh_distance] = margin
    return found


@njit(error_model="numpy")
def _lower_bound(values: np.ndarray, low: int, high: int, wanted: int) -> int:
    """The first place from `low` on, at most `high`, whose value is not under the wanted one."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@njit(error_model="numpy")
def _clear_of_rows(phi: float, row: int, rows: int, size: float) -> float:
    """Straight-line metres from a latitude (radians) to the nearest row not searched, at least."""
    height = size / LEAST_RADIUS_M
    gap = math.inf
    if row - 1 > 0:
        gap = phi + HALF_TURN - (row - 1) * height
    if row + 2 < rows:
        gap = min(gap, (row + 2) * height - (phi + HALF_TURN))
    return _chord(gap)


@njit(error_model="numpy")
def _clear_of_columns(phi: float, away: float) -> float:
    """Straight-line metres to a meridian `away` degrees of longitude off, at least; infinite where there is none."""
    if away == math.inf:
        return math.inf
    return _chord(math.asin(min(math.cos(phi) * math.sin(min(math.radians(away), HALF_TURN)), 1.0)))


@njit(error_model="numpy")
def _chord(angle: float) -> float:
    """Straight-line metres that a way of `angle` on the sphere of least radius spans; infinite for an infinite way."""
    if angle > math.pi:
        return math.inf
    return 2 * LEAST_RADIUS_M * math.sin(max(angle, 0.0) / 2)


@njit(error_model="numpy")
def _may_ever(entry: np.void, terms: Table, time: int) -> bool:
    """Whether an entry's offer could be shown there now or later."""
    return u1(terms, Terms.admits)[entry.terms] != 0 and entry.window_end > time


@njit(error_model="numpy")
def screen(columns: Table, hours: Table, scratch: Table, terms: Table, found: int, time: int) -> int:
    """Keep the candidates that may be shown: their terms, windows and opening hours.

    Writes when each ends and until when the set stays as it is; of an offer with several entries the nearest is kept;
    fallbacks are kept only where nothing else is. Returns how many are kept. Schedules of unknown state are listed:
    look them up and call `retrieve` and `screen` again.
    """
    candidate, straight, until = (
        i4(scratch, Scratch.candidate),
        f8(scratch, Scratch.straight),
        i8(scratch, Scratch.until),
    )
    entries, chain_best = entries_of(columns), i4(scratch, Scratch.chain_best)
    window_start, window_end = u4(columns, Column.window_start), u4(columns, Column.window_end)
    state, state_until = u1(hours, Hours.state), i8(hours, Hours.until)
    unknown, outcome = i4(scratch, Scratch.unknown), f8(scratch, Scratch.outcome)
    admits = u1(terms, Terms.admits)
    kept = unknowns = proper = 0
    refresh = time + REFRESH_S
    for index in range(found):
        number = candidate[index]
        entry = entries[number]
        begins, ends = np.int64(entry.window_start), np.int64(entry.window_end)
        if ends <= time or not admits[entry.terms]:
            continue
        if entry.windows != NO_WINDOWS:  # the one around or after this instant
            window = entry.windows
            while np.int64(window_end[window]) <= time:
                window += 1
            begins, ends = np.int64(window_start[window]), np.int64(window_end[window])
        schedule = entry.schedule
        if schedule != NO_SCHEDULE:
            now = state[schedule]
            if now == UNKNOWN:
                if unknowns < len(unknown):  # some may be listed twice; what does not fit is listed the next time
                    unknown[unknowns] = schedule
                    unknowns += 1
                continue
            if now == CLOSED:
                refresh = min(refresh, max(begins, state_until[schedule]))
                continue
            if begins <= time:
                ends = min(ends, state_until[schedule])
        if begins > time:
            refresh = min(refresh, begins)
            continue
        refresh = min(refresh, ends)
        away = straight[index] if entry.kind == AROUND_POINT else math.inf
        if entry.chain != NO_CHAIN:
            rival = chain_best[entry.chain]
            if rival >= 0:
                if away < straight[rival] or (away == straight[rival] and ends > until[rival]):
                    candidate[rival], straight[rival], until[rival] = number, away, ends
                continue
            chain_best[entry.chain] = kept
        candidate[kept], straight[kept], until[kept] = number, away, ends
        kept += 1
        proper += entry.fallback == 0
        fetch_ahead(columns, Column.offer, np.int64(entry.offer) * OFFER_BYTES)
    for index in range(kept):
        chain = entries[candidate[index]].chain
        if chain != NO_CHAIN:
            chain_best[chain] = -1
    if 0 < proper < kept:
        proper = 0
        for index in range(kept):
            if entries[candidate[index]].fallback == 0:
                candidate[proper], straight[proper], until[proper] = candidate[index], straight[index], until[index]
                proper += 1
        kept = proper
    outcome[Outcome.refresh_after] = refresh
    outcome[Outcome.unknown] = unknowns
    return kept


@njit(error_model="numpy")
def _distance(squared: float) -> float:
    """Metres along the ground from straight-line metres squared; only for what is within reach (1,000 km).

    The arcsine by its series: to 0.1 mm there, and several times faster.
    """
    half = math.sqrt(squared) / (2 * MEAN_RADIUS_M)
    square = half * half
    return 2 * MEAN_RADIUS_M * half * (1 + square * (1 / 6 + square * (3 / 40 + square * (15 / 336))))


@njit(error_model="numpy")
def _log_decay(
    away: float, shape: int, offset: float, scale: float, decay: float, log_decay: float, log_minimum: float
) -> float:
    """The logarithm of a decay: see offers.v1.Decay."""
    steps = max(away - offset, 0.0) / scale
    if shape == LINEAR:
        left = 1 - (1 - decay) * steps
        return max(math.log(left), log_minimum) if left > 0 else log_minimum
    if shape == GAUSS:
        steps *= steps
    return max(steps * log_decay, log_minimum)


@njit(error_model="numpy")
def _log_nearness(strategy: np.void, kind: int, distance: float) -> float:
    if kind != AROUND_POINT:
        return strategy.log_without_distance
    return _log_decay(
        distance,
        strategy.nearness_shape,
        strategy.nearness_offset,
        strategy.nearness_scale,
        strategy.nearness_decay,
        strategy.nearness_log_decay,
        strategy.nearness_log_minimum,
    )


@njit(error_model="numpy")
def _log_timeliness(strategy: np.void, until: int, time: int) -> float:
    return _log_decay(
        math.inf if until == _NEVER else float(until - time),
        strategy.timeliness_shape,
        strategy.timeliness_offset,
        strategy.timeliness_scale,
        strategy.timeliness_decay,
        strategy.timeliness_log_decay,
        strategy.timeliness_log_minimum,
    )


@njit(error_model="numpy")
def score(columns: Table, scratch: Table, strategy_number: int, kept: int, time: int) -> None:
    """Write the logarithm of each candidate's score: the weighted logarithms of its factors, added up."""
    candidate, straight, until = (
        i4(scratch, Scratch.candidate),
        f8(scratch, Scratch.straight),
        i8(scratch, Scratch.until),
    )
    log_score = f8(scratch, Scratch.log_score)
    entries = entries_of(columns)
    strategy = strategies_of(columns)[strategy_number]
    for index in range(kept):
        entry = entries[candidate[index]]
        log_score[index] = (
            strategy.nearness_weight * _log_nearness(strategy, entry.kind, _distance(straight[index]))
            + strategy.timeliness_weight * _log_timeliness(strategy, until[index], time)
            + strategy.value_weight * entry.log_value
            + strategy.lever_weight * entry.log_lever
        )


@njit
def shuffled(seed: int, order: int) -> int:
    """A hash of a seed and an offer's order (splitmix64), so that offers of equal score take turns with the seed."""
    mixed = np.uint64(seed) + np.uint64(order + 1) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@njit(error_model="numpy")
def arrange(
    columns: Table, hours: Table, scratch: Table, strategy_number: int, seed: int, seeded: int, most: int, kept: int,
    time: int,
) -> int:  # fmt: skip
    """Choose the best candidates, at most `most`, and write all an answer says of them. Returns how many.

    Schedules of unknown state are listed: look them up and call again.
    """
    candidate, straight, until = (
        i4(scratch, Scratch.candidate),
        f8(scratch, Scratch.straight),
        i8(scratch, Scratch.until),
    )
    log_score = f8(scratch, Scratch.log_score)
    entries, state = entries_of(columns), u1(hours, Hours.state)
    offers = offers_of(columns)
    chosen = chosen_of(scratch)
    unknown, unknowns = i4(scratch, Scratch.unknown), 0
    strategy = strategies_of(columns)[strategy_number]
    count = 0
    for index in range(kept):
        ours = log_score[index]
        if count == most and ours < chosen[count - 1].log_score:
            continue
        order = np.uint64(entries[candidate[index]].order)
        if seeded:
            order = shuffled(seed, order)
        place = min(count, most - 1)
        if count == most and ours == chosen[place].log_score and order >= chosen[place].order:
            continue
        while place > 0 and (
            chosen[place - 1].log_score < ours
            or (chosen[place - 1].log_score == ours and chosen[place - 1].order > order)
        ):
            chosen[place].log_score = chosen[place - 1].log_score
            chosen[place].order = chosen[place - 1].order
            chosen[place].entry = chosen[place - 1].entry
            place -= 1
        chosen[place].log_score = ours
        chosen[place].order = order
        chosen[place].entry = index  # the candidate's for now
        count = min(count + 1, most)
    for place in range(count):
        index = chosen[place].entry
        entry = entries[candidate[index]]
        offer = offers[entry.offer]
        distance = _distance(straight[index])
        redeemable = offer.redeem_start <= time < offer.redeem_end
        if entry.redeem_schedule != NO_SCHEDULE:
            now = state[entry.redeem_schedule]
            redeemable = redeemable and now == OPEN
            if now == UNKNOWN and unknowns < len(unknown):
                unknown[unknowns] = entry.redeem_schedule
                unknowns += 1
        for line in range(np.int64(offer.wire_size) // LINE_BYTES + 1):  # to be copied soon
            fetch_ahead(columns, Column.wire, offer.wire_first + line * LINE_BYTES)
        logs, values = chosen[place].logs, chosen[place].values
        logs[0] = _log_nearness(strategy, entry.kind, distance)
        logs[1] = _log_timeliness(strategy, until[index], time)
        values[0], values[1], values[2], values[3] = math.exp(logs[0]), math.exp(logs[1]), offer.value, offer.lever
        logs[0] *= strategy.nearness_weight
        logs[1] *= strategy.timeliness_weight
        logs[2] = strategy.value_weight * entry.log_value
        logs[3] = strategy.lever_weight * entry.log_lever
        chosen[place].entry = candidate[index]
        chosen[place].distance_m = distance if entry.kind == AROUND_POINT else -1.0
        chosen[place].until = until[index]
        chosen[place].redeemable = redeemable
    f8(scratch, Scratch.outcome)[Outcome.unknown] = unknowns
    return count
