"""Encoded requests to queries: usual ones by the scan, all others by way of the message."""

import threading

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from offers.errors import FieldViolation, InvalidRequestError
from offers.model.query import Query, Surface
from offers.server import convert
from offers.server.limits import MAX_BATCH, MAX_BATCH_BYTES, MAX_REQUEST_BYTES
from offers.server.scan import scan, scan_record
from offers.v1.offer_service_pb2 import BatchGetOffersRequest, GetOffersRequest

SURFACES_KEPT = 4096
"""Surfaces remembered; apps have a few dozen, times their languages and currencies."""
_SEEDS = 2**64


class _Room(threading.local):
    """Each thread's memory for scans."""

    def __init__(self) -> None:
        self.record = scan_record()
        self.numbers, self.facts, self.key = (self.record.arrays[name] for name in ("numbers", "facts", "key"))


class Reader:
    """Reads requests, and remembers the surfaces they ask for."""

    def __init__(self) -> None:
        self._room = _Room()
        self._surfaces: dict[bytes, Surface] = {}

    def query_of(self, data: bytes, now: int) -> Query:
        """The query of an encoded GetOffersRequest, at the second `now` unless it names a time.

        Raises InvalidRequestError naming every field that cannot be used.
        """
        room = self._room
        length = scan(data, room.record.table) if len(data) <= MAX_REQUEST_BYTES else -1
        if length < 0:
            return convert.query_of(convert.parse(GetOffersRequest, data, MAX_REQUEST_BYTES), now)
        key = room.key[:length].tobytes()
        surface = self._surfaces.get(key)
        if surface is None:
            query = convert.query_of(convert.parse(GetOffersRequest, data, MAX_REQUEST_BYTES), now)
            if len(self._surfaces) >= SURFACES_KEPT:
                self._surfaces.clear()
            self._surfaces[key] = query.surface
            return query
        latitude, longitude = room.numbers.tolist()
        time, seed, seeded, begin, end = room.facts.tolist()
        return Query(
            surface,
            time if time >= 0 else now,
            latitude,
            longitude,
            seed % _SEEDS if seeded else -1,
            data[begin:end].decode() if begin else "",
        )


def requests_of(data: bytes) -> list[bytes]:
    """The encoded requests of an encoded BatchGetOffersRequest, each to be read, or refused, by itself.

    Raises InvalidRequestError unless there are 1 to 1,000.
    """
    batch: list[bytes] = convert.parse(_EncodedBatch, data, MAX_BATCH_BYTES).requests
    if not 1 <= len(batch) <= MAX_BATCH:
        reason = f"{len(batch):,} requests: send 1 to {MAX_BATCH:,} at a time"
        raise InvalidRequestError([FieldViolation("requests", reason)])
    return batch


def _encoded_batch() -> type:
    """A message like BatchGetOffersRequest on the wire, whose requests stay encoded."""
    requests = BatchGetOffersRequest.DESCRIPTOR.fields_by_name["requests"]
    file = descriptor_pb2.FileDescriptorProto(name="offers/server/reader.proto", package="offers.server")
    message = file.message_type.add(name="EncodedBatch")
    field = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="requests", number=requests.number, type=field.TYPE_BYTES, label=field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("offers.server.EncodedBatch"))


_EncodedBatch = _encoded_batch()
