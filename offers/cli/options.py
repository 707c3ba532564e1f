"""Options of a command in groups, so that a command of many options takes few arguments."""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_type_hints

from typer.models import OptionInfo


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give typer one option for each field of the NamedTuples that a command takes.

    A parameter that is a NamedTuple is a group of options, and a panel of its help: `where: Where` is the panel
    "Where". Fields of a group are declared as typer's parameters are: Annotated, with defaults unless they are
    required. Other parameters stay as they are. No two groups share a name.
    """
    groups: dict[str, Any] = {}
    options = []
    for name, declared in inspect.signature(command, eval_str=True).parameters.items():
        if not hasattr(declared.annotation, "_field_defaults"):
            options.append(declared)
            continue
        kind = groups[name] = declared.annotation
        for field, annotation in get_type_hints(kind, include_extras=True).items():
            default = kind._field_defaults.get(field, inspect.Parameter.empty)
            annotation_ = _on_panel(annotation, name.strip("_").capitalize())
            options.append(
                inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation_)
            )

    @functools.wraps(command)
    def run(**values: Any) -> None:  # noqa: ANN401 - of any option
        records = {name: kind(**{field: values.pop(field) for field in kind._fields}) for name, kind in groups.items()}
        command(**values, **records)

    run.__annotations__ = {one.name: one.annotation for one in options}
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return run


def _on_panel(annotation: Any, panel: str) -> Any:  # noqa: ANN401 - a type
    """Return a field's type with its option on a panel. Options are copied: other commands may declare the same."""
    kind, *extras = get_args(annotation)
    placed = [copy.copy(one) for one in extras]
    for one in placed:
        if isinstance(one, OptionInfo):
            one.rich_help_panel = panel
    return Annotated[(kind, *placed)]  # type: ignore[return-value, unused-ignore]
