"""Calls that fail: their status and the fields that it names, decoded from gRPC's errors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from offers.errors import FieldViolation, OffersError

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class OffersCallError(OffersError):
    """A call, or a part of one, that ended with a status other than OK."""

    def __init__(self, code: grpc.StatusCode, message: str, violations: Sequence[FieldViolation] = ()) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.violations = tuple(violations)
        """The invalid fields, where the code is INVALID_ARGUMENT."""


def error_of(status: status_pb2.Status) -> OffersCallError:
    """Return the error that a status in a response stands for, as of an event or of a request of a batch."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return OffersCallError(code, status.message, _violations(status))


@contextmanager
def raising_call_errors() -> Iterator[None]:
    """Raise OffersCallError instead of gRPC's errors while the context is open."""
    try:
        yield
    except grpc.RpcError as error:
        raise _call_error(error) from error


def not_serving(target: str, timeout_s: float, error: grpc.RpcError) -> OffersCallError:
    """Return the error of a server that did not serve in time."""
    if code_of(error) in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}:
        message = f"{target} is not serving after {timeout_s:g} s"
        return OffersCallError(grpc.StatusCode.UNAVAILABLE, message)
    return _call_error(error)


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    """Return the status code of a failed call."""
    code: grpc.StatusCode = error.code()  # errors of both clients are calls, too
    return code


def _call_error(error: grpc.RpcError) -> OffersCallError:
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # a proxy changed the code or message, but not the details
        status = None
    return OffersCallError(code_of(error), error.details() or "", [] if status is None else _violations(status))


def _violations(status: status_pb2.Status) -> list[FieldViolation]:
    """Return the invalid fields that the details of a status name."""
    violations = []
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            violations += [FieldViolation(field.field, field.description) for field in bad.field_violations]
    return violations
