"""Tells a database of this package from other files before anything in it is changed."""

import sqlite3
import stat
from pathlib import Path

from offers.errors import UnusableStoreError

FORMATS = (2, 3, 4)
"""Formats that can be read, of which all but the last are converted when they are opened."""
_TABLES = {"store", "name", "record", "event", "decision"}
WAIT_S = 10.0
"""Seconds for which a writer waits for other writers."""
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def secret_in(path: Path) -> bytes:
    """Return the secret of a database of this package; b"" where there is no file, or an empty one.

    Raises UnusableStoreError for any other file, and sqlite3.Error and OSError where it cannot be read.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return b""
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a device")
        raise UnusableStoreError(f"{path} is {kind}: name a file")
    # By SQLite: the end of a read by other means would release the locks of this process.
    connection = connect(path)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not (version or application or tables):
            return b""
        if application or not tables >= _TABLES:
            raise UnusableStoreError(f"{path} is the database of another program: name another file")
        if version not in FORMATS:
            raise UnusableStoreError(
                f"{path} has format {version}, and this version reads up to {FORMATS[-1]}: start the version that"
                " wrote it, or name another file"
            )
        (secret,) = connection.execute("SELECT secret FROM store").fetchone()
        return bytes(secret)
    finally:
        connection.close()


def connect(path: Path, wait_s: float = WAIT_S, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """Connect to a file in autocommit mode, and never create one."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=wait_s,
        isolation_level=None,
        check_same_thread=check_same_thread,
    )
