"""Backends of stores: files, a real Redis and a real PostgreSQL, emptied for each test."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from benchmarks.peers import servers
from benchmarks.peers.ranking import MissingError
from offers.settings import Settings
from tests.needs import lacking
from tests.paths import ROOT, environment

STATE, EVENTS = ("sqlite", "redis"), ("sqlite", "postgres")
_PASSWORD = "not secret"  # noqa: S105 - of a server for one test


class RedisProcess:
    """A Redis server on one port, which can be killed, restarted and paused. It writes its file (RDB) on demand."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            lacking("apt-get install redis-server")
        self.folder = folder
        self.port = servers.free_port()
        self.url = f"redis://:{_PASSWORD.replace(' ', '%20')}@{servers.HOST}:{self.port}/0"
        self._program = program
        self.start()

    def start(self) -> None:
        """Start the server with the data of its file, and wait until it answers."""
        options = {"port": self.port, "bind": servers.HOST, "save": "", "dir": self.folder, "requirepass": _PASSWORD}
        options["rdbcompression"] = "no"  # so that tests can look for texts in the file
        command = [self._program, *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(RedisError), self.client() as client:
                client.ping()
                return
            time.sleep(0.02)
        raise AssertionError("Redis does not start")

    def client(self) -> Redis:
        """Return a new client."""
        return Redis.from_url(self.url)

    def kill(self) -> None:
        """Kill the server; data that is not in its file is lost."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Stop the server from answering."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the server continue."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def redis(folder: Path) -> Iterator[RedisProcess]:
    """Yield a Redis server, and stop it afterwards."""
    server = RedisProcess(folder)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def postgres() -> Iterator[str]:
    """Yield the URL of a PostgreSQL server."""
    try:
        with servers.postgres() as server:
            url = f"postgresql://{servers.POSTGRES_USER}:{server.password}@{servers.HOST}:{server.port}/postgres"
            deadline = time.monotonic() + servers.START_S
            while True:
                try:
                    psycopg.connect(url).close()
                    break
                except psycopg.OperationalError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            yield url
    except MissingError as error:
        lacking(str(error))


def empty_postgres(url: str) -> None:
    """Remove the tables of the stores."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS offers_event, offers_decision")


def actor(role: str, settings: Settings, *arguments: object) -> "subprocess.Popen[bytes]":
    """Start a process that uses the stores; see actors.py."""
    command = [sys.executable, "-P", "-m", "tests.state.contract.actors", role, settings.model_dump_json()]
    return subprocess.Popen([*command, *map(str, arguments)], cwd=ROOT, env=environment())


def raw(folder: Path) -> bytes:
    """Return all bytes of all files in a folder.

    A subprocess reads them, as closing a file would release this process's locks on it.
    """
    files = sorted(one for one in folder.iterdir() if one.is_file())
    return subprocess.run(["/bin/cat", *files], check=True, capture_output=True).stdout
