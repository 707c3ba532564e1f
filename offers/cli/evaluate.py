"""`offers evaluate`: estimate what a strategy would have earned in a server's logged decisions."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import typer

from offers.cli.events import DataDir, EventsUrl
from offers.cli.options import grouped
from offers.cli.output import stderr, stdout
from offers.errors import OffersError

if TYPE_CHECKING:
    from offers.learning.model import Model
    from offers.learning.values import Sum
    from offers.settings import Settings
    from offers.state.stores import EventLog
    from offers.whatif.evaluation import StrategyReport
    from offers.whatif.replay import Replay


Result = TypeVar("Result")


class Reward(StrEnum):
    """The reward that counts: one of whatif.logged_outcomes.REWARDS."""

    CLICK = "click"
    REDEMPTION = "redemption"
    ORDER = "order"
    ORDER_VALUE = "order_value"


CatalogOption = Annotated[
    Path, typer.Option(metavar="PATH", help="A .yaml, .json or .binpb file, or a folder of them.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a line of JSON.")]


class LogOptions(NamedTuple):
    """Which logged decisions are read, and the reward that counts."""

    placement: Annotated[
        str | None, typer.Option(metavar="ID", help="Only decisions of this placement. \\[default: all]")
    ] = None
    since: Annotated[
        str,
        typer.Option(metavar="INSTANT", help="Only decisions since 2026-11-01 or '2026-11-24 12:15'. \\[default: all]"),
    ] = ""
    reward: Annotated[
        Reward,
        typer.Option(
            help="The reward of an offer; order_value: the total of an order, as a share of the document's "
            "order_value_scale and at most 1."
        ),
    ] = Reward.CLICK
    data_dir: DataDir = None
    events_url: EventsUrl = None


@grouped
def evaluate(
    *,
    catalog: CatalogOption,
    strategy: Annotated[str, typer.Option(metavar="ID", help="A ranking strategy of that document.")],
    log: LogOptions,
    as_json: JsonOption = False,
) -> None:
    """Estimate what a strategy would have earned in logged decisions.

    Decides the logged decisions again with this strategy in place of all
    others, without exploration. Rewards of the offers shown are weighted by
    the probability that the strategy shows them, divided by the probability
    with which they were shown. An offer counts by itself, whatever its rank
    and the offers beside it. Decisions of persons who have not agreed to
    learning are excluded.
    """
    from offers.whatif.evaluation import report
    from offers.whatif.logged_outcomes import DecisionFilter

    begin = instant(log.since)
    with logged(log) as (events, model), decided_by(catalog, strategy, model) as replay:
        wanted = DecisionFilter(replay.checked.catalog.catalog_id, log.placement, begin)
        with stderr().status("deciding logged decisions again"):
            told = report(events, replay, wanted, strategy, log.reward)
    print_result(told, _show, as_json=as_json)


def print_result(told: Result, show: Callable[[Result], None], *, as_json: bool) -> None:
    """Print a result as tables, or as a line of JSON."""
    import orjson

    if as_json:
        typer.echo(orjson.dumps(told, default=lambda one: one._asdict()))
    else:
        show(told)


def _show(told: "StrategyReport") -> None:
    from rich.table import Table
    from rich.text import Text

    console = stdout()
    found, unit = told.evaluation, f"{unit_of(told.reward, told.scale)} per decision"
    table = Table("by", unit, "95 % interval", title=Text(f"strategy {told.strategy}"), title_justify="left")
    rows = (
        ("earned, as logged", found.earned, ".4f"),
        ("IPW", found.ipw, ".4f"),
        ("SNIPS", found.snips, ".4f"),
        ("DM", found.dm, ".4f"),
        ("DR", found.dr, ".4f"),
        ("DR over what was earned", found.gain, "+.4f"),
    )
    for number, (name, one, form) in enumerate(rows):
        if one is not None:
            value, low, high = (format(part, form) for part in one)
            table.add_row(name, value, f"{low} to {high}", end_section=number in {0, 4})
    console.print(table)
    used = f"Used: {told.decisions:,} decisions. They showed {told.shown:,} offers, {told.explored:,} by exploration."
    size = f"Effective sample size: {found.effective_rows:,.1f} of the offers shown."
    support = f"Without support: {100 * told.unsupported:.1f} % of what the strategy shows."
    said = [f"{used} The strategy shows {told.offers:.2f} in each.", *left_out(told.left_out), f"{size} {support}"]
    if told.scale and found.dr:
        value, low, high = (amount(part, told.scale) for part in found.dr)
        said.append(f"By DR that is {value} per decision ({low} to {high}). {at_most(told.scale)}")
    if told.open:
        said.append(f"Of {told.open:,} of the decisions more may yet come.")
    said.append(
        "An offer counts by itself, whatever its rank. DR is right where either the probabilities or the model are."
    )
    said += [f"WARNING: {warning}" for warning in told.warnings]
    for line in said:
        console.print(Text(line), soft_wrap=True)


def unit_of(reward: str, scale: "Sum | None") -> str:
    """Return the unit of a value, in words."""
    return f"{reward}s" if scale is None else f"order value (1 is {amount(1, scale)})"


def amount(share: float, scale: "Sum") -> str:
    """Return a share of a scale in its currency."""
    return f"{share * scale.units:,.2f} {scale.currency}"


def at_most(scale: "Sum") -> str:
    """Return the limit of an order's value, in words."""
    return f"An order counts as {amount(1, scale)} at most."


def left_out(counts: Mapping[str, int]) -> list[str]:
    """Return a sentence about the decisions that are left out, if there are any."""
    told = ", ".join(f"{count:,} {why}" for why, count in counts.items())
    return [f"Left out: {told}."] if told else []


def instant(text: str) -> float:
    """Read --since as seconds since 1970; 0 where it is not given."""
    from offers.model import rfc3339

    try:
        return rfc3339.wall_time(text).moment().timestamp() if text else 0.0
    except (ValueError, OverflowError):
        message = f"--since '{text}' is no instant: give 2026-11-01, '2026-11-24 12:15' or 2026-11-24T12:15:00+01:00"
        raise typer.BadParameter(message) from None


@contextmanager
def decided_by(catalog: Path, strategy: str, model: "Model | None") -> "Iterator[Replay]":
    """Open a catalogue document for deciding, with one of its strategies in place of all others ("": as they are)."""
    from offers.whatif.replay import UnknownStrategyError, replaying

    try:
        with replaying(catalog, strategy, model) as replay:
            yield replay
    except UnknownStrategyError as error:
        raise typer.BadParameter(f"--strategy {error}") from None


def require_log(settings: "Settings") -> None:
    """Raise OffersError where the settings lead to no log of a server."""
    from offers.state.opening import FILE

    if not settings.events_url and not (settings.data_dir / FILE).is_file():
        raise OffersError(f"no {FILE} in {settings.data_dir}: name the server's --data-dir or --events-url")


@contextmanager
def logged(options: LogOptions) -> "Iterator[tuple[EventLog, Model | None]]":
    """Open the log of a server, and the model it uses."""
    from offers.learning.learner import FOLDER, current_model
    from offers.settings import read_settings
    from offers.state.opening import open_stores

    settings = read_settings(data_dir=options.data_dir, events_url=options.events_url)
    require_log(settings)
    with closing(open_stores(settings)) as stores:
        yield stores.events, current_model(settings.data_dir / FOLDER)
