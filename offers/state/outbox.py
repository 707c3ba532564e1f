"""The outbox: messages to persons, appended to a file or a Redis stream for another program to send."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from offers.errors import SettingsError, StoreUnavailableError, UnusableStoreError
from offers.settings import Settings

FILE = "outbox.jsonl"
"""Name of the default file in the data folder."""
_PLACES = "give file:///path, or redis://:password@host:port/db/stream"


class Outbox(Protocol):
    """Appends lines of JSON; reading and removing them is up to the sender."""

    def append(self, lines: Sequence[bytes]) -> None:
        """Append lines, as durably as the target allows.

        Raises StoreUnavailableError; some lines may have been appended nevertheless.
        """
        ...

    def check(self) -> None:
        """Raise UnusableStoreError if no line can be appended there, and StoreUnavailableError if nothing answers."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


def open_outbox(settings: Settings) -> Outbox:
    """Open the outbox that the settings name, without I/O before the first line. Raises SettingsError."""
    url = settings.outbox_url
    if not url:
        return FileOutbox(settings.data_dir / FILE)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise SettingsError(f"outbox_url: this is no address: {_PLACES}") from None
    if parts.scheme == "file" and parts.path.strip("/") and not parts.netloc:
        return FileOutbox(Path(unquote(parts.path)))
    if parts.scheme in {"redis", "rediss"}:
        database, _, stream = parts.path.strip("/").rpartition("/")
        if stream and (database or "0").isdecimal():
            return _redis(parts._replace(path=f"/{database or '0'}").geturl(), stream, settings.store_timeout_ms / 1000)
    raise SettingsError(f"outbox_url: '{parts.scheme}://' with this path names no outbox: {_PLACES}")


class FileOutbox:
    """An Outbox in a file. It is opened for each batch, so that the reader may move it away at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, lines: Sequence[bytes]) -> None:
        """See Outbox."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
            try:
                end = os.fstat(file).st_size
                torn = end > 0 and os.pread(file, 1, end - 1) != b"\n"  # a writer crashed, or the disk was full
                left = b"\n" * torn + b"".join(line + b"\n" for line in lines)
                while left:
                    left = left[os.write(file, left) :]
                os.fsync(file)
            finally:
                os.close(file)
            if not end:
                self._keep_name()
        except OSError as error:
            raise StoreUnavailableError(f"outbox {self.path}: {error.strerror}") from error

    def check(self) -> None:
        """See Outbox. Nothing is created."""
        fault = ""
        try:
            if self.path.exists():
                if not self.path.is_file():
                    fault = "is no file"
                elif not os.access(self.path, os.R_OK | os.W_OK):
                    fault = "cannot be written"
            else:
                folder = next(one for one in self.path.absolute().parents if one.exists())
                if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
                    fault = f"cannot be created in {folder}"
        except OSError as error:
            fault = str(error.strerror)
        if fault:
            raise UnusableStoreError(f"outbox {self.path} {fault}: correct outbox_url, or the rights there")

    def close(self) -> None:
        """See Outbox."""

    def _keep_name(self) -> None:
        """Flush the folder, so that a new file survives a crash."""
        folder = os.open(self.path.parent, os.O_RDONLY)
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
