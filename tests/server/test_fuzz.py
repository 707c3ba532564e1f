"""Nothing a client sends ends a worker: 10,000 mutated requests against real processes."""

import struct
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from offers.demo import catalogue
from offers.v1 import offer_service_pb2 as pb
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.server.running import started

GET, BATCH = "/offers.v1.OfferService/GetOffers", "/offers.v1.OfferService/BatchGetOffers"
ALLOWED = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
REQUESTS = 10_000
UNDER_WAY = 64
DOUBLES = (float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 1.8e308 / 2, 90.0, -90.0, 180.0, -180.0, 91.0, 1e9)
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


def sample(random: Random) -> pb.GetOffersRequest:
    """Return a valid request."""
    request = pb.GetOffersRequest(request_id="fuzz", max_offers=random.randint(1, 100), seed=random.getrandbits(64))
    context = request.context
    context.location.point.latitude, context.location.point.longitude = random.uniform(48, 49), random.uniform(2, 3)
    context.location.accuracy_m = 10
    context.time.seconds, context.time_zone = random.randrange(4_102_444_800), "Asia/Kathmandu"
    context.user.user_id, context.session.session_id = "someone", "today"
    context.session.start_time.seconds = 1
    context.session.viewed_categories["sushi"].seconds = context.session.micro_conversions["help_opened"].seconds = 2
    context.session.searches.add(query="sushi").search_time.seconds = 3
    context.session.basket.items.add(category="sushi", quantity=2)
    context.session.basket.value.currency_code, context.session.basket.update_time.seconds = "EUR", 4
    context.attributes.update({"weather": "rain", "party": 4, "tags": ["a", {"b": None}]})
    context.language_code, context.currency_code = "fr-FR", "EUR"
    request.view = random.choice(pb.View.values())
    return request


def extreme(random: Random, field: FieldDescriptor) -> Any:  # noqa: ANN401 - a value of any field
    """Return a value at or beyond the edge of a field's range, within its type."""
    if field.cpp_type in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return random.choice(DOUBLES)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return random.choice(TEXTS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    value = random.choice(INTEGERS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_INT64:
        return value
    if field.cpp_type == FieldDescriptor.CPPTYPE_UINT64:
        return value % 2**64
    return max(min(value, 2**31 - 1), -(2**31))


def change_fields(random: Random, message: Message, changes: int) -> None:
    """Set some fields, at any depth, to extreme values."""
    for _ in range(changes):
        target: Any = message
        while True:
            field = random.choice(target.DESCRIPTOR.fields)
            if isinstance(field.default_value, list):  # lists and maps are grown by `nested`
                break
            if field.message_type is None:
                setattr(target, field.name, extreme(random, field))
                break
            target = getattr(target, field.name)
            target.SetInParent()


def tagged(number: int, data: bytes) -> bytes:
    """Return a length-delimited field on the wire."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(number: int) -> bytes:
    """Return a number as 7 bits a byte, least significant first."""
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def nested(random: Random) -> bytes:
    """Return attributes that are nested deep or wide."""
    if random.random() < 0.3:
        entry = tagged(1, b"%d") + tagged(2, b"\x20\x01")
        struct_ = b"".join(tagged(1, entry % number) for number in range(random.randint(90, 200)))
    else:
        value = b"\x20\x01"
        for _ in range(random.choice([10, 30, 45, 48, 49, 50, 51, 100, 1_000])):
            value = (
                tagged(6, tagged(1, value))
                if random.random() < 0.5
                else tagged(5, tagged(1, tagged(1, b"k") + tagged(2, value)))
            )
        struct_ = tagged(1, tagged(1, b"deep") + tagged(2, value))
    return tagged(1, tagged(5, struct_))


def wire_level(random: Random) -> bytes:
    """Return fields written by hand: text that is not UTF-8, unknown fields and enum values, groups, repeats."""
    number = random.choice([1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 2_000, 2**29 - 1])
    kind = random.randrange(5)
    if kind == 0:
        return tagged(
            number, random.choice([b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\0" * 50])
        )
    if kind == 1:
        return varint(number << 3) + varint(random.choice([0, 1, 99, 2**31, 2**63, 2**64 - 1]))
    if kind == 2:
        return varint(number << 3 | 1) + struct.pack("<d", random.choice(DOUBLES))
    if kind == 3:
        return varint(number << 3 | 3) + tagged(1, b"x") + varint(number << 3 | 4)
    return tagged(1, tagged(random.choice([1, 2, 4, 6]), random.randbytes(random.randint(0, 40))))


def change_bytes(random: Random, data: bytes, other: bytes) -> bytes:
    """Flip, cut, repeat and splice."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, to = sorted((random.randint(0, len(changed)), random.randint(0, len(changed))))
        kind = random.randrange(5)
        if kind == 0 and changed:
            changed[at - 1] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            changed[at:at] = changed[at:to] * random.choice([1, 2, 30])
        elif kind == 3:
            changed[at:to] = other[random.randint(0, len(other)) :]
        else:
            changed[at:to] = random.randbytes(random.randint(0, 20))
    return bytes(changed)


def mutated(random: Random) -> tuple[str, bytes]:
    """Return a method, and a request for it that is probably wrong."""
    request = sample(random)
    kind = random.random()
    if kind < 0.45:
        change_fields(random, request, random.choice([1, 1, 2, 5]))
    data = request.SerializeToString()
    if 0.45 <= kind < 0.6:
        data += wire_level(random)
    elif 0.6 <= kind < 0.7:
        data += nested(random)
    elif kind >= 0.7:
        data = change_bytes(random, data, sample(random).SerializeToString())
    if random.random() < 0.1:
        items = [tagged(1, data), *(tagged(1, sample(random).SerializeToString()) for _ in range(random.randint(0, 3)))]
        random.shuffle(items)
        batch = b"".join(items)
        return BATCH, change_bytes(random, batch, data) if random.random() < 0.3 else batch
    return GET, data


def test_mutated_requests_leave_every_worker_alive(tmp_path: Path) -> None:
    """All of 10,000 requests are answered, with OK or a refusal; the workers live on and log no fault."""
    random = Random(10_000)
    codes: Counter[grpc.StatusCode] = Counter()
    with started(tmp_path, catalogs=(catalogue(),), workers=2) as server:
        workers = server.workers()
        assert 2 == len(workers)
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.insecure_channel(server.target, options=options) for _ in range(8)]
        under_way: list[tuple[bytes, Any]] = []

        def settle() -> None:
            for data, call in under_way:
                code = call.code()
                codes[code] += 1
                assert code in ALLOWED, (code, call.details(), data[:200])
            under_way.clear()

        for number in range(REQUESTS):
            method, data = (GET, b"\x0a" * (9 << 20)) if number % 2_500 == 7 else mutated(random)
            call: Any = channels[number % 8].unary_unary(method)
            under_way.append((data, call.future(data, timeout=20)))
            if len(under_way) == UNDER_WAY:
                settle()
        settle()
        good = OfferServiceStub(channels[0]).GetOffers(sample(random), timeout=5)
        assert workers == server.workers()
        for channel in channels:
            channel.close()
        assert 0 == server.stop()
        text = server.text
    assert good.decision_id
    assert REQUESTS == codes.total()
    assert min(codes[grpc.StatusCode.OK], codes[grpc.StatusCode.INVALID_ARGUMENT]) > REQUESTS // 10
    assert [] == [sign for sign in ("Traceback", "call_failed", "worker_died") if sign in text]


@pytest.mark.parametrize("seed", range(3))
def test_mutations_are_as_wild_as_they_claim(seed: int) -> None:
    """Some of the mutated requests can be read and some cannot, and all kinds of fields are changed."""
    random = Random(seed)
    read = 0
    for _ in range(300):
        _, data = mutated(random)
        try:
            pb.GetOffersRequest.FromString(data)
        except DecodeError:
            continue
        read += 1
    assert 100 < read < 290
