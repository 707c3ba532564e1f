"""The folders that keep compiled loops between runs, and the choice of those that this process may use.

A folder holds the loops of one state of the sources, the Python version and the compiler's versions; its name is a hash
of these. numba would name a loop's cache by the absolute path and check only the file that the loop stands in: a cache
made on another machine would not be found, and a stale loop would run after a change of a constant elsewhere.
"""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import llvmlite  # type: ignore[import-untyped, unused-ignore]
import numba
from llvmlite import binding
from numba.core import dispatcher
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator

SOURCES = (
    "catalogue/snapshot.py", "catalogue/geo/areas.py", "catalogue/compile/behaviour.py",
    "catalogue/geo/geometry.py", "catalogue/geo/shapes.py", "catalogue/compile/traits.py",
    "catalogue/hours/schedules.py", "catalogue/rules/behaviour.py", "catalogue/rules/models.py", "compiled/*.py",
    "decision/*.py", "decision/kernels/**/*.py", "decision/segments/*.py",
    "learning/model.py", "learning/values.py", "learning/propensity/features.py",
    "learning/propensity/regression.py", "learning/propensity/trees.py", "learning/recommend/*.py",
    "model/hashing.py", "model/keys.py", "model/proposition_ids.py", "model/query.py", "model/visits.py",
    "server/limits.py", "server/fast/*.py", "state/circuit.py", "state/person/basket.py", "v1/*_pb2.py",
)  # fmt: skip
"""Every file that a compiled loop depends on: its own, and those it takes constants or other loops from."""
PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = PACKAGE / "loops"
"""Loops that came with the package, compiled for the baseline; absent in a checkout."""


class Baseline(NamedTuple):
    """The CPUs that portable loops run on."""

    name: str
    """LLVM's name of the oldest of them."""
    features: tuple[str, ...]
    """LLVM's names of the features that all of them have."""


BASELINES = {
    "x86_64": Baseline(
        "x86-64-v3",
        ("avx", "avx2", "bmi", "bmi2", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sse4.2", "ssse3", "xsave"),
    )
}
"""The baseline of an architecture. Others have none: their loops are always compiled for the machine's own CPU."""


def baseline() -> Baseline | None:
    """Return the baseline of this machine's architecture; None where none is stated."""
    return BASELINES.get(binding.get_process_triple().partition("-")[0])


@cache
def has_baseline() -> bool:
    """Return whether this CPU runs loops that were compiled for the baseline."""
    asked, has = baseline(), binding.get_host_cpu_features()
    return asked is not None and all(has.get(feature) for feature in asked.features)


@cache
def version() -> str:
    """Return the name of the loops that these sources, this Python and this compiler make."""
    content = hashlib.sha256()
    for source in SOURCES:
        for file in sorted(PACKAGE.glob(source)):
            content.update(file.read_bytes())
    content.update(f"{sys.implementation.cache_tag} {numba.__version__} {llvmlite.__version__}".encode())
    return f"kernels-{content.hexdigest()[:16]}"


def _own_root() -> Path:
    """Return the user's cache folder, or one in the folder for temporary files where that cannot be written.

    Where neither can, it is the former: each process then compiles for itself.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offers"
    try:
        home.mkdir(parents=True, exist_ok=True)
        writable = os.access(home, os.W_OK)
    except OSError:
        writable = False
    if writable:
        return home
    try:
        shared = Path(tempfile.gettempdir()) / f"offers-{os.getuid()}"
        shared.mkdir(mode=0o700, exist_ok=True)
        status = shared.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:  # loops are code: another user must not write here
            shared = Path(tempfile.mkdtemp(prefix="offers-"))
    except OSError:  # it is full, or there is none
        return home
    return shared


_CHOSEN = numba.config.CACHE_DIR
FOLDERS = (
    (Path(_CHOSEN) / version(),) if _CHOSEN else (_own_root() / version(), SHIPPED / version())
)  # fmt: skip
"""Folders in which loops are looked for. New ones are written to the first. NUMBA_CACHE_DIR allows only its own."""
if not _CHOSEN:
    numba.config.CACHE_DIR = str(FOLDERS[0])  # for loops outside the package


class _Locator(_CacheLocator):  # type: ignore[misc, unused-ignore]
    """Places the cache of a loop of this package: by the module's name, whatever folder the package stands in."""

    def __init__(self, function: Any, file: str) -> None:  # noqa: ANN401 - a function
        self._py_file, self._function = file, function  # numba reads the first

    def get_cache_path(self) -> str:
        """Return the folder that the loop is written to."""
        return str(FOLDERS[0] / self.module)

    @property
    def module(self) -> str:
        """The name of the loop's module."""
        return str(self._function.__module__)

    def get_source_stamp(self) -> str:
        """Return nothing: the folder is already named by the sources."""
        return ""

    def get_disambiguator(self) -> str:
        """Return what tells loops of one name in a file apart."""
        return str(self._function.__code__.co_firstlineno)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Self:  # noqa: ANN401 - a function
        """See numba."""
        return cls(py_func, py_file)


class _Placed(CompileResultCacheImpl):  # type: ignore[misc, unused-ignore]
    _locator_classes = (_Locator,)


class LoopCache(FunctionCache):  # type: ignore[misc, unused-ignore]
    """The cache of one loop of this package: read from several folders, for this CPU or the baseline."""

    _impl_class = _Placed
    read = written = 0
    """Loops that this process read from a cache, and loops that it compiled."""

    def is_kept(self, signature: Any, codegen: Any) -> bool:  # noqa: ANN401 - numba's
        """Return whether the loop need not be compiled for a signature."""
        return any(key in file._load_index() for file, key in self._places(signature, codegen))  # noqa: SLF001

    def _load_overload(self, sig: Any, target_context: Any) -> Any:  # noqa: ANN401 - numba's
        for file, key in self._places(sig, target_context.codegen()) if self._enabled else ():
            if (kept := file.load(key)) is not None:
                LoopCache.read += 1
                return self._impl.rebuild(target_context, kept)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:  # noqa: ANN401 - numba's
        """Keep a loop in the first folder. One that cannot be written there serves this process alone."""
        LoopCache.written += 1
        with suppress(OSError):
            super().save_overload(sig, data)

    def _places(self, signature: Any, codegen: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - numba's
        """Yield the index files that may have the loop, with the key it has there: the machine's own CPU first."""
        asked, own, code = self._index_key(signature, codegen)
        targets = [own]
        if has_baseline() and numba.config.CPU_NAME is None:
            targets.append((own[0], BASELINES[own[0].partition("-")[0]].name, ""))
        for folder in FOLDERS:
            path = str(folder / self._impl.locator.module)
            file = IndexDataCacheFile(path, self._impl.filename_base, self._impl.locator.get_source_stamp())
            for target in targets:
                yield file, (asked, target, code)


def _cache_of(function: Any) -> FunctionCache:  # noqa: ANN401 - a function
    """Return the cache of a loop; those of other packages keep numba's."""
    return (LoopCache if function.__module__.startswith("offers.") else FunctionCache)(function)


# numba lets a program choose the folder of a cache, but not what is found in it.
dispatcher.FunctionCache = _cache_of  # type: ignore[attr-defined, unused-ignore]
