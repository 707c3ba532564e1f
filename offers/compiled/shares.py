"""Compiles loops into the cache on several cores, one process per core.

A process compiles a loop without those it calls: the linker gets a made-up address for them, and the cache keeps the
symbol. Any process can therefore compile any loop, in any order. None of these processes ever runs a loop.
"""

import fcntl
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from offers.compiled import LOOPS, _Apart
from offers.compiled.cache import FOLDERS


@contextmanager
def compiling(processes: int) -> Iterator[int]:
    """Compile all loops apart that the cache lacks while the body runs.

    Yields how many loops other processes compile; 0 on one core, or if at most one loop is missing. A second caller
    waits at the lock, and then finds the loops in the cache.
    """
    FOLDERS[0].mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with suppress(OSError):  # no locks on this file system: two servers may compile the same, which does no harm
            lock = stack.enter_context((FOLDERS[0] / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = sorted((loop for loop in LOOPS if not loop.is_kept()), key=lambda loop: -loop.weight)
        children = _start(wanted, min(processes, len(wanted)))
        try:
            yield len(wanted) if children else 0
            for child in children:
                child.join()  # one that failed leaves its loop to this process, which then says why
        finally:
            for child in children:
                child.kill()


def _start(wanted: Sequence[_Apart], processes: int) -> list[BaseProcess]:
    """Start processes that take one loop after the other until none is left."""
    if processes < 2:
        return []
    context: BaseContext = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    taken = context.Value("i", 0)
    arguments = wanted, taken, os.getpid()
    children = [context.Process(target=_compile, args=arguments) for _ in range(processes)]  # type: ignore[attr-defined]
    for child in children:
        child.start()
    return children


def _compile(wanted: Sequence[_Apart], taken: "Synchronized[int]", parent: int) -> None:
    """Compile loops until all are taken, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the parent's reader waits until all writers have closed it
    _Apart.only_declares = True
    with suppress(AttributeError, ImportError):  # another numba: it takes longer
        shorten()
    while os.getppid() == parent:
        with taken.get_lock():
            number, taken.value = taken.value, taken.value + 1
        if number >= len(wanted):
            return
        wanted[number].keep()


def shorten() -> None:
    """Leave out work of numba that only matters to processes that run the loops: a fifth of the time.

    - Full optimisation and machine code of functions that are only compiled into others, which are optimised whole.
    - The comparison of 30 compiler flags one by one.
    """
    from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
    from numba.core.compiler import Flags

    optimize, finalize, address_of, set_env = (
        JITCodeLibrary._optimize_final_module,  # noqa: SLF001
        JITCodeLibrary._finalize_final_module,  # noqa: SLF001
        JITCodeLibrary.get_pointer_to_function,
        JITCPUCodegen.set_env,
    )
    roots = {loop.__name__ for loop in LOOPS}

    def optimize_roots(library: Any) -> None:  # noqa: ANN401 - numba's
        if library.name in roots:
            optimize(library)
            return
        manager, builder = library._codegen._module_pass_manager(slp_vectorize=False, opt=0, cost="cheap")  # noqa: SLF001
        manager.run(library._final_module, builder)  # noqa: SLF001

    def put_off(library: Any) -> None:  # noqa: ANN401 - numba's
        library._finalize_dynamic_globals()  # noqa: SLF001
        library._finalized = library.is_put_off = True  # noqa: SLF001

    def address(library: Any, name: str) -> int:  # noqa: ANN401 - numba's
        library._ensure_finalized()  # noqa: SLF001
        if getattr(library, "is_put_off", False):
            if not any(one.name == name for one in library.get_defined_functions()):
                return 0
            library.is_put_off = False
            finalize(library)
        return int(address_of(library, name))

    def set_known(codegen: Any, name: str, env: Any) -> None:  # noqa: ANN401 - numba's
        if codegen._engine.is_symbol_defined(name):  # noqa: SLF001
            set_env(codegen, name, env)

    def are_equal(flags: Any, other: Any) -> bool:  # noqa: ANN401 - numba's
        return flags is other or (
            isinstance(other, Flags) and (flags._values == other._values or flags.values() == other.values())  # noqa: SLF001
        )

    constant = hash(Flags())  # numba hashes no more than the names of the flags
    JITCodeLibrary._optimize_final_module = optimize_roots  # noqa: SLF001
    JITCodeLibrary._finalize_final_module = put_off  # noqa: SLF001
    JITCodeLibrary.get_pointer_to_function = address
    JITCPUCodegen.set_env = set_known
    Flags.__eq__ = are_equal
    Flags.__hash__ = lambda _flags: constant
