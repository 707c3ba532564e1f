"""`offers learn`: learn models of what people take up from the log of a server."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offers.cli.evaluate import require_log
from offers.cli.events import DataDir, EventsUrl
from offers.errors import ConflictError, OffersError

if TYPE_CHECKING:
    from offers.learning.learner import Learner
    from offers.learning.propensity.tree_training import TreeReport
    from offers.learning.values import CatalogueFacts
    from offers.state.stores import EventLog


class LearnerKind(StrEnum):
    """Kinds of models."""

    online = "online"
    gbdt = "gbdt"


def learn(
    *,
    catalog: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Document that is served; may be repeated. \\[default: as `offers serve`]"),
    ] = None,
    data_dir: DataDir = None,
    events_url: EventsUrl = None,
    once: Annotated[bool, typer.Option("--once", help="Learn the log as it is now, and end.")] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Forget what was learned, and learn the whole log again.")
    ] = False,
    model: Annotated[
        LearnerKind, typer.Option(metavar="KIND", help="online, or gbdt: grow gradient-boosted trees, once.")
    ] = LearnerKind.online,
) -> None:
    """Learn from what people do, until SIGTERM or Ctrl-C.

    Reads the log of a server from where it stopped, and publishes models to
    the folder `learning` of the data folder, at most one a second and never
    one that is worse than the one before. What was learned survives a
    crash. `offers serve` does this itself, unless told not to. Use `--anew`
    after persons were erased: the new models know only what is still in the
    log.

    `--model gbdt` grows trees from all examples of the log, and ends. It may
    run beside a server that learns: the trees are published with its
    models, and stay until they are grown again. Needs LightGBM.
    """
    import gc

    from offers import memory
    from offers.demo import catalogue
    from offers.learning.following import follow
    from offers.learning.learner import FOLDER, Learner
    from offers.learning.propensity.trees import library
    from offers.server.offer_values import CatalogueReader, Documents
    from offers.settings import read_settings
    from offers.state.opening import open_stores
    from offers.telemetry import logs

    settings = read_settings(catalogs=catalog, data_dir=data_dir, events_url=events_url)
    require_log(settings)
    if model == LearnerKind.gbdt:
        library()
    logs.configure(settings.log_level)
    reader = CatalogueReader(Documents(settings.catalogs or (catalogue(),), settings.data_dir))
    offers, folder = reader.read(), settings.data_dir / FOLDER
    stop = _stopped_by_signals()
    memory.return_large_blocks()
    gc.disable()  # searching takes a quarter of the time; checkpoints do it
    with closing(open_stores(settings)) as stores:
        try:
            learner = Learner(stores.events, folder, offers, anew=anew, stop=stop)
        except ConflictError:
            if anew or model != LearnerKind.gbdt:
                raise
            _grow_beside(stores.events, folder, offers, stop)
            return
        with closing(learner):
            if once or model == LearnerKind.gbdt:
                _catch_up(learner, stop)
            else:
                follow(learner, stop, look=reader.look)
            if model == LearnerKind.gbdt:
                _tell_grown(learner.grow(stop))
                learner.publish()
            _tell(learner)


def _stopped_by_signals() -> Callable[[], bool]:
    """Catch SIGTERM and Ctrl-C from now on. Returns a function that tells whether one came."""
    import signal

    stopped: list[int] = []
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, _: stopped.append(number))
    return lambda: bool(stopped)


def _grow_beside(events: "EventLog", folder: Path, offers: "CatalogueFacts", stop: Callable[[], bool]) -> None:
    """Grow trees for a learner that is running."""
    from offers.learning.learner import current_model
    from offers.learning.propensity.features import Features
    from offers.learning.propensity.tree_training import grow
    from offers.learning.settling import Lookups

    current = current_model(folder)
    if current is None:
        raise OffersError("the learner at work has published no model yet: try again when it has")
    features = Features.of_json(current.meta["features"])
    _tell_grown(grow(events, Lookups(offers, events.decisions), features, folder, stop))
    typer.echo("the learner at work publishes with its next model what was grown")


def _catch_up(learner: "Learner", stop: Callable[[], bool]) -> None:
    """Learn the whole log, and show the progress."""
    from offers.cli.output import stderr

    console = stderr()
    with console.status("") as status:

        def show(records: int) -> None:
            position = learner.training.position
            place = f"event {position.event:,}, decision {position.decision:,}"
            status.update(f"{records:,} events and decisions learned, up to {place}")

        learner.catch_up(stop, show)


def _tell_grown(growths: "Iterable[TreeReport]") -> None:
    """Print the results of growing trees."""
    for one in growths:
        line = f"trees of {one.reward}: {one.examples:,} examples"
        if one.figures["judged"]:
            line += f"; {_figures(one.figures)}"
        if one.beside["judged"]:
            line += f"; beside it {_figures(one.beside)}"
        typer.echo(line)
        if one.refused:
            typer.echo(f"not promoted: the trees of {one.reward}: {one.refused}")


def _figures(told: Mapping[str, float]) -> str:
    return (
        f"of the last {told['judged']:,} offers that were judged, log loss {told['log_loss']:.4f},"
        f" calibration error {told['calibration_error']:.4f}"
    )


def _tell(learner: "Learner") -> None:
    """Print the results of learning."""
    from offers.learning.learner import current_model

    figures, position = learner.figures(), learner.training.position
    typer.echo(f"learned up to event {position.event:,} and decision {position.decision:,} of the log")
    typer.echo(", ".join(f"{figures[name]:,} {text}" for name, text in _COUNTS.items()))
    for name in learner.training.taught:
        one = figures[name]
        line = f"{name}: {one['examples']:,} examples, {one['rewards']:,} of them rewards"
        typer.echo(f"{line}; {_figures(one)}" if one["judged"] else line)
    for why in learner.refused:
        typer.echo(f"not promoted: {why}")
    model = current_model(learner.folder)
    typer.echo(
        f"current model: {model.version}, {model.size / 1e6:.1f} MB" if model else "no model yet: nothing to learn"
    )


_COUNTS = {
    "decisions": "decisions may be learned from",
    "late": "rewards came late",
    "early": "decisions settled early",
    "lost": "outcomes of decisions that never came",
    "unreadable": "entries that cannot be read",
}
