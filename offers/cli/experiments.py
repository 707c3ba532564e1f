"""`offers experiments`: compare the variants of experiments."""

from collections.abc import Collection, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offers.cli.catalogues import DocumentPath
from offers.cli.events import DataDir, EventsUrl
from offers.cli.output import fail, stdout
from offers.errors import OffersError

if TYPE_CHECKING:
    from offers.v1.experiment_pb2 import Experiment
    from offers.whatif.experiments import ExperimentReport
    from offers.whatif.statistics import Estimate

app = typer.Typer(name="experiments", no_args_is_help=True, help="Tell what the variants of experiments brought.")
DAY_S = 86_400


@app.callback()
def experiments() -> None:
    """Tell what the variants of experiments brought."""


@app.command()
def report(
    catalog: DocumentPath,
    *,
    experiment: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this experiment; may be repeated.")
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, max=365, help="Days after a person's first exposure in which outcomes count.")
    ] = 7,
    data_dir: DataDir = None,
    state_url: Annotated[
        str | None, typer.Option(help="Where the server keeps persons. \\[default: state.db of the data folder]")
    ] = None,
    events_url: EventsUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each experiment as a line of JSON.")] = False,
) -> None:
    """Compare what people did who were exposed to the variants of experiments.

    For each variant: the share of its persons who clicked, redeemed and
    ordered within some days of their first exposure, and the difference to
    the first variant, each with its 95 % interval. Warns where persons are
    not split as the weights say. The catalogue's decisions and events are
    read from the log of a server.
    """
    import orjson

    from offers.catalogue.check import check
    from offers.settings import read_settings
    from offers.state.opening import FILE, open_stores
    from offers.whatif.experiments import reports
    from offers.whatif.logged_outcomes import pages
    from offers.whatif.statistics import Estimate

    checked = check(catalog)
    chosen = _chosen(catalog, checked.experiments, experiment or ())
    settings = read_settings(data_dir=data_dir, state_url=state_url, events_url=events_url)
    if not (settings.state_url and settings.events_url) and not (settings.data_dir / FILE).is_file():
        raise OffersError(
            f"no {FILE} in {settings.data_dir}: name the server's --data-dir, or its --state-url and --events-url"
        )
    with closing(open_stores(settings)) as stores:

        @cache
        def user_of(visitor: str) -> str:
            return stores.state.ids(visitor)[0]

        found = reports(
            checked.catalog.catalog_id,
            chosen,
            (one for _, one in pages(stores.events.decisions_after)),
            (one for _, one in pages(stores.events.read)),
            window_s=days * DAY_S,
            same=lambda person: user_of(person) if person.startswith("a:") else person,
        )
    for one in found:
        if as_json:
            typer.echo(orjson.dumps(one, default=Estimate._asdict))
        else:
            _show(one, days)


def _chosen(catalog: Path, known: "Mapping[str, Experiment]", names: Collection[str]) -> "list[Experiment]":
    """Return the experiments with the given names, or all without names."""
    for name in names:
        if name not in known:
            message = f"--experiment '{name}': of experiments {catalog} has {', '.join(known) or 'none'}"
            raise typer.BadParameter(message)
    chosen = [one for name, one in known.items() if not names or name in names]
    if not chosen:
        raise typer.Exit(fail(f"{catalog} has no experiments"))
    return chosen


def _show(one: "ExperimentReport", days: int) -> None:
    """Print an experiment as tables, with notes below."""
    from rich.table import Table
    from rich.text import Text

    from offers.whatif.experiments import MISMATCH_P

    base = one.variants[0]
    counts = Table("variant", "weight", "persons", "crossed", "decisions", "of nobody")
    for variant in one.variants:
        numbers = (variant.persons, variant.crossed, variant.decisions, variant.nameless)
        counts.add_row(Text(variant.variant), f"{variant.weight:g}", *(f"{number:,}" for number in numbers))
    outcomes = Table("outcome", "variant", "persons", "per person, 95 % interval", "points over the first")
    for name in base.rates:
        for variant in one.variants:
            rate = variant.rates[name]
            told = (f"{rate.persons:,}", _estimate(rate.share, 100, ".1f", " %"), _estimate(rate.uplift, 100, "+.1f"))
            outcomes.add_row(name, Text(variant.variant), *told, end_section=variant is one.variants[-1])
    for currency in base.order_value:
        for variant in one.variants:
            mean = _estimate(variant.order_value[currency], 1, ",.2f")
            outcomes.add_row(Text(f"spent {currency}"), Text(variant.variant), "", mean, "")
    console = stdout()
    console.print(Text(f"experiment {one.experiment}"))
    console.print(counts)
    console.print(outcomes)
    said = [
        f"Outcomes are those within {days} days of a person's first exposure, or until now where that is sooner.",
        "Persons who crossed were exposed to another variant as well.",
    ]
    if one.unknown:
        said.append(f"Left out: {one.unknown:,} decisions of variants that the catalogue does not have.")
    if one.mismatch_p is None:
        said.append("Too few persons to tell whether they are shared out as the weights say.")
    elif one.mismatch:
        said.append(
            f"WARNING: sample ratio mismatch: the weights share persons out like this with a probability of"
            f" {one.mismatch_p:.2g}, below {MISMATCH_P:g}. Do not compare the variants before you know why."
        )
    else:
        said.append(f"Persons are shared out as the weights say (p = {one.mismatch_p:.2g}).")
    for line in said:
        console.print(Text(line), soft_wrap=True)


def _estimate(one: "Estimate | None", times: int, form: str, unit: str = "") -> str:
    if one is None:
        return "-"
    value, low, high = (format(times * part, form) for part in one)
    return f"{value}{unit} ({low} to {high})"
