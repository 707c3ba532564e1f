"""A server that loses its store while it serves, and servers that end because a setting is wrong."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from offers.v1 import offer_service_pb2 as pb
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import Click, Event
from offers.v1.event_service_pb2 import ReportEventsRequest, ReportEventsResponse
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.server.running import LONG_S, Server, command_of, started, wait_for

DOCUMENT = """
catalog_id: small
offers:
  - offer_id: a
    title: first
    benefit: {percent_off: 10}
    target: {everywhere: true}
    frequency_caps: [{max_count: 9, rolling: 3600s}]
"""
HIDING = "from offers import cli; cli.app = lambda: (print(flush=True), input()); cli.main()"


def report(server: Server, event_id: str) -> ReportEventsResponse:
    """Report an event over a new connection."""
    event = Event(event_id=event_id, user=User(user_id="u1"), offer_id="a", click=Click())
    with grpc.insecure_channel(server.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = ReportEventsRequest(events=[event])
        response: ReportEventsResponse = EventServiceStub(channel).ReportEvents(request, timeout=10)
        return response


def ask(server: Server) -> pb.GetOffersResponse:
    """Ask for a person's offers over a new connection."""
    with grpc.insecure_channel(server.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = pb.GetOffersRequest()
        request.context.user.user_id = "u1"
        response: pb.GetOffersResponse = OfferServiceStub(channel).GetOffers(request, timeout=10)
        return response


def refusal(server: Server, event_id: str) -> tuple[grpc.StatusCode, str | None]:
    """Return how a report is refused."""
    with pytest.raises(grpc.RpcError) as raised:
        report(server, event_id)
    return raised.value.code(), raised.value.details()


def reports(server: Server, event_id: str) -> bool:
    """Return whether an event is taken in."""
    try:
        report(server, event_id)
    except grpc.RpcError:
        return False
    return True


def _cut_short(state: Path) -> None:
    """Truncate a database most of whose pages are in the file, not in the write-ahead log."""
    with closing(sqlite3.connect(state)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(state, 4096)


def test_a_removed_store_is_noticed_by_every_worker(tmp_path: Path) -> None:
    """Decisions go on and say `degraded`, reports are refused with the reason, and a replaced worker does the same.

    Once the file is back, all goes on. If it is cut short, no worker dies of it. A server that is started without it
    ends with the reason, and makes none.
    """
    (tmp_path / "small.yaml").write_text(DOCUMENT, "utf-8")
    state, aside = tmp_path / "data" / "state.db", tmp_path / "aside"
    with started(tmp_path, catalogs=(tmp_path / "small.yaml",)) as server:
        report(server, "e1")
        assert not ask(server).degraded
        state.rename(aside)
        wait_for(lambda: len(server.lines("store_lost")) == 2, "both workers notice")
        for number in range(4):
            code, reason = refusal(server, f"lost {number}")
            assert (grpc.StatusCode.UNAVAILABLE, True) == (code, "was removed while it was in use" in str(reason))
            assert ask(server).degraded
        victim = min(server.workers())
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(server.lines("worker_serving")) == 3, "another worker serves without the store")
        assert "is gone or empty" in server.lines("store_lost")[2]["reason"]
        assert ask(server).degraded
        assert not state.exists()

        aside.rename(state)
        wait_for(lambda: len(server.lines("store_is_back")) == 2, "both workers have it again")
        assert all(reports(server, f"back {number}") for number in range(4))
        assert not ask(server).degraded

        _cut_short(state)
        for number in range(8):
            assert refusal(server, f"cut {number}")[0] == grpc.StatusCode.UNAVAILABLE
            assert ask(server).degraded
        assert 1 == len(server.lines("worker_died"))
        assert 0 == server.stop()
    state.rename(aside)
    again = Server(tmp_path, catalogs=(tmp_path / "small.yaml",))
    assert 1 == again.process.wait(LONG_S)
    assert f"offers: {state} is gone or empty: put back what was there, or a backup of it." in again.text
    assert "Traceback" not in again.text
    assert not again.lines("catalogue_compiling")  # nothing was started
    assert not state.exists()


def test_a_taken_metrics_port_is_refused(tmp_path: Path) -> None:
    """The message names the port."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        server = Server(tmp_path, metrics_port=port)
        assert 1 == server.process.wait(LONG_S)
    assert f"offers: cannot serve metrics on 127.0.0.1:{port} (Address already in use)" in server.text
    assert "Traceback" not in server.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show where the command line is")
def test_the_command_line_shows_no_password() -> None:
    """Passwords that are given to a command are overwritten in what the system shows of it."""
    urls = [
        "--state-url=redis://:very-secret@cache:6379/0",
        "postgresql://me:very/secret:2@db/offers?sslmode=require",
        "postgresql://db/offers?user=me&password=very-secret",
    ]
    with subprocess.Popen([sys.executable, "-c", HIDING, *urls], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        shown = command_of(one.pid)
        one.communicate(b"\n")
    assert b"secret" not in shown
    parts = (b"redis://:", b"@cache:6379/0", b"postgresql://me:", b"@db/offers?sslmode=require", b"user=me&password=")
    assert all(part in shown for part in parts)
