"""The gRPC status of each error, with the details that tell a caller what to change."""

from collections.abc import Sequence

import structlog
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from offers.errors import (
    BusyError,
    ConflictError,
    ExpiredError,
    FieldViolation,
    InvalidRequestError,
    NotFoundError,
    OffersError,
    OverloadedError,
    SnapshotError,
    StoreUnavailableError,
)
from offers.telemetry.logs import log_failure

ERROR_DOMAIN = "offers"
RETRY_S = 1
"""Seconds after which a caller is told to try again when a store cannot be reached, or calls are too many."""
MOST_MESSAGE, MOST_TOLD = 1_000, 3_000
"""Bytes of a status' message and of the faults in its details. A status travels in headers, of which clients and
proxies take 8 kB as a rule: with a longer one the call ends with RESOURCE_EXHAUSTED, and the caller learns nothing."""
_CODES = {
    NotFoundError: code_pb2.NOT_FOUND,
    ConflictError: code_pb2.FAILED_PRECONDITION,
    BusyError: code_pb2.RESOURCE_EXHAUSTED,
    ExpiredError: code_pb2.DEADLINE_EXCEEDED,
    StoreUnavailableError: code_pb2.UNAVAILABLE,
    SnapshotError: code_pb2.UNAVAILABLE,  # it is compiled again
}
_TO_BE_REPEATED = (StoreUnavailableError, OverloadedError)
BATCH_FULL = status_pb2.Status(
    code=code_pb2.RESOURCE_EXHAUSTED, message="the batch's answers are over 32 MiB: ask for the rest in another"
)
"""The status of a request whose answer would exceed the size limit of the batch."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def status_for(error: Exception) -> status_pb2.Status:
    """Return the status that any error ends a call with, and log an unexpected one."""
    if isinstance(error, OffersError):
        return status_of(error)
    log_failure(log, "call_failed", error)
    return status_pb2.Status(code=code_pb2.INTERNAL, message="internal error: the server's log has it")


def status_of(error: OffersError) -> status_pb2.Status:
    """Return the status an error ends a call with: a canonical code, and details that name each field and reason."""
    if not isinstance(error, InvalidRequestError):
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), code_pb2.INTERNAL)
        status = status_pb2.Status(code=code, message=_shortened(str(error)))
        if isinstance(error, _TO_BE_REPEATED):
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.seconds = RETRY_S
            status.details.append(_packed(retry))
        return status
    info = error_details_pb2.ErrorInfo(reason="INVALID_REQUEST", domain=ERROR_DOMAIN)
    told = _told(error.violations)
    if left := len(error.violations) - len(told.field_violations):
        info.metadata["violations_left_out"] = str(left)
    faults = _shortened("; ".join(f"{one.field}: {one.description}" for one in told.field_violations))
    message = f"{faults}; and {left:,} more" if left else faults
    return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=message, details=[_packed(told), _packed(info)])


def _told(violations: Sequence[FieldViolation]) -> error_details_pb2.BadRequest:
    """Return the first violations, as many as fit into a status, and at least one."""
    told = error_details_pb2.BadRequest()
    for violation in violations:
        told.field_violations.add(field=_shortened(violation.field), description=_shortened(violation.reason))
        if told.ByteSize() > MOST_TOLD and len(told.field_violations) > 1:
            del told.field_violations[-1]
            break
    return told


def _shortened(text: str) -> str:
    """Return a text, cut where it would take more than MOST_MESSAGE bytes in a header.

    There, a byte that is not printable ASCII takes three.
    """
    used = 0
    for index, letter in enumerate(text):
        used += 1 if " " <= letter <= "~" and letter != "%" else 3 * len(letter.encode())
        if used > MOST_MESSAGE:
            return f"{text[:index]}..."
    return text


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
