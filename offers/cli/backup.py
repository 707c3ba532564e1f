"""`offers backup`: copy what a server knows, while it serves, into a folder that a server can be started with."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from offers.cli.events import DataDir, EventsUrl
from offers.errors import ConflictError, OffersError, StoreUnavailableError

if TYPE_CHECKING:
    from offers.settings import Settings

CONTENTS = "backup.json"
"""File that says what is in a backup; its presence says that a folder is one."""
_TRIES = 5
_TOOLS = {
    "state_url": "persons and budgets are in Redis: copy them with `redis-cli --rdb FILE`",
    "events_url": "events and decisions are in PostgreSQL: copy them first, with `pg_dump`",
}
EVENTS_FILE = "events.db"
"""Name of the log in a backup, where it is in another SQLite file than the state."""


def backup(
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Folder to make.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier backup of this name.")] = False,
    data_dir: DataDir = None,
    state_url: Annotated[
        str | None, typer.Option(help="Where the server keeps persons. \\[default: state.db of the data folder]")
    ] = None,
    events_url: EventsUrl = None,
) -> None:
    """Copy persons, budgets, events, decisions, models and the outbox, while the server goes on.

    The copy has all that was acknowledged before the command began. It
    appears under its name once it is complete and on the disk. To restore it,
    copy it to a new place and start: `offers serve --data-dir COPY`.
    Redis and PostgreSQL have tools of their own, which the command names.
    """
    from offers.settings import read_settings
    from offers.state.sqlite.backup import flush

    settings = read_settings(data_dir=data_dir, state_url=state_url, events_url=events_url)
    dest = dest.absolute()
    _check(dest, settings.data_dir, force=force)
    try:
        with _draft(dest) as draft:
            contents = _copy(settings, draft)
            (draft / CONTENTS).write_bytes(orjson.dumps(contents, option=orjson.OPT_INDENT_2))
            for path in (draft, *draft.rglob("*")):
                flush(path)
            _check(dest, settings.data_dir, force=force)
            if dest.exists():
                dest.rename(draft.with_name(f"{draft.name}-old"))
            draft.rename(dest)
            flush(dest.parent)
            shutil.rmtree(draft.with_name(f"{draft.name}-old"), ignore_errors=True)
    except OSError as error:
        raise OffersError(f"cannot write {dest}: {error}") from error
    typer.echo(f"{dest}: {', '.join(contents['files'])}")
    if EVENTS_FILE in contents["files"]:
        typer.echo(f"start a copy of it with --events-url COPY/{EVENTS_FILE}", err=True)
    for setting, tool in _TOOLS.items():
        if setting in contents["elsewhere"]:
            typer.echo(f"not in it: {tool}", err=True)


def _check(dest: Path, data_dir: Path, *, force: bool) -> None:
    """Refuse a place where something is that must not be replaced."""
    if not (dest.exists() or dest.is_symlink()):
        return
    if not force:
        raise ConflictError(f"{dest} exists: name another folder, or replace it with --force")
    if not (dest / CONTENTS).is_file() or dest.is_symlink() or dest.resolve() == data_dir.resolve():
        raise ConflictError(f"{dest} is not a backup, and is not replaced: name another folder")


@contextmanager
def _draft(dest: Path) -> Iterator[Path]:
    """Make a folder beside the place, readable by its owner alone, that is gone afterwards unless it was renamed."""
    draft = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", dir=dest.parent))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _copy(settings: "Settings", draft: Path) -> dict[str, list[str]]:
    """Copy all there is into a draft, and return what is in it.

    Models are copied first, for they must not have learned more than the log holds. Then the log, because events whose
    effect is not in it as confirmed have their effect again, which changes nothing; then the state, and the messages
    that it says were sent.
    """
    from offers.learning.learner import FOLDER
    from offers.state.opening import FILE as DATABASE
    from offers.state.opening import sqlite_files
    from offers.state.outbox import FILE, FileOutbox, open_outbox
    from offers.state.sqlite.backup import back_up

    databases = sqlite_files(settings)
    for path in databases.values():
        if not path.is_file():
            raise OffersError(f"there is no {path}: name the server's --data-dir, --state-url or --events-url")
    if (settings.data_dir / FOLDER).is_dir():
        _copy_models(settings.data_dir / FOLDER, draft / FOLDER)
    log, state = databases.get("events_url"), databases.get("state_url")
    if log and log != state:
        back_up(log, draft / (EVENTS_FILE if state else DATABASE))
    if state:
        back_up(state, draft / DATABASE)
    outbox = open_outbox(settings)
    if isinstance(outbox, FileOutbox) and outbox.path.is_file():
        shutil.copyfile(outbox.path, draft / FILE)
    outbox.close()
    files = sorted(path.name for path in draft.iterdir())
    return {"offers": [version("offers")], "files": files, "elsewhere": sorted(_TOOLS.keys() - databases.keys())}


def _copy_models(source: Path, target: Path) -> None:
    """Copy the learner's folder. It removes old directories at any time, and changes none."""
    for _ in range(_TRIES):
        try:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("lock", ".*"))
        except (shutil.Error, FileNotFoundError):
            shutil.rmtree(target, ignore_errors=True)
        else:
            return
    raise StoreUnavailableError(f"{source} changes all the time: try again")
