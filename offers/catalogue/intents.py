"""The built-in intents, for catalogues without intents of their own, in the order they are tried."""

from collections.abc import Iterable

from offers.v1.behaviour_pb2 import Intent

DEFAULT_INTENTS = (
    Intent(
        intent_id="reassure",
        title="Looks for reasons to trust, and does not pay yet",
        expression="!('checkout_started' in session.micro_conversions) && ("
        "'reviews_read' in session.micro_conversions || 'terms_read' in session.micro_conversions || "
        "'delivery_info_read' in session.micro_conversions || 'help_opened' in session.micro_conversions)",
    ),
    Intent(
        intent_id="buy",
        title="Has something in the basket, or pays",
        expression="has(session.basket) || 'checkout_started' in session.micro_conversions",
    ),
    Intent(
        intent_id="compare",
        title="Looks at several things, or searches again",
        expression="size(session.viewed_products) > 2 || size(session.viewed_categories) > 1 || "
        "size(session.searches) > 1",
    ),
    Intent(intent_id="inspire", title="Anybody else", expression="true"),
)


def intents_of(own: Iterable[Intent]) -> dict[str, Intent]:
    """Return the intents of a catalogue by id, in the order they are tried: its own, or else the built-in ones."""
    return {intent.intent_id: intent for intent in (tuple(own) or DEFAULT_INTENTS)}
