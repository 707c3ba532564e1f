"""The outbox: where what is to be sent to people stands for whoever sends it, in a file or a Redis stream."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from offers.errors import SettingsError, StoreUnavailableError
from offers.settings import Settings

FILE = "outbox.jsonl"
"""Name of the file in the data folder, where no other place is set."""
_PLACES = "give file:///path, or redis://:password@host:port/db/stream"


class Outbox(Protocol):
    """Takes lines of JSON. Nobody reads or removes them here."""

    def append(self, lines: Sequence[bytes]) -> None:
        """Keep lines, durably as far as the place is. Raises StoreUnavailableError; some may be there nevertheless."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def open_outbox(settings: Settings) -> Outbox:
    """Open the outbox that the settings name; nothing is made or asked before the first line. Raises SettingsError."""
    url = settings.outbox_url
    if not url:
        return FileOutbox(settings.data_dir / FILE)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SettingsError(f"outbox_url: {error}: {_PLACES}") from None
    if parts.scheme == "file" and parts.path.strip("/") and not parts.netloc:
        return FileOutbox(Path(unquote(parts.path)))
    if parts.scheme in {"redis", "rediss"}:
        database, _, stream = parts.path.strip("/").rpartition("/")
        if stream and (database or "0").isdecimal():
            return _redis(parts._replace(path=f"/{database or '0'}").geturl(), stream, settings.store_timeout_ms / 1000)
    raise SettingsError(f"outbox_url: '{parts.scheme}://' with this path names no outbox: {_PLACES}")


class FileOutbox:
    """An outbox in a file, which its readers may move away: it is opened anew for each batch."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, lines: Sequence[bytes]) -> None:
        """See Outbox."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
            try:
                end = os.fstat(file).st_size
                torn = end > 0 and os.pread(file, 1, end - 1) != b"\n"  # a writer died, or the disk was full
                left = b"\n" * torn + b"".join(line + b"\n" for line in lines)
                while left:
                    left = left[os.write(file, left) :]
                os.fsync(file)
            finally:
                os.close(file)
            if not end:
                self._keep_name()
        except OSError as error:
            raise StoreUnavailableError(f"outbox {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """See Outbox."""

    def _keep_name(self) -> None:
        """Make sure that a new file is found after a crash."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _redis(url: str, stream: str, timeout_s: float) -> Outbox:
    try:
        from offers.state.redis.outbox import RedisOutbox
    except ImportError as error:
        raise SettingsError(f"outbox_url: {error}: pip install 'offers[redis]'") from error
    return RedisOutbox(url, stream, timeout_s)
