"""Golden decisions on small catalogues, each described by a sentence. The files are tests/cases/*.yaml.

A file has a `catalog`, a document as the server takes it, and `decisions`. A decision has:

- `says`: the sentence that describes it.
- `request`: a GetOffersRequest.
- `wants`: the offers in order, with any of their fields; null: the field is absent.
- `eligible`: the number of offers that qualify, where that is more than those wanted.

Instants stand in quotes, so that YAML keeps them as text.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse, Proposition

CASES = Path(__file__).parent / "cases"


def cases() -> list[Any]:
    """Return every decision of every file, named by its sentence."""
    found = []
    for path in sorted(CASES.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        found += [
            pytest.param(content["catalog"], one, id=f"{path.stem}: {one['says']}") for one in content["decisions"]
        ]
    return found


def shown(got: Proposition, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an offer that a case names, in the form it writes them."""
    has = {described.name: value for described, value in got.ListFields()}
    fields = {}
    for name, value in wanted.items():
        mine = has.get(name)
        if isinstance(mine, Timestamp):
            same = value is not None and mine.seconds == int(datetime.fromisoformat(value).timestamp())
            fields[name] = value if same else mine.ToJsonString()
        elif isinstance(value, int | float):
            fields[name] = value if mine == pytest.approx(value, rel=1e-3, abs=1e-6) else mine
        else:
            fields[name] = mine
    return fields


@pytest.mark.parametrize(("catalog", "decision"), cases())
def test_decision_is_as_wanted(tmp_path: Path, catalog: dict[str, Any], decision: dict[str, Any]) -> None:
    """The offers wanted are returned in order with the fields wanted, and no others qualify."""
    document = tmp_path / "catalog.yaml"
    document.write_text(yaml.safe_dump(catalog, allow_unicode=True), encoding="utf-8")
    service = OfferService(Live([Engine(open_snapshot(publish(document, tmp_path).path))]), lambda: 0.0)
    request = ParseDict(decision["request"], GetOffersRequest())
    response = GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))
    wants = decision["wants"]
    assert [one["offer_id"] for one in wants] == [offer.offer_id for offer in response.offers]
    assert wants == [shown(offer, one) for offer, one in zip(response.offers, wants, strict=True)]
    assert decision.get("eligible", len(wants)) == response.eligible_count
