"""Starts and stops the servers of peers, each on a free loopback port with a password of its own."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import WORKER_CORE, on_core
from benchmarks.peers.ranking import MissingError

HOST = "127.0.0.1"
START_S, _STOP_S = 30.0, 20.0
POSTGRES_USER = "postgres"
"""User of the database, and of the system where this runs as root."""
_POSTGRES_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "2GB",  # holds the largest catalogue
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "random_page_cost": "1.1",  # as for memory
    "max_parallel_workers_per_gather": "0",  # all is measured on one thread
    "jit": "off",  # takes longer than the query
    "plan_cache_mode": "force_generic_plan",  # planning takes as long as the query
    "autovacuum": "off",  # would disturb; the loader vacuums
    "fsync": "off",
    "max_wal_size": "4GB",
}


@dataclass(frozen=True, slots=True)
class Server:
    """The address of a server."""

    port: int
    password: str = field(repr=False)


@contextmanager
def redis(core: int = WORKER_CORE) -> Iterator[Server]:
    """Run a Redis server that writes nothing to disk. Raises MissingError."""
    program = shutil.which("redis-server")
    if program is None:
        raise MissingError("apt-get install redis-server")
    server = Server(free_port(), secrets.token_hex())
    settings = {"bind": HOST, "port": server.port, "requirepass": server.password, "save": '""', "loglevel": "warning"}
    with on_core(core):
        process = subprocess.Popen([program, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    with _ending(process):
        assert process.stdin is not None
        process.stdin.write("".join(f"{name} {value}\n" for name, value in settings.items()))
        process.stdin.close()
        yield server


@contextmanager
def postgres() -> Iterator[Server]:
    """Run a PostgreSQL server with a cluster of its own, whose user is postgres. Raises MissingError."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)
    if programs is None:
        raise MissingError("apt-get install postgresql postgresql-postgis")
    server = Server(free_port(), secrets.token_hex())
    as_user: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        password = data / "password"
        password.touch(mode=0o600)
        password.write_text(server.password, "utf-8")
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            for path in (data, password):
                shutil.chown(path, POSTGRES_USER, POSTGRES_USER)
            as_user = ["setpriv", f"--reuid={POSTGRES_USER}", f"--regid={POSTGRES_USER}", "--clear-groups"]
        make: list[str | Path] = [*as_user, programs / "initdb", "--pgdata", data / "cluster", "--pwfile", password]
        make += [
            "--username",
            POSTGRES_USER,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=data)
        settings = {**_POSTGRES_SETTINGS, "port": str(server.port)}
        serve: list[str | Path] = [*as_user, programs / "postgres", "-D", data / "cluster"]
        serve += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with on_core(WORKER_CORE):
            process = subprocess.Popen(serve, stderr=subprocess.DEVNULL, cwd=data)
        with _ending(process):
            yield server


@contextmanager
def _ending(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a free loopback port."""
    with socket.create_server((HOST, 0)) as found:
        port: int = found.getsockname()[1]
        return port
