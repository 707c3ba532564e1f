"""`offers learn`: models of what people take up, out of the log of a server."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offers.cli.events import DataDir, EventsUrl
from offers.errors import CatalogError, OffersError

if TYPE_CHECKING:
    from offers.learning.learner import Learner
    from offers.learning.values import Offers

FOLDER = "learning"
"""Of the data folder."""


def learn(
    *,
    catalog: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Document that is served; may be repeated. \\[default: as `offers serve`]"),
    ] = None,
    data_dir: DataDir = None,
    events_url: EventsUrl = None,
    once: Annotated[bool, typer.Option("--once", help="Learn what there is now, and end.")] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Forget what was learned, and learn all that the log still has.")
    ] = False,
) -> None:
    """Learn from what people do, until SIGTERM or Ctrl-C.

    Reads the log that a server keeps, from where it was left, and publishes
    models to the folder `learning` of the data folder, at most every second
    and never one that is worse than the one before. What was learned
    survives any crash. `--anew` is for when persons were erased: nothing of
    what the log does not have any more is in the new model.
    """
    import gc
    import signal

    from offers.demo import catalogue
    from offers.learning.learner import Learner
    from offers.settings import read_settings
    from offers.state.opening import FILE, open_stores
    from offers.telemetry import logs

    settings = read_settings(catalogs=catalog, data_dir=data_dir, events_url=events_url)
    if not settings.events_url and not (settings.data_dir / FILE).is_file():
        raise OffersError(f"no {FILE} in {settings.data_dir}: name the server's --data-dir or --events-url")
    logs.configure(settings.log_level)
    offers = _offers(settings.catalogs or (catalogue(),))
    stopped: list[int] = []
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, _: stopped.append(number))
    gc.disable()  # decisions that are held have no cycles, and looking for some costs a quarter of the time
    with (
        closing(open_stores(settings)) as stores,
        closing(Learner(stores.events, settings.data_dir / FOLDER, offers, anew=anew)) as learner,
    ):
        if once:
            _catch_up(learner, stopped)
        else:
            learner.run(lambda: bool(stopped))
        _tell(learner)


def _catch_up(learner: "Learner", stopped: Sequence[int]) -> None:
    """Learn all there is, and show how far one is."""
    from offers.cli.output import stderr

    console = stderr()
    with console.status("") as status:

        def show(records: int) -> None:
            position = learner.course.position
            place = f"event {position.event:,}, decision {position.decision:,}"
            status.update(f"{records:,} events and decisions learned, up to {place}")

        learner.catch_up(lambda: bool(stopped), show)


def _tell(learner: "Learner") -> None:
    """What came of it."""
    from offers.learning.examples import REWARDS
    from offers.learning.learner import current_model

    figures, position = learner.figures(), learner.course.position
    typer.echo(f"learned up to event {position.event:,} and decision {position.decision:,} of the log")
    typer.echo(", ".join(f"{figures[name]:,} {text}" for name, text in _COUNTS.items()))
    for name in REWARDS:
        one = figures[name]
        line = f"{name}: {one['examples']:,} examples, {one['rewards']:,.0f} of them rewards"
        if one["judged"]:
            line += (
                f"; of the last {one['judged']:,} offers that were judged, log loss {one['log_loss']:.4f},"
                f" calibration error {one['calibration_error']:.4f}"
            )
        typer.echo(line)
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
}


def _offers(sources: Sequence[Path]) -> "Offers":
    """What the documents tell of their offers, and the first one's time zone."""
    from offers.catalogue import document
    from offers.errors import Problem
    from offers.learning.values import Offers

    told: dict[tuple[str, str], dict[str, object]] = {}
    zones: list[str] = []
    for source in sources:
        problems: list[Problem] = []
        own: dict[str, dict[str, object]] = {}
        name = ""
        for fragment in document.read(source, problems, unknown=False):
            one = fragment.catalog
            name = name or one.catalog_id
            zones += [one.time_zone] if one.time_zone else []
            for offer in one.offers:
                own[offer.offer_id] = {
                    "category": offer.category, "brand": offer.brand, "campaign": offer.campaign_id,
                }  # fmt: skip
        if problems:
            raise CatalogError(problems)
        told |= {(name, offer_id): values for offer_id, values in own.items()}
    return Offers(("campaign",), lambda catalog, offer: told.get((catalog, offer), {}), (zones or ["UTC"])[0])
