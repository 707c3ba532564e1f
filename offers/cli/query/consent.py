"""Consent in the words of `offers query`: notes where a person's consent, or its lack, changes the answer."""

from typing import TYPE_CHECKING

from offers.cli.output import stderr

if TYPE_CHECKING:
    from offers.client import OffersClient
    from offers.v1.context_pb2 import ConsentPurpose, User
    from offers.v1.offer_service_pb2 import ExplainOffersResponse, GetOffersRequest

_ANY_OFFER = "-"


def notes(
    client: "OffersClient", request: "GetOffersRequest", explained: "ExplainOffersResponse", timeout_s: float
) -> None:  # fmt: skip
    """Print what of the person and the request was not used for an answer, for want of consent."""
    from rich.text import Text

    from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING

    context = request.context
    if not context.HasField("user"):
        return
    is_said, told = context.user.HasField("consent"), []
    purposes = context.user.consent.purposes if is_said else _purposes(client, request, explained, timeout_s)
    if purposes is not None and CONSENT_PURPOSE_PROFILING not in purposes:
        source = "--consent says" if is_said else "the server has it"
        known = f"as {source}, {_name(context.user)} has not agreed to profiling"
        told.append(f"{known}: caps, cool-downs and segments see nothing of what they did before")
        if not is_said:
            told[-1] += "; --consent contextual,profiling asks as if they had agreed"
    if is_said and CONSENT_PURPOSE_CONTEXTUAL not in context.user.consent.purposes:
        unused = [name for name in ("location", "session") if context.HasField(name)]
        if unused:
            words = f"the {' and the '.join(unused)} {'are' if unused[1:] else 'is'} not used"
            told.append(f"--consent leaves out contextual: {words}")
    for note in told:
        stderr().print(Text(f"note: {note}"), soft_wrap=True)


def _purposes(
    client: "OffersClient", request: "GetOffersRequest", explained: "ExplainOffersResponse", timeout_s: float
) -> "list[ConsentPurpose.ValueType] | None":
    """Return the purposes that counted for an answer, by an explanation of it; None where none is to be had."""
    from offers.client import OffersCallError
    from offers.v1.offer_service_pb2 import ExplainOffersRequest

    if not explained.explanations:
        offer_ids = [one.offer_id for one in explained.response.offers[:1]] or [_ANY_OFFER]
        try:
            explained = client.explain(ExplainOffersRequest(request=request, offer_ids=offer_ids), timeout_s=timeout_s)
        except OffersCallError:  # the answer stands without the note
            return None
    return list(explained.purposes)


def _name(user: "User") -> str:
    return user.user_id or user.anonymous_id
