"""Concern: note which experiments and holdouts have a part in a decision, while offers are admitted.

An experiment concerns a person if an offer that names it would be shown with some variant of it, all else being as it
is. A holdout does if an offer that it withholds would be shown without it. Neither depends on which variant the person
has, or on which side of the holdout the person is, so that the sides can be compared. The specification is
`exposures_of` and `holdouts_of` of reference/concern.py.
"""

import numpy as np

from offers.catalogue.snapshot import NO_AUDIENCE, NO_NAME
from offers.compiled import apart, inner
from offers.decision.kernels.memory.frame import Frame
from offers.decision.kernels.memory.records import (
    Column,
    Table,
    audiences_of,
    campaigns_of,
    i4,
    i8,
    u1,
    variants_of,
)
from offers.decision.kernels.memory.scratch import SURE, PersonFact, ScratchArray
from offers.model.hashing import SPLITMIX_STEP, finished


@inner
def share_of(person: int, key: int) -> float:
    """Return the share of a person and a key: evenly spread from 0 to 1 (exclusive), always the same (splitmix64)."""
    bits = finished(np.uint64(person) ^ (np.uint64(key) * np.uint64(SPLITMIX_STEP)))
    return float(bits >> np.uint64(11)) * 2.0**-53


@inner
def has_variant(columns: Table, scratch: Table, number: int) -> bool:
    """Return whether the person has one of the variants that an audience names, or it names none."""
    if number == NO_AUDIENCE:
        return True
    audience = audiences_of(columns)[number]
    has_one = audience.variant_first == audience.variant_last
    for index in range(audience.variant_first, audience.variant_last):
        named = variants_of(columns)[index]
        has_one = has_one or i4(scratch, ScratchArray.variant)[named.experiment] == named.variant
    return has_one


@inner
def names_experiment(columns: Table, number: int, experiment: int) -> bool:
    """Return whether an audience names a variant of an experiment."""
    found = False
    if number != NO_AUDIENCE:
        audience = audiences_of(columns)[number]
        for index in range(audience.variant_first, audience.variant_last):
            found = found or variants_of(columns)[index].experiment == experiment
    return found


@inner
def is_held_out_of(frame: Frame, campaign: int) -> bool:
    """Return whether the person is never shown the offers of a campaign."""
    one, draw = campaigns_of(frame.columns)[campaign], i8(frame.scratch, ScratchArray.person)[PersonFact.draw]
    return draw != 0 and share_of(draw, one.key) < one.holdout


@apart
def note(frame: Frame, number: int, bit: int) -> None:
    """Note the experiments and the holdout on which alone an audience depends: SURE or IF_FALLBACKS.

    The person is in its segments and within its limits.
    """
    columns, scratch = frame.columns, frame.scratch
    audience, other = audiences_of(columns)[number], np.int64(NO_AUDIENCE)
    exposed, is_held_out = u1(scratch, ScratchArray.exposed), False
    if audience.campaign != NO_NAME:
        other = np.int64(campaigns_of(columns)[audience.campaign].audience)
        is_held_out = is_held_out_of(frame, audience.campaign)
    has_own, has_other = has_variant(columns, scratch, number), has_variant(columns, scratch, other)
    for index in range(audience.named_first, 0 if is_held_out else audience.named_last):
        experiment = i4(columns, Column.audience_experiment)[index]
        in_own, in_other = names_experiment(columns, number, experiment), names_experiment(columns, other, experiment)
        if (in_own or in_other) and (in_own or has_own) and (in_other or has_other):
            exposed[experiment] |= bit
    if audience.campaign != NO_NAME and has_own and has_other:
        u1(scratch, ScratchArray.withheld)[1 + audience.campaign] |= bit


@inner
def note_content(columns: Table, scratch: Table, number: int) -> None:
    """Note the experiments that content of a chosen offer names, whose segments the person is in."""
    audience = audiences_of(columns)[number]
    for index in range(audience.variant_first, audience.variant_last):
        experiment = variants_of(columns)[index].experiment
        if i4(scratch, ScratchArray.variant)[experiment] != NO_NAME:
            u1(scratch, ScratchArray.exposed)[experiment] = SURE
