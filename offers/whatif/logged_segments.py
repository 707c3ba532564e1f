"""Whether the person of a logged decision was in a segment, as far as the log says."""

import numpy as np

from offers.catalogue.expressions import compiled, mentions, tree, written
from offers.decision.segments.evaluate import Facts, Segments
from offers.errors import OffersError
from offers.state.stores import LoggedDecision
from offers.v1.audience_pb2 import Segment
from offers.v1.context_pb2 import User
from offers.v1.profile_pb2 import Profile
from offers.whatif.replay import context_of

_LOGGED = frozenset({
    ("profile", "attributes"), ("context", "attributes"), ("context", "channel"), ("context", "currency_code"),
    ("context", "language_code"), ("context", "time"), ("context", "time_zone"), ("session", "entry_channel"),
})  # fmt: skip
"""The values that the log has of decisions whose persons agreed to learning."""


class UnloggedSegmentError(OffersError):
    """A segment reads values that the log does not have."""


class LoggedSegment:
    """A segment, evaluated with what the log has of each decision."""

    def __init__(self, segment: Segment) -> None:
        """Raises UnloggedSegmentError."""
        paths = {mention.path for mention in mentions(tree(compiled(segment.expression)))}
        lacking = sorted(written(path) for path in paths if path != ("now",) and path[:2] not in _LOGGED)
        if lacking:
            message = f"segment '{segment.segment_id}' reads {', '.join(lacking)}, which the log does not have"
            raise UnloggedSegmentError(message)
        self._segments = Segments([segment.expression])

    def __call__(self, decision: LoggedDecision) -> bool | None:
        """Return whether the person was in the segment; None if the log must not say: see DecisionRecord.learn."""
        told = decision.told()
        if not told.learn:
            return None
        time = told.time or decision.second
        context, holds = context_of(told, time), np.zeros(1, np.uint8)
        profile = Profile(attributes=told.profile_attributes)
        self._segments.evaluate([0], Facts(User(), context.session, context, profile, time), holds)
        return bool(holds[0])
