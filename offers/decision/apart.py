"""Loops compiled apart: each once, whoever calls it.

A loop of numba's holds all that it calls, and so does each loop that calls it, and each that calls that one: what stands
deep in a decision would be compiled six times. What is `apart` is a symbol to those who call it. Such a call cannot be
inlined, and costs some nanoseconds: stages are worth it, helpers are not.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast, get_args

from llvmlite import binding
from numba import njit, typeof, types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import lower_builtin

Loop = TypeVar("Loop", bound=Callable[..., Any])


def apart(loop: Loop) -> Loop:
    """Compile a loop apart, with the one signature that its annotations say: int, float, bool, bytes, None or tuples of
    these. Numbers that are passed to it become of these types.

    Raises KeyError for other annotations. Loops that call it must be apart themselves, or be called from Python alone:
    what is read from numba's cache brings with it what it calls itself, but not what is called by what it holds.
    """  # noqa: D205
    return cast("Loop", _Apart(loop))


class _Apart:
    """From Python a compiled function, from other loops a symbol."""

    def __init__(self, loop: Callable[..., Any]) -> None:
        self.__name__, self.__module__, self.__doc__ = loop.__name__, loop.__module__, loop.__doc__
        *asked, result = (_type_of(one) for one in inspect.get_annotations(loop, eval_str=True).values())
        self._signature = result(*asked)
        self._symbol = f"{loop.__module__}.{loop.__name__}"
        self._loop = njit(cache=True, error_model="numpy")(loop)
        self._is_ready = False
        template = type(self._symbol, (ConcreteTemplate,), {"key": self, "cases": [self._signature]})
        infer_global(self, types.Function(template))
        lower_builtin(self, *asked)(self._write_call)

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 - as annotated
        if not self._is_ready:
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
        binding.add_symbol(self._symbol, made.library.get_pointer_to_function(made.fndesc.llvm_func_name))
        self._is_ready = True

    def _write_call(self, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401 - numba's
        """Write a call of it into another loop."""
        self.prepare()
        context.active_code_library._reload_init.add(self.prepare)  # noqa: SLF001 - numba's own loops do
        kind = context.call_conv.get_function_type(signature.return_type, signature.args)
        status, result = context.call_conv.call_function(
            builder,
            cgutils.get_or_insert_function(builder.module, kind, self._symbol),
            signature.return_type,
            signature.args,
            arguments,
        )
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return result


_TYPES = {int: types.int64, float: types.float64, bool: types.boolean, bytes: typeof(b""), None: types.none}


def _type_of(annotation: Any) -> Any:  # noqa: ANN401 - numba's type
    parts = get_args(annotation)
    return types.Tuple([_type_of(part) for part in parts]) if parts else _TYPES[annotation]
