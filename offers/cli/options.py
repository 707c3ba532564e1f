"""Options of a command in groups, so that a command of many options takes few arguments."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

from typer.models import OptionInfo


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give typer one option for each field of the NamedTuples that a command takes.

    Each parameter of the command is a group of options, and a panel of its help: `where: WhereOptions` is the panel
    "Where". The fields of a group are declared as typer's parameters are: Annotated, with defaults. No two groups share
    a name.
    """
    groups = {name: kind for name, kind in get_type_hints(command).items() if name != "return"}
    options = []
    for name, kind in groups.items():
        for field, annotation in get_type_hints(kind, include_extras=True).items():
            for declared in get_args(annotation):
                if isinstance(declared, OptionInfo):
                    declared.rich_help_panel = name.strip("_").capitalize()
            default = kind._field_defaults[field]
            options.append(
                inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            )

    @functools.wraps(command)
    def run(**values: Any) -> None:  # noqa: ANN401 - of any option
        command(**{name: kind(**{field: values[field] for field in kind._fields}) for name, kind in groups.items()})

    run.__annotations__ = {one.name: one.annotation for one in options}
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return run
