"""What the native front has of its own: settings, limits of a connection, and decisions made for many persons."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from google.type.latlng_pb2 import LatLng

from offers.errors import SettingsError, StoreUnavailableError
from offers.server.fronts.native import NativeFront
from offers.server.offer_service import READ_AT_ONCE, OfferService, Result
from offers.server.people import PersonReader
from offers.server.transport import native_options
from offers.settings import NATIVE_MODULE, Settings, read_settings
from offers.state.person.consent import PURPOSES
from offers.testing import Served, serving
from offers.v1.context_pb2 import Context, Location, User
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from tests.faults.http2 import DATA, END_STREAM, PING, SETTINGS, frame
from tests.server.fronts.fronts import SERVICE, Raw, call, message, running

MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE = 3, 6
PARIS = Location(point=LatLng(latitude=48.8674, longitude=2.3636))
PEOPLE = 2 * READ_AT_ONCE + 3


class Asked:
    """A state store that notes for how many persons it was read at once."""

    def __init__(self, served: Served, *, is_there: bool = True) -> None:
        self._state, self._is_there = served.stores.state, is_there
        self.rounds: list[int] = []

    def read(self, person: str) -> bytes:
        """Read one."""
        return self.read_each([person])[0]

    def read_each(self, persons: Sequence[str]) -> list[bytes]:
        """Read several, or fail."""
        self.rounds.append(len(persons))
        if not self._is_there:
            raise StoreUnavailableError("gone")
        return self._state.read_each(persons)


def requests() -> list[bytes]:
    """Requests for the demo: of many persons, of nobody, wrong ones and long ones."""
    users = [*(User(user_id=f"p{number}") for number in range(PEOPLE)), None, None, None]
    made = [
        GetOffersRequest(context=Context(location=PARIS, user=user), request_id=f"r{number}")
        for number, user in enumerate(users)
    ]
    made[PEOPLE].max_offers = -1
    made[PEOPLE + 1].context.attributes.update({"odd": 1})
    return [one.SerializeToString() for one in made]


def told(service: OfferService, asked: Sequence[bytes], now: int) -> list[str]:
    """Return each result of a batch as text."""
    results: dict[int, Result] = {}

    def tell(index: int, result: Result) -> None:
        assert index not in results
        results[index] = result

    service.answer_each(asked, now, tell)
    return [_text(results[index]) for index in range(len(asked))]


def _text(result: Result) -> str:
    return str(GetOffersResponse.FromString(result)) if isinstance(result, bytes) else repr(result)


def _alone(service: OfferService, data: bytes, now: int) -> str:
    try:
        return _text(service.answer_at(data, now))
    except Exception as error:  # noqa: BLE001 - to compare it
        return repr(error)


@pytest.mark.parametrize("is_there", [True, False])
def test_decisions_of_a_batch_are_those_made_one_by_one(*, is_there: bool) -> None:
    """Also where some are refused, or the store is gone; the store is asked once for many persons."""
    with serving(default_consent=tuple(PURPOSES)) as served:
        state, live = Asked(served, is_there=is_there), served.worker.live
        people = PersonReader(state, frozenset(PURPOSES.values()))  # type: ignore[arg-type] # no more is asked of it
        service, asked, now = OfferService(live, lambda: 0.0, people), requests(), int(time.time())
        alone = [_alone(service, data, now) for data in asked]
        assert ("degraded" in "".join(alone)) is not is_there

        assert alone == told(service, asked, now)  # its buffers learn the size of the catalogue
        state.rounds.clear()
        assert alone == told(service, asked, now)
        assert state.rounds == [READ_AT_ONCE, READ_AT_ONCE, PEOPLE - 2 * READ_AT_ONCE]


def test_the_setting_chooses_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, auto is grpcio, and native is refused with what to do."""
    assert Settings(front="auto").is_native
    assert not Settings().is_native
    with running("auto") as one:
        assert isinstance(one.front, NativeFront)
    monkeypatch.setitem(sys.modules, NATIVE_MODULE, None)
    assert not Settings(front="auto").is_native
    with running("auto") as one:
        assert one.front.name == "grpcio"
    with pytest.raises(SettingsError, match=r"front: .*pip install 'offers\[native\]'"):
        read_settings(front="native")


def test_a_front_says_how_many_streams_and_how_much_metadata_it_takes(tmp_path: Path) -> None:
    """The settings of HTTP/2 that it sends are its options."""
    options = native_options(Settings(data_dir=tmp_path))
    with running("native") as one, Raw(one.target) as connection:
        payload = next(payload for kind, _, _, payload in connection.frames() if kind == SETTINGS)
    said = {
        int.from_bytes(payload[at : at + 2]): int.from_bytes(payload[at + 2 : at + 6])
        for at in range(0, len(payload), 6)
    }
    assert said[MAX_CONCURRENT_STREAMS] == options["grpc.max_concurrent_streams"]
    assert said[MAX_HEADER_LIST_SIZE] == options["grpc.absolute_max_metadata_size"]


def test_what_the_guide_says_of_the_native_front_alone() -> None:
    """Deflate is not read, a call without its message stays open and holds nobody up, and all pings are answered."""
    with running("native") as one:
        with one.channel(compression=grpc.Compression.Deflate) as channel, pytest.raises(grpc.RpcError) as caught:
            call(channel, "Decide")(b"x" * 1_000, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with Raw(one.target) as connection:
            stream = connection.begin(f"/{SERVICE}/Decide")
            connection.send(b"".join(frame(PING, 0, 0, number.to_bytes(8)) for number in range(50)))
            pongs = (found for found in connection.frames() if found[0] == PING)
            assert [number.to_bytes(8) for number in range(50)] == [next(pongs)[3] for _ in range(50)]
            connection.send(frame(DATA, END_STREAM, stream, message(b"late")))
            assert message(b"late") == next(found[3] for found in connection.frames() if found[0] == DATA)
