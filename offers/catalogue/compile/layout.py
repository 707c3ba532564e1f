"""Lay a catalogue out by place, so that offers near each other on the ground are near each other in memory."""

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.compile.columns import Arrays, LayoutInput, as_arrays, csr, positions, reaches, records
from offers.catalogue.compile.grid import lay_grid
from offers.catalogue.geo import geometry
from offers.catalogue.snapshot import (
    AROUND_POINT,
    ENTRY,
    EVERYWHERE,
    EXTRA,
    GATE,
    NO_CHAIN,
    NO_VENUE,
    NO_WINDOWS,
    ODD,
    OFFER,
    PIECE,
    WORTH,
)
from offers.v1.offer_pb2 import MissingLocation

_DENY = MissingLocation.MISSING_LOCATION_DENY


def lay_out(gathered: LayoutInput) -> Arrays:
    """Return the arrays of offers, entries, venues and the grid.

    Entries take the order of the grid. Offers take the order in which the sorted entries first name them.
    """
    entry, offer = as_arrays(gathered.entry), as_arrays(gathered.offer)
    count = len(gathered.ids)
    offer_order = np.empty(count, np.int64)
    offer_order[sorted(range(count), key=gathered.ids.__getitem__)] = np.arange(count)
    extras = records(
        EXTRA, dict(zip(EXTRA.names or (), map(np.array, zip(*gathered.extras, strict=True)), strict=True))
    )
    grid, entries = lay_grid(gathered, entry, extras, offer_order)
    entry = {name: values[entries] for name, values in entry.items()}
    entry["venue"], venue_ids = _venues(gathered, entry["venue"])
    _, first = np.unique(entry["offer"], return_index=True)
    offers = np.argsort(first)
    return {
        **_offer_arrays(gathered, {name: values[offers] for name, values in offer.items()}, offers),
        "window_start": np.frombuffer(gathered.window_starts, np.int64),
        "window_end": np.frombuffer(gathered.window_ends, np.int64),
        "extra": extras,
        "piece": _pieces(gathered),
        "unplaced": np.flatnonzero((extras["missing"][entry["extra"]] > _DENY) & (entry["kind"] != EVERYWHERE)),
        "widest_fringe": extras["fringe"].max(keepdims=True),
        **_entry_arrays(entry, offer, offers, offer_order),
        **venue_ids,
        **grid,
    }


def _offer_arrays(gathered: LayoutInput, offer: Arrays, offers: NDArray[np.int64]) -> Arrays:
    """Return the arrays of offers; the columns `offer` are in the new order, `offers` are the old numbers."""
    wires = [gathered.wires[number] for number in offers.tolist()]
    sizes = np.fromiter(map(len, wires), np.int64, len(wires))
    return {
        "offer": records(
            OFFER,
            {
                **{name: offer[name] for name in ("value", "lever", "redeem_start", "redeem_end")},
                "wire_first": np.cumsum(sizes) - sizes,
                "wire_size": sizes,
                "group": offer["exclusion_group"],
                **{name: offer[name] for name in ("brand", "category", "audience", "caps", "key")},
            },
        ),
        "offer_by_key": np.argsort(offer["key"]),
        "wire": np.frombuffer(b"".join(wires), np.uint8),
    }


def _entry_arrays(entry: Arrays, offer: Arrays, offers: NDArray[np.int64], offer_order: NDArray[np.int64]) -> Arrays:
    """Return the arrays of entries.

    The columns `entry` are in the order of the grid. The columns `offer` and `offer_order` are in document order.
    """
    number = entry["offer"]
    renumbered = np.empty_like(offers)
    renumbered[offers] = np.arange(len(offers))
    several = np.bincount(number, minlength=len(offers)) > 1
    chain = np.where(several, np.cumsum(several) - 1, NO_CHAIN)
    is_odd = (
        (entry["extra"] != 0)
        | (entry["kind"] != AROUND_POINT)
        | several[number]
        | (offer["windows"][number] != NO_WINDOWS)
        | (offer["fallback"][number] != 0)
    )
    return {
        "gate": records(
            GATE,
            {
                "terms": offer["terms"][number] + ODD * is_odd,
                "window_start": offer["window_start"][number],
                "window_end": offer["window_end"][number],
                "schedule": entry["schedule"],
            },
        ),
        "worth": records(
            WORTH,
            {"log_value": np.log(offer["value"])[number], "log_lever": np.log(offer["lever"])[number]},
        ),
        "entry": records(
            ENTRY,
            {
                "offer": renumbered[number],
                "chain": chain[number],
                "order": offer_order[number],
                "windows": offer["windows"][number],
                "fallback": offer["fallback"][number],
                **{name: entry[name] for name in ("venue", "redeem_schedule", "kind", "extra", "turn")},
            },
        ),
    }


def _venues(gathered: LayoutInput, venue: NDArray[np.int64]) -> tuple[NDArray[np.int64], Arrays]:
    """Renumber the entries' venues in the order the entries first name them; return the numbers and the ids named."""
    named, first = np.unique(venue[venue != NO_VENUE], return_index=True)
    named = named[np.argsort(first)]
    renumbered = np.full(len(gathered.venue_ids) + 1, NO_VENUE)
    renumbered[named] = np.arange(len(named))
    ids = [gathered.venue_ids[number].encode() for number in named.tolist()]
    return renumbered[venue], {
        "venue_id_first": csr([len(one) for one in ids]),
        "venue_id": np.frombuffer(b"".join(ids), np.uint8),
    }


def _pieces(gathered: LayoutInput) -> NDArray[np.void]:
    """Return the records of the pieces that are cut out of targets or joined with others."""
    place, radius, reach, shape = np.array(gathered.pieces or np.empty((0, 4))).T
    x, y, z = geometry.earth_centred(*positions(gathered, place.astype(np.int64)))
    return records(PIECE, {"x": x, "y": y, "z": z, "reach": reaches(radius, reach), "shape": shape})
