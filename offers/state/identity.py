"""The identities of the stores that a data folder has worked with, so that no other takes their place unnoticed.

Each store holds a random secret. Its hash is the store's identity, and a server records it in its data folder. A store
with another identity is refused, and so is a new one, until an operator says that it is meant.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import orjson

from offers.errors import OtherStoreError, UnusableStoreError

FILE = "stores.json"
"""Name of the file in the data folder. Readable by its owner alone: it keeps the secret of Redis."""
STATE, EVENTS = "state", "events"
ROLES = (STATE, EVENTS)
"""Purposes of stores: persons and budgets, and the log of events and decisions."""


class Known(NamedTuple):
    """A store that was used."""

    place: str
    """Path or address, without a password."""
    identity: str
    secret: str = ""
    """The secret in hexadecimal, where the store may lose it and get it back."""


class Identity:
    """The identity that the store at one place must have, for a data folder and one or both roles.

    Unless it is `kept`, as for tools that only read, every store is accepted and none is recorded.
    """

    def __init__(self, folder: Path, roles: Sequence[str], place: str, *, kept: bool) -> None:
        self._folder, self.roles, self.place, self._kept = folder, tuple(roles), place, kept

    @property
    def has_worked(self) -> bool:
        """Whether the store at this place was used before, in each role."""
        known = self._known()
        return len(known) == len(self.roles) and all(one.place == self.place for one in known.values())

    def secret(self) -> bytes:
        """Return the secret that the store at this place had, as far as it was recorded; else b""."""
        known = read(self._folder)
        found = [known[role].secret for role in self.roles if role in known and known[role].place == self.place]
        return bytes.fromhex(found[0]) if found else b""

    def expect(self, secret: bytes) -> None:
        """Check the secret of the store that was found; b"" for a new one. Raises OtherStoreError."""
        for role, known in self._known().items():
            if not secret or known.identity != identity_of(secret):
                raise OtherStoreError(self._refusal(role, known, is_new=not secret))

    def record(self, secret: bytes, *, with_secret: bool = False) -> None:
        """Check the secret of the store in use, and record its identity. Raises OtherStoreError."""
        wanted = Known(self.place, identity_of(secret), secret.hex() if with_secret else "")
        if not self._kept or self._known() == dict.fromkeys(self.roles, wanted):
            return
        with _locked(self._folder):  # another process may be recording
            self.expect(secret)
            _write(self._folder, {**read(self._folder), **dict.fromkeys(self.roles, wanted)})

    def _known(self) -> dict[str, Known]:
        known = read(self._folder) if self._kept else {}
        return {role: known[role] for role in self.roles if role in known}

    def _refusal(self, role: str, known: Known, *, is_new: bool) -> str:
        if known.place != self.place:
            fault = f"{self.place} is {'new' if is_new else 'another store'}, and {self._folder} has its {role} in"
            fault += f" {known.place}: set {role}_url to that again"
        else:
            fault = f"{self.place} {'is gone or empty' if is_new else 'was exchanged for another store'}:"
            fault += " put back what was there, or a backup of it"
        return (
            f"{fault}. To give it up and go on with an empty or another store:"
            f" offers stores forget {' '.join(self.roles)} --data-dir {self._folder}"
        )


def identity_of(secret: bytes) -> str:
    """Return the identity of the store with a secret. It does not reveal the secret."""
    return blake2b(secret, digest_size=16, person=b"offers store").hexdigest()


def read(folder: Path) -> dict[str, Known]:
    """Return the stores that a data folder has worked with, by role. Raises UnusableStoreError for a damaged record."""
    path = folder / FILE
    try:
        return {role: Known(**known) for role, known in orjson.loads(path.read_bytes()).items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "damaged"
        raise UnusableStoreError(
            f"{path} cannot be read ({reason}): restore it; without it, the next start takes the stores as they are"
        ) from error


def forget(folder: Path, roles: Sequence[str]) -> list[Known]:
    """Let a data folder take the next store in each role, whichever it is; return those that it had."""
    if not folder.is_dir():
        return []
    with _locked(folder):
        known = read(folder)
        _write(folder, {role: one for role, one in known.items() if role not in roles})
    return [known[role] for role in roles if role in known]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing. Raises UnusableStoreError where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnusableStoreError(f"cannot write {folder / FILE}: {error.strerror}") from error


def _write(folder: Path, known: dict[str, Known]) -> None:
    draft = folder / f".{FILE}.draft"
    content = orjson.dumps({role: one._asdict() for role, one in known.items()}, option=orjson.OPT_INDENT_2)
    descriptor = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / FILE)
