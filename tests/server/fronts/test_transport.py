"""The transport keeps the limits that the guide to operations states."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from offers import client
from offers.cli.event_import import TIMEOUT_S
from offers.server import admission, statuses, transport
from offers.server.events import service as events
from offers.server.fronts import gate, health, reflection, threads
from offers.server.limits import MAX_BATCH_BYTES, MAX_BATCH_RESPONSE_BYTES, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES
from offers.server.process import worker
from offers.server.process.worker import Worker
from offers.settings import Settings
from offers.state.opening import open_stores
from tests.faults.http2 import ACK, GOAWAY, PING, SETTINGS, Raw, frame
from tests.paths import ROOT

GUIDE = (ROOT / "docs" / "guides" / "operations.md").read_text("utf-8")
SECTION = GUIDE[GUIDE.index("## Transport") : GUIDE.index("## Stores")]
ROW = re.compile(r"^\| `(grpc\.[\w.]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
NOT_SET = "–"  # noqa: RUF001 - as the guide writes it
MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE = 3, 6
ENHANCE_YOUR_CALM = 11


def stated(column: int) -> dict[str, str]:
    """Return what the table of the guide states: 1 for the server, 2 for the client."""
    return {row[0]: row[column] for row in ROW.findall(SECTION) if row[column] != NOT_SET}


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options with which servers are made from now on."""
    found: dict[str, Any] = {}
    make = grpc.server

    def server(*arguments: Any, **named: Any) -> grpc.Server:  # noqa: ANN401 - as grpc.server
        found.update(named["options"])
        return make(*arguments, **named)

    monkeypatch.setattr(grpc, "server", server)
    return found


@pytest.fixture
def port(options: dict[str, Any], tmp_path: Path) -> Iterator[int]:  # noqa: ARG001 - before the server is made
    """The port of a worker without a catalogue."""
    settings = Settings(data_dir=tmp_path)
    with closing(open_stores(settings)) as stores:
        worker = Worker(settings, stores)
        yield worker.start(0)
        worker.stop()


def test_the_table_states_what_a_server_sets(options: dict[str, Any], port: int) -> None:
    """Every option of the server is in the table with its value, and the table has no other."""
    assert port
    assert {name: str(value) for name, value in options.items()} == stated(1)


def test_the_table_states_what_the_client_sets() -> None:
    """Every option of offers.client is in the table with its value, and the table has no other."""
    numbers = {name: str(value) for name, value in client.CHANNEL_OPTIONS if name != "grpc.service_config"}

    assert {**numbers, "grpc.service_config": "retries"} == stated(2)


def test_every_option_is_in_the_table_once() -> None:
    """No row is of an option that neither sets, or is written twice; all rows are read."""
    names = [row[0] for row in ROW.findall(SECTION)]

    assert sorted(set(names)) == sorted(names)
    assert set(names) == stated(1).keys() | stated(2).keys()
    assert len(names) == SECTION.count("\n| `")


def test_the_text_states_the_limits_of_messages_and_the_deadlines() -> None:
    """Numbers in sentences are those in force."""
    text = " ".join(SECTION.split())
    retry = client.SERVICE_CONFIG["methodConfig"][0]["retryPolicy"]  # type: ignore[index]
    waits = [round(float(retry[name].removesuffix("s")) * 1000) for name in ("initialBackoff", "maxBackoff")]

    assert client.EXPLAIN_TIMEOUT_S == client.STORE_TIMEOUT_S
    for sentence in (
        f"may have {MAX_REQUEST_BYTES >> 20} MiB, batches {MAX_BATCH_BYTES >> 20} MiB",
        f"beyond {MAX_BATCH_RESPONSE_BYTES >> 20} MiB",
        f"up to {retry['maxAttempts']} attempts",
        f"{waits[0]} to {waits[1]} ms apart",
        f"gives a decision {client.DEFAULT_TIMEOUT_S:g} second",
        f"explanations, reports and changes of profiles {client.EXPLAIN_TIMEOUT_S:g}",
        f"exports and erasures {client.ERASE_TIMEOUT_S:g}",
        f"gives a request {TIMEOUT_S}",
        f"{events.MOST_STREAMS} streams of `StreamEvents`, {reflection.MOST_STREAMS} of reflection",
        f"{health.MOST_WATCHERS:,} of health's Watch",
        f"{threads.MESSAGE_S:g} seconds to send the message of a call and {threads.STREAM_S:g} between two",
    ):
        assert sentence in text


def test_the_text_states_the_bounds_of_overload() -> None:
    """Numbers in the section on overload are those in force."""
    text = " ".join(GUIDE[GUIDE.index("## Overload") : GUIDE.index("## Restart")].split())
    for sentence in (
        f"{admission.MOST_WAITING} calls wait",
        f"with a RetryInfo of {statuses.RETRY_S} second",
        f"took in the last {admission.PACE_S:g} seconds",
        f"has waited for {admission.OLDEST_S:g} seconds",
        f"more than {gate.TOLD_PER_S} calls a second are refused",
        f"{transport.MOST_PENDING} of the method are pending in gRPC",
        f"the oldest has waited for {admission.CROWDED_S * 1000:g} ms",
        f"says each {worker.REPORT_S:g} seconds",
    ):
        assert sentence in text


def test_a_server_says_how_many_streams_and_how_much_metadata_it_takes(port: int) -> None:
    """The settings of HTTP/2 that a server sends are those of the table."""
    with Raw(f"127.0.0.1:{port}", timeout=10) as connection:
        payload = next(payload for kind, payload in connection.frames() if kind == SETTINGS)

    said = {
        int.from_bytes(payload[at : at + 2]): int.from_bytes(payload[at + 2 : at + 6])
        for at in range(0, len(payload), 6)
    }
    table = stated(1)
    assert said[MAX_CONCURRENT_STREAMS] == int(table["grpc.max_concurrent_streams"])
    assert said[MAX_HEADER_LIST_SIZE] == int(table["grpc.absolute_max_metadata_size"])


def test_too_many_pings_end_the_connection(port: int) -> None:
    """The first ping and as many strikes as the table states are answered; the next ends the connection."""
    strikes = int(stated(1)["grpc.http2.max_ping_strikes"])
    with Raw(f"127.0.0.1:{port}", timeout=10) as connection:
        pings = [frame(PING, payload=number.to_bytes(8)) for number in range(1 + strikes + 1)]
        connection.send(frame(SETTINGS, ACK) + b"".join(pings))
        received = list(connection.frames())

    (last,) = (payload for kind, payload in received if kind == GOAWAY)
    assert (ENHANCE_YOUR_CALM, b"too_many_pings") == (int.from_bytes(last[4:8]), last[8:])
    assert 1 + strikes <= sum(kind == PING for kind, _ in received)


def test_messages_and_metadata_beyond_the_limits_are_refused(port: int) -> None:
    """The status is RESOURCE_EXHAUSTED, and the connection goes on."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        ask = health_pb2.HealthCheckRequest
        for request, metadata in (
            (ask(service="x" * MAX_MESSAGE_BYTES), ()),
            (ask(), (("x", "y" * int(stated(1)["grpc.absolute_max_metadata_size"])),)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                check(request, metadata=metadata, timeout=10)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert check(ask(), metadata=(("x", "y" * 7_000),), timeout=10).status
