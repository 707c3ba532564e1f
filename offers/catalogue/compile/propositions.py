"""The constant fields of an offer's Proposition, serialised once and copied into every answer."""

from offers.v1.offer_pb2 import Offer, Redemption
from offers.v1.offer_service_pb2 import Proposition


def static_wire(offer: Offer, redemption: Redemption | None) -> bytes:
    """Return the constant fields of an offer's Proposition, serialised."""
    return _static(offer, redemption).SerializeToString()


def variant_wires(offer: Offer, redemption: Redemption | None) -> list[bytes]:
    """Return the serialised Proposition of each creative variant of an offer."""
    wires = []
    for place, variant in enumerate(offer.creative_variants, 1):
        whole = _static(offer, redemption)
        whole.title = variant.title or offer.title
        whole.creative.MergeFrom(variant.creative)
        whole.creative_id = variant.creative_id or str(place)
        wires.append(whole.SerializeToString())
    return wires


def _static(offer: Offer, redemption: Redemption | None) -> Proposition:
    return Proposition(
        offer_id=offer.offer_id,
        title=offer.title,
        benefit=offer.benefit,
        category=offer.category,
        brand=offer.brand,
        creative=offer.creative if offer.HasField("creative") else None,
        redemption=redemption,
        campaign_id=offer.campaign_id,
    )
