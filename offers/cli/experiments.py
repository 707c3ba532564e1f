"""`offers experiments`: compare the variants of experiments, and those held out with all others."""

from collections.abc import Collection, Iterable
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
    from offers.catalogue.check import Checked
    from offers.whatif.experiments import Compared, ExperimentReport
    from offers.whatif.statistics import Estimate

app = typer.Typer(name="experiments", no_args_is_help=True, help="Tell what variants and holdouts brought.")
DAY_S = 86_400


@app.callback()
def experiments() -> None:
    """Tell what variants and holdouts brought."""


@app.command()
def report(
    catalog: DocumentPath,
    *,
    experiment: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this experiment, and no holdouts; may be repeated.")
    ] = None,
    segment: Annotated[
        str, typer.Option(metavar="ID", help="Only decisions about persons who were in this segment then.")
    ] = "",
    days: Annotated[
        int, typer.Option(min=1, max=365, help="Days after a person's first exposure in which outcomes count.")
    ] = 7,
    data_dir: DataDir = None,
    state_url: Annotated[
        str | None, typer.Option(help="Where the server keeps persons. \\[default: state.db of the data folder]")
    ] = None,
    events_url: EventsUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each as a line of JSON.")] = False,
) -> None:
    """Compare the variants of experiments, and those held out with all others.

    For each variant: the share of its persons who clicked, redeemed and
    ordered within some days of their first exposure, what they spent, and the
    difference to the first variant, each with its 95 % interval. A holdout
    has two variants: who is held out, and who may be shown the offers of the
    campaign, or any offers. Warns where persons are not split as the weights
    say. The catalogue's decisions and events are read from the log of a
    server.
    """
    import orjson

    from offers.catalogue.check import check
    from offers.settings import read_settings
    from offers.state.opening import FILE, open_stores
    from offers.whatif.experiments import reports
    from offers.whatif.logged_outcomes import pages
    from offers.whatif.logged_segments import LoggedSegment
    from offers.whatif.statistics import Estimate

    checked = check(catalog)
    compared = _compared(catalog, checked, experiment or ())
    if segment:
        if segment not in checked.segments:
            raise typer.BadParameter(_none_such("--segment", segment, catalog, "segments", checked.segments))
        compared = compared._replace(is_in=LoggedSegment(checked.segments[segment]))
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
            compared,
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


def _compared(catalog: Path, checked: "Checked", names: Collection[str]) -> "Compared":
    """Return the experiments with the given names; without names, all of them and all holdouts."""
    from offers.whatif.experiments import Compared, holdouts_of

    for name in names:
        if name not in checked.experiments:
            raise typer.BadParameter(_none_such("--experiment", name, catalog, "experiments", checked.experiments))
    chosen = [one for name, one in checked.experiments.items() if not names or name in names]
    holdouts = [] if names else holdouts_of(checked.catalog, checked.campaigns.values())
    if not (chosen or holdouts):
        raise typer.Exit(fail(f"{catalog} has no experiments and no holdouts"))
    return Compared(checked.catalog.catalog_id, chosen, holdouts)


def _none_such(option: str, name: str, catalog: Path, kind: str, known: Iterable[str]) -> str:
    return f"{option} '{name}': of {kind} {catalog} has {', '.join(known) or 'none'}"


def _show(one: "ExperimentReport", days: int) -> None:
    """Print an experiment or a holdout as tables, with notes below."""
    from rich.table import Table
    from rich.text import Text

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
            more = _estimate(variant.order_value_uplift[currency], 1, "+,.2f", f" {currency}")
            outcomes.add_row(Text(f"spent {currency}"), Text(variant.variant), "", mean, more)
    console = stdout()
    console.print(Text(_title(one)))
    console.print(counts)
    console.print(outcomes)
    for line in _notes(one, days):
        console.print(Text(line), soft_wrap=True)


def _title(one: "ExperimentReport") -> str:
    if one.kind == "experiment":
        return f"experiment {one.experiment}"
    return f"holdout of the campaign {one.experiment}" if one.experiment else "holdout of the catalogue"


def _notes(one: "ExperimentReport", days: int) -> list[str]:
    """Return what has to be said below the tables of an experiment or a holdout."""
    from offers.whatif.experiments import MISMATCH_P

    said = [
        f"Outcomes are those within {days} days of a person's first exposure, or until now where that is sooner.",
        "Persons who crossed were exposed to another variant as well.",
    ]
    if one.unknown:
        said.append(f"Left out: {one.unknown:,} decisions of variants that the catalogue does not have.")
    if one.unsaid:
        said.append(f"Left out: {one.unsaid:,} decisions about persons who did not agree to learning.")
    if one.mismatch_p is None:
        said.append("Too few persons to tell whether they are shared out as the weights say.")
    elif one.mismatch:
        said.append(
            f"WARNING: sample ratio mismatch: the weights share persons out like this with a probability of"
            f" {one.mismatch_p:.2g}, below {MISMATCH_P:g}. Do not compare the variants before you know why."
        )
    else:
        said.append(f"Persons are shared out as the weights say (p = {one.mismatch_p:.2g}).")
    return said


def _estimate(one: "Estimate | None", times: int, form: str, unit: str = "") -> str:
    if one is None:
        return "-"
    value, low, high = (format(times * part, form) for part in one)
    return f"{value}{unit} ({low} to {high})"
