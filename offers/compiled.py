"""Where compiled loops are kept between runs: importing this makes it so."""

import hashlib
import os
import tempfile
from pathlib import Path

import numba

SOURCES = ("decision/*.py", "catalogue/areas.py", "catalogue/behaviour.py", "catalogue/geometry.py",
           "catalogue/schedules.py", "catalogue/shapes.py", "catalogue/snapshot.py", "learning/*.py", "model/*.py",
           "server/answer.py", "server/limits.py", "server/scan.py", "server/scan_session.py", "server/wire.py",
           "state/basket.py", "v1/*_pb2.py")  # fmt: skip
"""What compiled loops are made of. Their cache is named by these files' content: numba itself would only notice a
change of the file a loop stands in, and run a stale loop when a constant elsewhere changes."""


def _cache_directory() -> Path:
    package = Path(__file__).parent
    content = b"".join(file.read_bytes() for source in SOURCES for file in sorted(package.glob(source)))
    name = f"kernels-{hashlib.sha256(content).hexdigest()[:16]}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offers"
    try:
        home.mkdir(parents=True, exist_ok=True)
        writable = os.access(home, os.W_OK)
    except OSError:
        writable = False
    if writable:
        return home / name
    shared = Path(tempfile.gettempdir()) / f"offers-{os.getuid()}"
    shared.mkdir(mode=0o700, exist_ok=True)
    status = shared.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:  # what is read from there is run
        shared = Path(tempfile.mkdtemp(prefix="offers-"))
    return shared / name


if not numba.config.CACHE_DIR:
    numba.config.CACHE_DIR = str(_cache_directory())
