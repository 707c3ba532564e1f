"""Rules for creatives and creative variants."""

import re
from collections.abc import Sequence

from offers.catalogue.document.nodes import Path
from offers.catalogue.document.scalars import cut
from offers.catalogue.rules.audience import check_audience
from offers.catalogue.rules.faults import Fault, Faults
from offers.catalogue.rules.values import check_length, check_text
from offers.v1.offer_pb2 import Creative, CreativeVariant

MAX_URI = 2_000
MAX_VARIANTS = 50
is_language_tag = re.compile(
    r"(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?"
    r"(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(?:-[A-WY-Za-wy-z0-9](?:-[A-Za-z0-9]{2,8})+)*"
    r"(?:-[Xx](?:-[A-Za-z0-9]{1,8})+)?|[Xx](?:-[A-Za-z0-9]{1,8})+"
).fullmatch
"""Matches the form of a BCP 47 tag: language, script, region, variants, extensions, private use."""
_URI = re.compile(
    r"(?:https?://[^/?#@:]+(?::[0-9]+)?(?:[/?#].*)?|(?!https?:)[a-z][a-z0-9+.-]*:.+)", re.IGNORECASE
).fullmatch
_NOT_IN_URI = re.compile(r'[^!-~]|["<>\\^`{|}]').search
_is_usual_uri = re.compile(r"https?://[A-Za-z0-9.-]+(?:/[A-Za-z0-9._~%/?&=+-]*)?").fullmatch
"""Matches most valid URIs quickly."""


def check_creative(creative: Creative, path: Path, faults: Faults) -> None:
    """Check a creative."""
    check_length(creative.body, 2_000, (*path, "body"), faults)
    check_length(creative.call_to_action, 100, (*path, "call_to_action"), faults)
    for name, uri in (("image_uri", creative.image_uri), ("link_uri", creative.link_uri)):
        if not uri or (len(uri) <= MAX_URI and _is_usual_uri(uri)):
            continue
        if not _URI(uri) or _NOT_IN_URI(uri):
            fix = "write it whole, such as https://example.com/a.jpg, other characters as %20 and so on"
            faults.append(Fault((*path, name), f"'{cut(uri)}' is not an absolute URI", fix))
        check_length(uri, MAX_URI, (*path, name), faults)


def check_variants(variants: Sequence[CreativeVariant], path: Path, faults: Faults) -> None:
    """Check the creative variants of an offer, except for the ids they name."""
    if len(variants) > MAX_VARIANTS:
        faults.append(Fault(path, f"has {len(variants):,} variants", f"write at most {MAX_VARIANTS}"))
    first: dict[str, int] = {}
    for index, variant in enumerate(variants):
        here = (*path, index)
        if not variant.HasField("creative"):
            faults.append(Fault((*here, "creative"), "missing", "write what differs, such as {body: ...}"))
        check_creative(variant.creative, (*here, "creative"), faults)
        check_length(variant.title, 200, (*here, "title"), faults)
        check_audience(variant.audience, (*here, "audience"), faults)
        check_languages(variant.language_codes, (*here, "language_codes"), faults)
        check_channels(variant.channels, (*here, "channels"), faults)
        check_length(variant.creative_id, 128, (*here, "creative_id"), faults)
        identity = variant.creative_id or str(index + 1)
        if first.setdefault(identity, index) != index:
            reason = f"'{cut(identity)}' is given twice, first by variant {first[identity] + 1}"
            faults.append(Fault((*here, "creative_id"), reason, "give each its own id, or leave it out"))


def check_languages(codes: Sequence[str], path: Path, faults: Faults) -> None:
    """Check BCP 47 tags."""
    for index, code in enumerate(codes):
        if not is_language_tag(code):
            fix = "write a BCP 47 tag such as 'fr' or 'pt-BR'"
            faults.append(Fault((*path, index), f"'{cut(code)}' is not a language tag", fix))


def check_channels(channels: Sequence[str], path: Path, faults: Faults) -> None:
    """Check names of channels."""
    for index, channel in enumerate(channels):
        if not 0 < len(channel) <= 64:
            check_text(channel, 64, (*path, index), faults)
