"""How loops are compiled, and where what is compiled is kept between runs.

numba puts into a loop all that the loop calls, and that into each loop that calls this one, and for each combination of
types again: what stands deep in a decision was compiled dozens of times. Here a loop has the types that its annotations
say, and there are two kinds:

    apart   compiled once, called by its symbol: for stages, and for what is long and called from several places;
            a call costs some nanoseconds, nothing is inlined, and Python may call it too
    inner   compiled into each loop that calls it, and inlined where LLVM finds that good: for all else
"""

import hashlib
import inspect
import os
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import numba
from llvmlite import binding, ir  # type: ignore[import-untyped, unused-ignore]
from numba import njit, typeof, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, ConcreteTemplate, infer_global
from numba.extending import lower_builtin

SOURCES = (
    "catalogue/snapshot.py", "catalogue/compile/areas.py", "catalogue/compile/behaviour.py",
    "catalogue/compile/geometry.py", "catalogue/compile/shapes.py", "catalogue/compile/traits.py",
    "catalogue/hours/schedules.py", "catalogue/rules/behaviour.py", "catalogue/rules/models.py", "compiled.py",
    "decision/*.py", "decision/kernels/**/*.py", "decision/segments/*.py",
    "learning/model.py", "learning/values.py", "learning/propensity/features.py",
    "learning/propensity/regression.py", "learning/propensity/trees.py", "learning/recommend/*.py",
    "model/hashing.py", "model/keys.py", "model/proposition_ids.py", "model/query.py", "model/visits.py",
    "server/limits.py", "server/fast/*.py", "state/person/basket.py", "v1/*_pb2.py",
)  # fmt: skip
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


Loop = TypeVar("Loop", bound=Callable[..., Any])
_TYPES = {int: types.int64, float: types.float64, bool: types.boolean, bytes: typeof(b""), None: types.none}


def apart(loop: Loop) -> Loop:
    """Have a loop compiled apart, with arguments and a result of int, float, bool, bytes, None, or tuples of these.

    A loop with `cache=True` may call one itself and through `inner` ones, but not through another with `cache=True`:
    what that one calls, numba forgets. Raises KeyError for other annotations.
    """
    return cast("Loop", _Apart(loop))


def inner(loop: Loop) -> Loop:
    """Have a loop compiled into those that call it. Arguments that are no int, float or bool keep the types they have.

    What Python would call it by takes as long to compile as the loop: that is made by the first call from Python.
    """
    return cast("Loop", _Inner(loop, forced=False))


def inlined(loop: Loop) -> Loop:
    """As `inner`, and inlined wherever it is called."""
    return cast("Loop", _Inner(loop, forced=True))


class _Apart:
    def __init__(self, loop: Callable[..., Any]) -> None:
        self.__name__, self.__module__, self.__doc__ = loop.__name__, loop.__module__, loop.__doc__
        *asked, result = (_type_of(one) for one in _annotations(loop))
        self._signature = result(*asked)
        self._symbol = f"{loop.__module__}.{loop.__name__}"
        self._loop = njit(cache=True, error_model="numpy", no_cfunc_wrapper=True)(loop)
        self._is_ready = False
        template = type(self._symbol, (ConcreteTemplate,), {"key": self, "cases": [self._signature]})
        infer_global(self, types.Function(template))
        lower_builtin(self, *asked)(self._write_call)

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 - as annotated
        self.prepare()
        return self._loop(*arguments)

    def __reduce__(self) -> str:
        """By its name: loops that call it are kept in numba's cache with its `prepare`."""
        return self.__name__

    def prepare(self) -> None:
        """Have it compiled, or read from numba's cache."""
        if self._is_ready:
            return
        self._loop.compile(self._signature)
        self._loop.disable_compile()
        made = self._loop.overloads[self._signature.args]
        # Addresses differ from process to process: what is cached has the symbol.
        binding.add_symbol(self._symbol, made.library.get_pointer_to_function(made.fndesc.llvm_func_name))
        self._is_ready = True

    def _write_call(self, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401 - numba's
        self.prepare()
        context.active_code_library._reload_init.add(self.prepare)  # noqa: SLF001 - before the caller is read again
        kind = context.call_conv.get_function_type(signature.return_type, signature.args)
        function = cgutils.get_or_insert_function(builder.module, kind, self._symbol)
        return _written(context, builder, signature, function, arguments)


class _Inner:
    def __init__(self, loop: Callable[..., Any], *, forced: bool) -> None:
        self.__name__, self.__module__, self.__doc__ = loop.__name__, loop.__module__, loop.__doc__
        self._own = loop
        self._asked = [_TYPES.get(one) if one is not bytes else None for one in _annotations(loop)[:-1]]
        self._loop = njit(error_model="numpy", forceinline=forced, no_cpython_wrapper=True, no_cfunc_wrapper=True)(loop)
        template = type(self.__name__, (AbstractTemplate,), {"key": self, "generic": self._sign})
        infer_global(self, types.Function(template))
        lower_builtin(self, types.VarArg(types.Any))(self._write_call)

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 - as annotated
        return self._alone(*arguments)

    @cached_property
    def _alone(self) -> Any:  # noqa: ANN401 - numba's
        return njit(error_model="numpy")(self._own)

    def _sign(self, given: Any, _named: Any) -> Any:  # noqa: ANN401 - numba's
        asked = tuple(kind or types.unliteral(one) for kind, one in zip(self._asked, given, strict=True))
        self._loop.compile(asked)
        return self._loop.overloads[asked].signature

    def _write_call(self, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401 - numba's
        made = self._loop.overloads[signature.args]
        context.add_linking_libs([made.library])
        function = context.declare_function(builder.module, made.fndesc)
        return _written(context, builder, signature, function, arguments)


def write_fetch_ahead(builder: Any, pointer: Any) -> None:  # noqa: ANN401 - llvmlite's
    """Write what has a line on its way from memory, while the loop that is being written does other work."""
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, number(0), number(3), number(1)])  # to read, keep near, data


def _written(context: Any, builder: Any, signature: Any, function: Any, arguments: Any) -> Any:  # noqa: ANN401 - numba's
    """The result of a call that is written into a loop, which raises what is raised."""
    convention = context.call_conv
    status, result = convention.call_function(builder, function, signature.return_type, signature.args, arguments)
    with cgutils.if_unlikely(builder, status.is_error):
        convention.return_status_propagate(builder, status)
    return result


def _annotations(loop: Callable[..., Any]) -> list[Any]:
    return list(inspect.get_annotations(loop, eval_str=True).values())


def _type_of(annotation: Any) -> Any:  # noqa: ANN401 - numba's type
    parts = get_args(annotation)
    return types.Tuple([_type_of(part) for part in parts]) if parts else _TYPES[annotation]
