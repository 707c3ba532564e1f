"""Compiled loops: how they are compiled, kept between runs (cache.py), and compiled on several cores (shares.py).

numba compiles every function that a loop calls into that loop, and again for each combination of argument types, so a
helper deep in a decision would be compiled dozens of times. Here the annotations of a loop fix its types, and a loop is
of one of two kinds:

    apart   Compiled once and called by its symbol, from Python too. A call costs some nanoseconds and is never inlined.
            For stages, and for long loops with several callers.
    inner   Compiled into each loop that calls it, and inlined where LLVM finds that profitable. For everything else.
"""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar, cast, get_args

from llvmlite import binding, ir  # type: ignore[import-untyped, unused-ignore]
from numba import njit, typeof, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, ConcreteTemplate, infer_global
from numba.extending import lower_builtin

from offers.compiled import cache  # noqa: F401 - says where loops are kept

Loop = TypeVar("Loop", bound=Callable[..., Any])
_TYPES = {int: types.int64, float: types.float64, bool: types.boolean, bytes: typeof(b""), None: types.none}
_UNUSED_ADDRESS = 1
LOOPS: "list[_Apart]" = []
"""Every loop apart of the modules that were imported so far."""


def apart(loop: Loop) -> Loop:
    """Compile a loop apart; its arguments and result are int, float, bool, bytes, None, or tuples of these.

    Tuples may be named ones.

    A loop with `cache=True` may call such a loop directly or through `inner` loops, but not through another loop with
    `cache=True`, because numba forgets what that one calls. Raises KeyError for other annotations.
    """
    made = _Apart(loop)
    LOOPS.append(made)
    return cast("Loop", made)


def inner(loop: Loop) -> Loop:
    """Compile a loop into its callers. Arguments that are not int, float or bool keep the types they are given.

    A call from Python needs a wrapper that takes as long to compile as the loop, so the first such call compiles it.
    """
    return cast("Loop", _Inner(loop, forced=False))


def inlined(loop: Loop) -> Loop:
    """Compile a loop into its callers as `inner` does, and always inline it."""
    return cast("Loop", _Inner(loop, forced=True))


class _Apart:
    """A loop that is compiled once and called by its symbol."""

    only_declares = False
    """Whether callees are declared but not compiled. A process that sets this fills the cache and never runs a loop."""

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
        return self._entry(*arguments)

    def __reduce__(self) -> str:
        """Pickle the loop by name: the cache keeps its `prepare` beside the loops that call it."""
        return self.__name__

    @property
    def weight(self) -> int:
        """An estimate of the time to compile: the bytecode of the loop and of all that is compiled into it."""
        return sum(len(one.__code__.co_code) for one in _with_callees(self._loop.py_func, {}).values())

    def is_kept(self) -> bool:
        """Return whether the cache has the loop."""
        return bool(self._loop._cache.is_kept(self._signature, self._loop.targetctx.codegen()))  # noqa: SLF001

    def keep(self) -> None:
        """Compile the loop into the cache, without the loops apart that it calls."""
        self._loop.compile(self._signature)

    def prepare(self) -> None:
        """Compile the loop and all it calls, or read them from the cache."""
        if self._is_ready:
            return
        self._loop.compile(self._signature)
        self._loop.disable_compile()
        made = self._loop.overloads[self._signature.args]
        # Addresses differ from process to process: what is cached has the symbol.
        binding.add_symbol(self._symbol, made.library.get_pointer_to_function(made.fndesc.llvm_func_name))
        self._entry = made.entry_point  # numba's dispatcher takes microseconds to find the type of a NamedTuple
        self._is_ready = True

    def _write_call(self, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401 - numba's
        if _Apart.only_declares:
            binding.add_symbol(self._symbol, _UNUSED_ADDRESS)
        else:
            self.prepare()
        context.active_code_library._reload_init.add(self.prepare)  # noqa: SLF001 - runs before the caller is loaded
        kind = context.call_conv.get_function_type(signature.return_type, signature.args)
        function = cgutils.get_or_insert_function(builder.module, kind, self._symbol)
        return _written(context, builder, signature, function, arguments)


class _Inner:
    """A loop that is compiled into its callers."""

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
    """Write an instruction that prefetches a cache line into the loop that is being compiled."""
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, number(0), number(3), number(1)])  # to read, keep near, data


def _written(context: Any, builder: Any, signature: Any, function: Any, arguments: Any) -> Any:  # noqa: ANN401 - numba's
    """Write a call into a loop and return its result; errors of the callee are raised by the caller."""
    convention = context.call_conv
    status, result = convention.call_function(builder, function, signature.return_type, signature.args, arguments)
    with cgutils.if_unlikely(builder, status.is_error):
        convention.return_status_propagate(builder, status)
    return result


def _annotations(annotated: Callable[..., Any]) -> list[Any]:
    return list(inspect.get_annotations(annotated, eval_str=True).values())


def _type_of(annotation: Any) -> Any:  # noqa: ANN401 - numba's type
    if parts := get_args(annotation):
        return types.Tuple([_type_of(part) for part in parts])
    if hasattr(annotation, "_fields"):  # a NamedTuple
        return types.BaseTuple.from_types([_type_of(one) for one in _annotations(annotation)], annotation)
    return _TYPES[annotation]


def _with_callees(function: Any, found: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - a function
    """Return a function and those compiled into it, by name."""
    found[f"{function.__module__}.{function.__qualname__}"] = function
    for name in function.__code__.co_names:
        called = function.__globals__.get(name)
        called = called._own if isinstance(called, _Inner) else getattr(called, "py_func", None)  # noqa: SLF001
        if called is not None and f"{called.__module__}.{called.__qualname__}" not in found:
            _with_callees(called, found)
    return found
