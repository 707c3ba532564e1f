"""The life of a server's processes: deaths, edits, drains, and what is left behind."""

import os
import re
import resource
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from offers.demo import catalogue
from offers.server.process.worker import Worker
from offers.settings import Settings
from offers.state.opening import open_stores
from offers.testing import Served, serving
from offers.v1 import offer_service_pb2 as pb
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.server.fronts.fronts import FRONTS
from tests.server.running import LONG_S, Server, command_of, environment_of, started, wait_for

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "offers.v1.OfferService"
RETRY = """{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.05s",
"maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"""
DOCUMENT = """
catalog_id: {name}
offers:
  - {{offer_id: one, title: {title}, benefit: {{percent_off: 10}}, target: {{everywhere: true}}}}
"""


def write(folder: Path, name: str = "small", title: str = "first") -> Path:
    """Write a small catalogue, as a finished file moved into place."""
    draft, path = folder / f".{name}.draft", folder / f"{name}.yaml"
    draft.write_text(DOCUMENT.format(name=name, title=title), encoding="utf-8")
    draft.replace(path)
    return path


def ask(server: Server, **fields: Any) -> pb.GetOffersResponse:  # noqa: ANN401 - of a request
    """Ask over a new connection."""
    with channel_to(server) as channel:
        response: pb.GetOffersResponse = OfferServiceStub(channel).GetOffers(pb.GetOffersRequest(**fields), timeout=5)
        return response


def channel_to(server: Server) -> grpc.Channel:
    """A connection of its own that tries again when a server goes away."""
    return grpc.insecure_channel(
        server.target, options=[("grpc.service_config", RETRY), ("grpc.use_local_subchannel_pool", 1)]
    )


def title_of(server: Server) -> str:
    """The title of the one offer that is served."""
    (offer,) = ask(server).offers
    return offer.title


class Load:
    """Calls without a pause from two threads, until told to stop."""

    def __init__(self, server: Server) -> None:
        self.answers, self.failures = 0, list[grpc.RpcError]()
        self._server, self._stopping = server, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def _run(self) -> None:
        with channel_to(self._server) as channel:
            stub = OfferServiceStub(channel)
            while not self._stopping.is_set():
                try:
                    stub.GetOffers(pb.GetOffersRequest(), timeout=5)
                    self.answers += 1
                except grpc.RpcError as error:
                    self.failures.append(error)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()


def test_killed_worker_is_replaced_and_callers_go_on(tmp_path: Path) -> None:
    """Under load a worker is killed: clients that retry go on, a new process takes its place, and the others stay."""
    with started(tmp_path, catalogs=(write(tmp_path),)) as server:
        before = server.workers()
        victim = min(before)
        with Load(server) as load:
            wait_for(lambda: load.answers > 50, "calls are answered")
            os.kill(victim, signal.SIGKILL)
            new = wait_for(lambda: server.workers() - before, "a new worker")
            wait_for(lambda: len(server.lines("worker_serving")) == 3, "it serves")
            answered = load.answers
            wait_for(lambda: load.answers > answered + 50, "calls are answered again")
        assert before - {victim} | new == server.workers()
        # A call whose answer had begun cannot be retried by the channel: at most the one each thread had under way.
        assert len(load.failures) <= 2
        (line,) = server.lines("worker_died")
        assert -signal.SIGKILL == line["status"]


def test_sigterm_drains_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On SIGTERM health turns to NOT_SERVING, calls are still answered until the drain ends, and all is cleaned up."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with started(tmp_path, catalogs=(write(tmp_path),), drain_s=3) as server:
        processes = {server.process.pid, *server.workers()}
        assert [SERVING, SERVING] == [server.health(), server.health(SERVICE)]
        channels = [channel_to(server) for _ in range(4)]
        stubs = [OfferServiceStub(channel) for channel in channels]
        assert all(stub.GetOffers(pb.GetOffersRequest(), timeout=5).decision_id for stub in stubs)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.health() == NOT_SERVING, "health says so", 2.9)
        assert all(stub.GetOffers(pb.GetOffersRequest(), timeout=5).decision_id for stub in stubs)
        assert 0 == server.process.wait(LONG_S)
        for channel in channels:
            channel.close()
        assert [] == [pid for pid in processes if command_of(pid)]
        assert 2 == len(server.lines("worker_stopped"))
        assert "Traceback" not in server.text
    assert [] == [path.name for path in scratch.iterdir() if path.name.startswith("offers")]
    assert [] == [path.name for path in (tmp_path / "data" / "snapshots").iterdir() if path.name.startswith(".")]


def test_calls_under_way_finish(tmp_path: Path) -> None:
    """Batches that were sent before SIGTERM get their answers, without a drain to wait for."""
    with started(tmp_path, catalogs=(catalogue(),), drain_s=0, workers=1) as server, channel_to(server) as channel:
        batch = pb.BatchGetOffersRequest(requests=[pb.GetOffersRequest(max_offers=100)] * 1_000)
        stub = OfferServiceStub(channel)
        stub.BatchGetOffers(batch, timeout=20)
        calls = [stub.BatchGetOffers.future(batch, timeout=60) for _ in range(16)]
        wait_for(lambda: any(call.done() for call in calls), "the first is answered")
        under_way = [call for call in calls if not call.done()]
        server.process.send_signal(signal.SIGTERM)
        codes = {call.code() for call in under_way}
        assert 0 == server.process.wait(LONG_S)
        assert "Traceback" not in server.text
    # A call that reaches the worker only after it stopped listening is refused so that a client sends it elsewhere.
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert grpc.StatusCode.OK in codes


def test_a_worker_has_room_for_as_many_connections_as_the_system_allows(tmp_path: Path) -> None:
    """A low soft limit on open files, as shells have, leaves room for many idle connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    own = sum(1 for _ in Path("/proc/self/fd").iterdir())  # the limit is inherited, so it holds here at first
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, max(256, own + 100)), hard))
    try:
        with started(tmp_path, catalogs=(write(tmp_path),), workers=1) as server, ExitStack() as stack:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            (pid,) = server.workers()
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)
            host, _, port = server.target.rpartition(":")
            for _ in range(min(300, soft // 3)):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            assert server.health() == SERVING
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_edits_go_live_and_broken_ones_do_not(tmp_path: Path) -> None:
    """A good edit is served within seconds; after a broken one or a deletion the last good state still is, and a log
    line says why and counts."""  # noqa: D205, D209
    path = write(tmp_path)
    with started(tmp_path, catalogs=(path,)) as server:
        version = ask(server).catalog_version
        path.write_text("catalog_id: small\noffers: [{offer_id: 'no good'}]\n", encoding="utf-8")
        (refused,) = wait_for(lambda: server.lines("catalogue_refused"), "the edit is refused")
        assert (1, len(refused["problems"])) == (refused["refused"], refused["problem_count"])
        assert any("'no good' is not an id" in problem for problem in refused["problems"])
        assert {version} == {ask(server).catalog_version for _ in range(6)}

        write(tmp_path, title="second")
        live = "the good edit is live"  # after some three seconds on an idle machine
        wait_for(lambda: [title_of(server) for _ in range(6)] == ["second"] * 6, live, LONG_S)

        path.unlink()
        wait_for(lambda: len(server.lines("catalogue_refused")) == 2, "the deletion is noticed")
        assert 2 == server.lines("catalogue_refused")[1]["refused"]
        os.kill(min(server.workers()), signal.SIGKILL)
        wait_for(lambda: len(server.lines("worker_serving")) == 3, "the new worker serves what there was")
        assert {"second"} == {title_of(server) for _ in range(6)}
        write(tmp_path, title="third")
        wait_for(lambda: [title_of(server) for _ in range(6)] == ["third"] * 6, "the file is back", LONG_S)


def test_two_catalogues_are_told_apart_by_name(tmp_path: Path) -> None:
    """A server of two catalogues answers for the one that is named, and asks for a name where none is."""
    with started(tmp_path, catalogs=(write(tmp_path, "paris"), write(tmp_path, "lyon")), workers=1) as server:
        versions = {name: ask(server, catalog=name).catalog_version for name in ("paris", "lyon")}
        assert 2 == len(set(versions.values()))
        with pytest.raises(grpc.RpcError, match=r"name one of lyon, paris"):
            ask(server)


def test_two_catalogues_of_one_name_are_refused(tmp_path: Path) -> None:
    """A server does not start with two catalogues of the same id, and says which."""
    first, second = write(tmp_path, "same"), tmp_path / "other.yaml"
    shutil.copy(first, second)
    server = Server(tmp_path, catalogs=(first, second))
    assert 1 == server.process.wait(LONG_S)
    (refused,) = server.lines("catalogue_refused")
    assert "catalog_id 'same' is another document's too" in refused["problems"][0]
    assert "offers: cannot serve" in server.text
    assert "Traceback" not in server.text


def test_missing_catalogue_is_refused(tmp_path: Path) -> None:
    """A server does not start without its document, and says so."""
    server = Server(tmp_path, catalogs=(tmp_path / "none.yaml",))
    assert 1 == server.process.wait(LONG_S)
    assert re.search(r"^offers: cannot serve .*none\.yaml", server.text, re.MULTILINE)
    assert "Traceback" not in server.text


def test_data_dir_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A server that cannot write its data does not start, and says where and why."""
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    server = Server(tmp_path, catalogs=(write(tmp_path),), data_dir=tmp_path / "taken")
    assert 1 == server.process.wait(LONG_S)
    assert re.search(r"^offers: .*/taken/state\.db: .*Not a directory", server.text, re.MULTILINE)
    assert "Traceback" not in server.text


def test_taken_port_is_refused(tmp_path: Path) -> None:
    """A server does not share a port with a stranger, nor with another server: it ends with status 1 and says why."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        server = Server(tmp_path, catalogs=(write(tmp_path),), port=port)
        assert 1 == server.process.wait(LONG_S)
    said = re.findall(r"^offers: cannot listen on [\d.:]+", server.text, re.MULTILINE)
    assert [f"offers: cannot listen on 127.0.0.1:{port}"] == said
    assert "Traceback" not in server.text
    with started(tmp_path, catalogs=(write(tmp_path),), workers=1) as first:
        other = tmp_path / "other"
        other.mkdir()
        second = Server(other, catalogs=(write(tmp_path),), port=int(first.target.split(":")[1]))
        assert 1 == second.process.wait(LONG_S)
        assert "offers: cannot listen" in second.text
        assert SERVING == first.health()


def test_workers_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    """When the supervisor is killed, its workers end by themselves, and the port is free again."""
    with started(tmp_path, catalogs=(write(tmp_path),)) as server:
        workers, port = server.workers(), int(server.target.split(":")[1])
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        wait_for(lambda: not any(map(command_of, workers)), "the workers have ended")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_children_that_are_only_starting_do_not_outlive_it_either(tmp_path: Path) -> None:
    """Also of a supervisor that is killed before its workers and its learner have looked whose children they are."""
    server = Server(tmp_path, catalogs=(write(tmp_path),), learner=True)
    children = wait_for(lambda: len(found := server.workers() | server.learners()) == 3 and found, "all begin", LONG_S)
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not any(map(command_of, children)), "they have ended", LONG_S)


def test_no_process_shows_the_settings(tmp_path: Path) -> None:
    """Neither the command line nor the environment of a child has what may hold the password of a store."""
    secret = b"very-secret"
    catalogs, url = (write(tmp_path),), f"redis://:{secret.decode()}@127.0.0.1:1/0"
    server = Server(tmp_path, catalogs=catalogs, state_url=url, learner=True, workers=1)
    try:

        def children() -> set[int]:
            found = server.workers() | server.learners() | server.compilers()
            for pid in found:
                assert secret not in command_of(pid)
                assert secret not in environment_of(pid)
            return found

        assert wait_for(children, "a document is compiled", LONG_S)
        wait_for(lambda: len(children()) == 2, "worker and learner have begun", LONG_S)
    finally:
        server.process.terminate()
        server.process.wait(LONG_S)


@pytest.fixture(params=FRONTS, scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server in this process, behind each front."""
    with serving(front=request.param) as server:
        yield server


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services(served: Served, version: str) -> None:
    """Both versions of reflection list every service, and give the file that defines ours."""
    call = served.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
    ]
    listed, file, missing = call(iter(questions), timeout=10)
    names = {service.name for service in listed.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    assert any(name.startswith("grpc.reflection.") for name in names)
    assert any(b"OfferService" in data for data in file.file_descriptor_response.file_descriptor_proto)
    assert grpc.StatusCode.NOT_FOUND.value[0] == missing.error_response.error_code


def test_health_follows_the_worker(served: Served, tmp_path: Path) -> None:
    """A worker says NOT_SERVING until it has warm engines, SERVING from then on, and nothing of services it lacks."""
    settings = Settings(data_dir=tmp_path)
    stores = open_stores(settings)
    worker = Worker(settings, stores)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{worker.start(0)}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            asked = [health_pb2.HealthCheckRequest(service=name) for name in ("", SERVICE)]
            assert [NOT_SERVING] * 2 == [stub.Check(one, timeout=5).status for one in asked]
            worker.serve([served.worker.live.engine("")])
            assert [SERVING] * 2 == [stub.Check(one, timeout=5).status for one in asked]
            with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
                stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=5)
    finally:
        worker.stop()
        stores.close()


def test_open_reflection_streams_do_not_hold_up_calls(served: Served) -> None:
    """Whoever opens reflection streams and lets them lie keeps one thread at most: calls are answered all the same."""
    asked = served.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    silent = threading.Event()

    def nothing() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        silent.wait()
        yield from ()

    streams = [asked(nothing()) for _ in range(Settings().worker_threads + 2)]
    try:
        response = OfferServiceStub(served.channel).GetOffers(pb.GetOffersRequest(), timeout=5)
        assert response.catalog_version
    finally:
        silent.set()
        for stream in streams:
            stream.cancel()


def test_failures_that_are_not_the_document_s_are_tried_again(tmp_path: Path) -> None:
    """An edit that could not be written out goes live once it can be, without another edit."""
    with started(tmp_path, catalogs=(write(tmp_path),), workers=1) as server:
        snapshots = tmp_path / "data" / "snapshots"
        snapshots.rename(tmp_path / "data" / "aside")
        snapshots.write_text("in the way")
        write(tmp_path, title="second")
        wait_for(lambda: server.lines("catalogue_refused"), "the failure is told", 30)
        assert "first" == title_of(server)
        snapshots.unlink()
        (tmp_path / "data" / "aside").rename(snapshots)
        wait_for(lambda: title_of(server) == "second", "the edit is live", 60)
