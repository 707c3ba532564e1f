"""Cases: calls whose requests, metadata and endings are probably wrong, each made from a seed and a number."""

from random import Random
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.faults.fuzz import wire
from tests.faults.fuzz.methods import Method, is_list, is_map
from tests.faults.fuzz.samples import grow, sample

INTEGERS = (0, 1, -1, 100, 101, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 4_102_444_799, 4_102_444_800, 63_593_069)
TEXTS = (
    "",
    "\0",
    "é" * 128,
    "x" * 129,
    "💥" * 300,
    "y" * 70_000,
    "../../etc/passwd",
    "Europe/Paris",
    "fr-FR",
    "%s%n{0}",
    "\u202e",
)
METADATA: tuple[tuple[tuple[str, str | bytes], ...], ...] = (
    (("x", "y" * 3_000),),
    tuple((f"x-{number}", "y") for number in range(60)),
    (("x-bin", bytes(range(256))),),
    (("grpc-trace-bin", b"\xff" * 29), ("traceparent", "00-zz-zz-zz")),
    (("grpc-previous-rpc-attempts", "-1"), ("grpc-retry-pushback-ms", "x")),
    (("x", ""), ("x", "again"), ("content-language", "~")),
    (("x", "y" * 20_000),),
)
SHARES = {
    "Check": 0.3,
    "List": 0.1,
    "LinkIdentities": 0.02,
    "DeleteProfile": 0.1,
    "BatchGetOffers": 0.3,
    "ExplainOffers": 0.3,
    "ExportProfile": 0.2,
    "UpdateProfile": 0.3,
}
"""Shares of methods that take long, or whose requests say little, beside 1 of the others."""
SHARE_OF_STREAMS = 0.06
HUGE = 9 << 20
"""Bytes of a message that the transport refuses."""


class Case(NamedTuple):
    """A call to make."""

    number: int
    method: Method
    messages: list[bytes]
    """One, or several where the method takes a stream."""
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    cancelled: bool = False
    """Whether the client cancels it at once."""
    hurried: bool = False
    """Whether the client's deadline is over before an answer can come."""
    compressed: bool = False


def case_of(seed: int, number: int, methods: list[Method]) -> Case:
    """Return a case; the same seed, number and methods give the same one."""
    random = Random(seed << 40 | number)
    method = random.choices(methods, [_share(one) for one in methods])[0]
    count = random.choice((0, 1, 1, 2, 5)) if method.sends_many else 1
    messages = [mutated(random, method) for _ in range(count)]
    kind = random.random()
    return Case(
        number,
        method,
        messages,
        random.choice(METADATA) if kind < 0.05 else (),
        cancelled=0.05 < kind < 0.07,
        hurried=0.07 < kind < 0.08,
        compressed=0.08 < kind < 0.1,
    )


def _share(method: Method) -> float:
    if method.sends_many or method.answers_many:
        return SHARE_OF_STREAMS
    return SHARES.get(method.path.rpartition("/")[2], 1.0)


def mutated(random: Random, method: Method) -> bytes:
    """Return a request that is probably wrong."""
    request = sample(random, method)
    kind = random.random()
    if kind < 0.1:
        return request.SerializeToString()
    if kind < 0.4:
        if random.random() < 0.3:
            grow(random, request)
        change_fields(random, request, random.choice([1, 1, 2, 5]))
        return request.SerializeToString()
    if kind < 0.45 and (deep := with_nested(random, request)):
        return deep
    data = request.SerializeToString()
    if kind < 0.75:
        for _ in range(random.choice((1, 1, 2, 4))):
            data = wire.change_at_depth(random, data)
        return data
    if kind < 0.999_9:
        return wire.change_bytes(random, data, sample(random, method).SerializeToString())
    return data + wire.tagged(15, bytes(HUGE))


def change_fields(random: Random, message: Message, changes: int) -> None:
    """Set some fields, at any depth, to extreme values."""
    for _ in range(changes):
        target: Any = message
        while target.DESCRIPTOR.fields:
            field = random.choice(target.DESCRIPTOR.fields)
            if is_map(field):  # maps are grown by `nested`
                break
            if field.message_type is None:
                value = extreme(random, field)
                if is_list(field):
                    getattr(target, field.name).extend([value] * random.choice((1, 2, 101)))
                else:
                    setattr(target, field.name, value)
                break
            if is_list(field):
                elements = getattr(target, field.name)
                target = random.choice(elements) if elements and random.random() < 0.8 else elements.add()
            else:
                target = getattr(target, field.name)
                target.SetInParent()


def extreme(random: Random, field: FieldDescriptor) -> Any:  # noqa: ANN401 - a value of any field
    """Return a value at or beyond the edge of a field's range, within its type."""
    if field.cpp_type in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return random.choice(wire.DOUBLES)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return random.randbytes(random.choice((0, 1, 1_000)))
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return random.choice(TEXTS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    value = random.choice(INTEGERS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_INT64:
        return value
    if field.cpp_type == FieldDescriptor.CPPTYPE_UINT64:
        return value % 2**64
    if field.cpp_type == FieldDescriptor.CPPTYPE_UINT32:
        return value % 2**32
    return max(min(value, 2**31 - 1), -(2**31))


def with_nested(random: Random, request: Message) -> bytes:
    """Return a request with a Struct that is nested deep or wide, in a field that takes one; else b""."""
    path: list[int] = []
    descriptor: Any = request.DESCRIPTOR
    for _ in range(4):
        fields = [field for field in descriptor.fields if field.message_type is not None and not is_map(field)]
        structs = [field for field in fields if field.message_type.full_name == "google.protobuf.Struct"]
        if structs:
            data = wire.tagged(structs[0].number, wire.nested(random))
            for number in reversed(path):
                data = wire.tagged(number, data)
            return request.SerializeToString() + data
        if not fields:
            break
        field = random.choice(fields)
        path.append(field.number)
        descriptor = field.message_type
    return b""
