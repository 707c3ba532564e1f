"""The sequence of a decision: find, meet, sense, choose, log. Both ways of answering a request take it from here.

    begin     find which offers may be shown here and now; if the person does not matter, choose among them
    go_on     otherwise: meet the person, draw variants, sense what models are told, choose, and write the decision's
              record

Without a person, choosing is to admit and to rank. With one, it also is to foresee, to weigh behaviour, and to compute
selection probabilities: `begin` is compiled, and answers, without these.

Each returns a Need. Whoever calls them provides it and calls again: Engine.decide, or the fast path in server/fast.
"""

from offers.catalogue.snapshot import NO_NAME
from offers.compiled import apart, inner
from offers.decision.kernels.admit import admit, survey
from offers.decision.kernels.arrange import arrange
from offers.decision.kernels.log import write_record
from offers.decision.kernels.memory.frame import Frame, Location, PersonInput
from offers.decision.kernels.memory.records import i8
from offers.decision.kernels.memory.scratch import DecisionFact, PersonFact, ScratchArray, reached_of
from offers.decision.kernels.models.foresee import foresee
from offers.decision.kernels.models.select import compute_selection
from offers.decision.kernels.models.sense import sense
from offers.decision.kernels.need import Need
from offers.decision.kernels.person.behave import notice, weigh
from offers.decision.kernels.person.expose import draw_variants, is_new, settle
from offers.decision.kernels.person.meet import meet
from offers.decision.kernels.retrieve import retrieve
from offers.decision.kernels.score import score
from offers.decision.kernels.screen import screen


@apart
def begin(frame: Frame, location: Location) -> int:
    """Decide, unless the person matters. Returns NOTHING, LOOK_UP, ROOM or PERSON of Need."""
    facts = i8(frame.scratch, ScratchArray.decision)
    need = _find(frame, location)
    if need != Need.NOTHING:
        return need
    if facts[DecisionFact.personal] != 0:
        return Need.PERSON
    admit(frame)
    facts[DecisionFact.held] = facts[DecisionFact.learned] = facts[DecisionFact.explored] = 0
    return _rank(frame)


@apart
def go_on(frame: Frame, location: Location, record: bytes, request: bytes, person: PersonInput, is_met: int) -> int:
    """Decide for a person, after `begin` said PERSON. The decision's record is written into ScratchArray.logged.

    `record` is the person's offers.v1.UserState, `request` the encoded GetOffersRequest. `is_met` is 1 to go on after
    SEGMENTS or STANDING. Returns any Need but PERSON and those of the fast path.
    """
    known = i8(frame.scratch, ScratchArray.person)
    if is_met == 0:
        need = meet(frame, record, request, person)
        if need != Need.NOTHING:
            return need
    if known[PersonFact.strategy] == NO_NAME or known[PersonFact.strategy] != frame.strategy:  # else after STANDING
        draw_variants(frame, record)
        notice(frame, record, request)
    if known[PersonFact.strategy] != NO_NAME and known[PersonFact.strategy] != frame.strategy:
        return Need.STANDING
    sense(frame, location, record, request, person)
    need = _choose(frame)
    if need == Need.NOTHING:
        known[PersonFact.new] = is_new(frame)
        known[PersonFact.logged] = write_record(frame, location, record, request, person.geohash_length)
    return need


@inner
def _find(frame: Frame, location: Location) -> int:
    """Find the offers that may be shown here and now, whoever asks. Returns NOTHING, LOOK_UP or ROOM of Need.

    DecisionFact.personal says whether the person matters to them, DecisionFact.wanted how many segments must be known.
    """
    facts = i8(frame.scratch, ScratchArray.decision)
    facts[DecisionFact.found] = retrieve(frame, location)
    if facts[DecisionFact.found] > len(reached_of(frame.scratch)):
        return Need.ROOM
    need = screen(frame, location)
    if need != Need.NOTHING:
        return need
    if facts[DecisionFact.unknown] == 0:
        facts[DecisionFact.personal] = survey(frame)
    return Need.LOOK_UP if facts[DecisionFact.unknown] != 0 else Need.NOTHING


@inner
def _choose(frame: Frame) -> int:
    """Choose the answer's offers for a person. Returns NOTHING, LOOK_UP or ROOM of Need."""
    facts = i8(frame.scratch, ScratchArray.decision)
    admit(frame)
    settle(frame)
    need = foresee(frame)
    if need != Need.NOTHING:
        return need
    facts[DecisionFact.held] = weigh(frame)
    need = _rank(frame)
    if need == Need.NOTHING and facts[DecisionFact.explored] != 0 and facts[DecisionFact.chosen] > 0:
        compute_selection(frame)
    return need


@inner
def _rank(frame: Frame) -> int:
    """Order the offers admitted, and arrange the answer. Returns NOTHING, LOOK_UP or ROOM of Need."""
    need = arrange(frame, score(frame))
    if need != Need.NOTHING:
        return need
    is_unknown = i8(frame.scratch, ScratchArray.decision)[DecisionFact.unknown] != 0
    return Need.LOOK_UP if is_unknown else Need.NOTHING
