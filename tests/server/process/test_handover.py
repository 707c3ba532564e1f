"""Restarts: a successor takes the port over while its predecessor drains, and after a predecessor that was killed."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from offers.client import OffersCallError, OffersClient
from offers.errors import OffersError
from offers.server.process.port import reserved_port
from offers.settings import Settings
from offers.v1 import offer_service_pb2 as pb
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.server.process.test_processes import SERVING, write
from tests.server.running import LONG_S, Server, command_of, wait_for


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def on_port(folder: Path, name: str, port: int, **settings: Any) -> Server:  # noqa: ANN401 - the fields of Settings
    """A server on a port over the data folder of all, with a log of its own."""
    own = folder / name
    own.mkdir()
    given = {"catalogs": (write(folder),), "data_dir": folder / "data", "workers": 1, "drain_s": 1.0, **settings}
    return Server(own, port=port, **given)


class Load:
    """Calls without a pause, by offers.client and by a plain client of grpcio that does not retry."""

    def __init__(self, port: int) -> None:
        self.answers = {"offers.client": 0, "plain": 0}
        self.failures: dict[str, list[Exception]] = {"offers.client": [], "plain": []}
        self._target = f"127.0.0.1:{port}"
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._typed, self._plain)]

    def _typed(self) -> None:
        with OffersClient(self._target, timeout_s=LONG_S) as client:
            while not self._stopping.is_set():
                try:
                    client.get_offers(pb.GetOffersRequest())
                    self.answers["offers.client"] += 1
                except OffersCallError as error:
                    self.failures["offers.client"].append(error)

    def _plain(self) -> None:
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self._target, options=options) as channel:
            stub = OfferServiceStub(channel)
            while not self._stopping.wait(0.005):
                try:
                    stub.GetOffers(pb.GetOffersRequest(), timeout=LONG_S)
                    self.answers["plain"] += 1
                except grpc.RpcError as error:
                    self.failures["plain"].append(error)

    def go_on(self) -> None:
        """Wait until both have had some more answers."""
        before = dict(self.answers)
        wait_for(lambda: all(self.answers[name] > before[name] + 20 for name in before), "calls are answered", LONG_S)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()


def ready(server: Server) -> bool:
    """Whether a server says that it is ready; fails if it has ended."""
    assert server.process.poll() is None, server.text
    return bool(server.lines("server_ready"))


def test_a_successor_takes_over_without_a_lost_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under load: refused without the flag, with it both serve, the first stops in order, and its callers go on.

    Only a client without retries may notice, by a call that reaches gRPC's core in the instant of its shutdown.
    Once that one's supervisor is killed, the next start takes over while the workers that it left end.
    """
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(tmp_path / "notify"))
    notified.settimeout(LONG_S)
    port, running = free_port(), list[Server]()
    try:
        running.append(first := on_port(tmp_path, "first", port))
        wait_for(lambda: ready(first), "the first is ready", LONG_S)
        with Load(port) as load:
            load.go_on()
            refused = on_port(tmp_path, "refused", port)
            assert 1 == refused.process.wait(LONG_S)
            assert f"offers: cannot listen on 127.0.0.1:{port}" in refused.text
            assert "--allow-handover" in refused.text
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            running.append(second := on_port(tmp_path, "second", port, allow_handover=True))
            assert b"READY=1" == notified.recv(100)
            assert ready(second)
            load.go_on()
            assert 0 == first.stop()
            load.go_on()
        assert [] == load.failures["offers.client"]
        assert all("StatusCode.CANCELLED" in str(error) for error in load.failures["plain"])
        assert len(load.failures["plain"]) <= 2
        left = second.workers()
        os.kill(second.process.pid, signal.SIGKILL)
        second.process.wait()
        running.append(third := on_port(tmp_path, "third", port))
        wait_for(lambda: ready(third), "without a flag, the next start takes over from a killed one", LONG_S)
        assert b"READY=1" == notified.recv(100)
        wait_for(lambda: not any(map(command_of, left)), "the workers of the killed one have ended", LONG_S)
        assert SERVING == third.health()
        assert 0 == third.stop()
        assert b"STOPPING=1" == notified.recv(100)
        assert "Traceback" not in first.text + second.text + third.text
    finally:
        notified.close()
        for server in running:
            server.process.kill()
            server.process.wait()


def hold(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """A process that has reserved a port, as a supervisor does."""
    command = f"""
from offers.server.process.port import reserved_port
from offers.settings import Settings
with reserved_port(Settings(port={port}, data_dir={str(folder)!r})):
    print("reserved", flush=True)
    input()
"""
    process = subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert b"reserved\n" == process.stdout.readline()
    return process


def worker_on(port: int) -> socket.socket:
    """A socket that listens on a port as a worker does."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", port))
    one.listen()
    return one


def test_a_port_is_shared_only_with_what_a_killed_server_left(tmp_path: Path) -> None:
    """A living server and a stranger are refused; the workers of a killed one are not, as they are about to end."""
    port = free_port()
    settings = Settings(port=port, data_dir=tmp_path)
    with hold(tmp_path, port) as living:
        with pytest.raises(OffersError, match="--allow-handover"), reserved_port(settings):
            pass
        with reserved_port(settings.model_copy(update={"allow_handover": True})) as shared:
            assert port == shared
        with worker_on(port):
            living.kill()
            living.wait()
            with reserved_port(settings) as left:  # without a flag; this one stops in order
                assert port == left
            with pytest.raises(OffersError, match=f"cannot listen on 127.0.0.1:{port}"), reserved_port(settings):
                pass


def test_a_port_of_which_no_mark_can_be_left_is_reserved(tmp_path: Path) -> None:
    """Where the data folder cannot be written, others say so; a free port has no mark at all."""
    (tmp_path / "file").write_text("in the way")
    with reserved_port(Settings(port=free_port(), data_dir=tmp_path / "file")) as port:
        assert port
    with reserved_port(Settings(port=0, data_dir=tmp_path)) as port:
        assert port
    assert ["file"] == [path.name for path in tmp_path.iterdir()]
