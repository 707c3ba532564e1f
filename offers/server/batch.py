"""Batches: split an encoded batch into its requests, still encoded. Each is answered, or refused, by itself."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from offers.errors import FieldViolation, InvalidRequestError
from offers.server import convert
from offers.server.limits import MAX_BATCH, MAX_BATCH_BYTES
from offers.v1.offer_service_pb2 import BatchGetOffersRequest


def requests_of(data: bytes) -> list[bytes]:
    """Return the encoded requests of an encoded BatchGetOffersRequest.

    Raises InvalidRequestError unless there are 1 to 1,000.
    """
    batch: list[bytes] = convert.parse(_EncodedBatch, data, MAX_BATCH_BYTES).requests
    if not 1 <= len(batch) <= MAX_BATCH:
        reason = f"{len(batch):,} requests: send 1 to {MAX_BATCH:,} at a time"
        raise InvalidRequestError([FieldViolation("requests", reason)])
    return batch


def _encoded_batch() -> type:
    """Make a message class with the wire format of BatchGetOffersRequest, whose requests stay encoded."""
    requests = BatchGetOffersRequest.DESCRIPTOR.fields_by_name["requests"]
    file = descriptor_pb2.FileDescriptorProto(name="offers/server/batch.proto", package="offers.server")
    message = file.message_type.add(name="EncodedBatch")
    field = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="requests", number=requests.number, type=field.TYPE_BYTES, label=field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("offers.server.EncodedBatch"))


_EncodedBatch = _encoded_batch()
