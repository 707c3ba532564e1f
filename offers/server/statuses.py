"""The gRPC status of each error, with the details that tell a caller what to change."""

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from offers.errors import (
    BusyError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    OffersError,
    StoreUnavailableError,
)

ERROR_DOMAIN = "offers"
RETRY_S = 1
"""Seconds after which a caller is told to try again when a store cannot be reached."""
_CODES = {
    NotFoundError: code_pb2.NOT_FOUND,
    ConflictError: code_pb2.FAILED_PRECONDITION,
    BusyError: code_pb2.RESOURCE_EXHAUSTED,
}
BATCH_FULL = status_pb2.Status(
    code=code_pb2.RESOURCE_EXHAUSTED, message="the batch's answers are over 32 MiB: ask for the rest in another"
)
"""The status of a request whose answer would exceed the size limit of the batch."""


def status_of(error: OffersError) -> status_pb2.Status:
    """Return the status an error ends a call with: a canonical code, and details that name each field and reason."""
    if isinstance(error, StoreUnavailableError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.seconds = RETRY_S
        return status_pb2.Status(code=code_pb2.UNAVAILABLE, message=str(error), details=[_packed(retry)])
    if not isinstance(error, InvalidRequestError):
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), code_pb2.INTERNAL)
        return status_pb2.Status(code=code, message=str(error))
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.reason)
            for violation in error.violations
        ]
    )
    info = error_details_pb2.ErrorInfo(reason="INVALID_REQUEST", domain=ERROR_DOMAIN)
    return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=str(error), details=[_packed(bad), _packed(info)])


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
