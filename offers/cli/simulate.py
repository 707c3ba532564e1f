"""`offers simulate`: tell what another catalogue or strategy would show in a server's logged decisions."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offers.cli.evaluate import (
    CatalogOption,
    JsonOption,
    LogOptions,
    amount,
    at_most,
    decided_by,
    instant,
    left_out,
    logged,
    print_result,
    unit_of,
)
from offers.cli.options import grouped
from offers.cli.output import stderr, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from offers.whatif.simulation import BudgetUse, SegmentChange, Simulation

ROWS = 30
"""Rows of a table, to fit on a screen. --json has all."""


@grouped
def simulate(
    *,
    catalog: CatalogOption,
    strategy: Annotated[
        str,
        typer.Option(metavar="ID", help="A ranking strategy of it, in place of all others. \\[default: as they are]"),
    ] = "",
    before: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Document to compare it with, decided in the same way. \\[default: the log]"),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ATTRIBUTE",
            help="Attribute by which to tell who gains and loses: context.NAME, profile.NAME, hour, "
            "weekday, channel, placement, entry_channel or place; may be repeated.",
        ),
    ] = None,
    log: LogOptions,
    as_json: JsonOption = False,
) -> None:
    """Tell what would change with another catalogue or strategy.

    Decides the logged decisions again, and tells which offers are shown more
    or less often, their expected rewards and use of budgets, and which
    segments gain and lose. Expected rewards come from a model that has
    learned from the log. Decisions of persons who have not agreed to
    learning are excluded.
    """
    from offers.whatif.logged_outcomes import DecisionFilter
    from offers.whatif.simulation import simulate as simulated

    begin = instant(log.since)
    with ExitStack() as stack:
        events, model = stack.enter_context(logged(log))
        after = stack.enter_context(decided_by(catalog, strategy, model))
        base = stack.enter_context(decided_by(before, "", model)) if before else None
        stack.enter_context(stderr().status("deciding logged decisions again"))
        wanted = DecisionFilter(after.checked.catalog.catalog_id, log.placement, begin, empty=True)
        told = simulated(events, wanted, after, base, log.reward, tuple(dict.fromkeys(by or ())))
    print_result(told, _show, as_json=as_json)


def _show(told: "Simulation") -> None:
    from rich.table import Table
    from rich.text import Text

    console = stdout()
    table = Table("offer", title="exposure", title_justify="left")
    for heading in ("shown before", "after", "change", "share before", "share after"):
        table.add_column(heading, justify="right")
    old, new = sum(one.before for one in told.offers), sum(one.after for one in told.offers)
    for one in told.offers[:ROWS]:
        numbers = (f"{one.before:,}", f"{one.after:,}", f"{one.after - one.before:+,}")
        table.add_row(Text(one.offer), *numbers, _share(one.before, old), _share(one.after, new))
    console.print(table)
    if told.budgets:
        console.print(_budgets(told.budgets))
    unit = unit_of(told.reward, told.scale)
    for name, rows in told.segments.items():
        console.print(_segments(name, unit, rows))
    same = f"Over {told.decisions:,} decisions, {told.unchanged:,} of them with the same answer as before:"
    rewards = f"{told.reward_before:.4f} before, {told.reward_after:.4f} after"
    change = f"{told.reward_after - told.reward_before:+.4f}"
    said = [f"{same} {unit} expected per decision {rewards} ({change}).", *left_out(told.left_out)]
    if told.scale:
        before, after = (amount(part, told.scale) for part in (told.reward_before, told.reward_after))
        said.append(f"That is {before} before, {after} after. {at_most(told.scale)}")
    if told.unmet:
        names = ", ".join(told.unmet[:ROWS])
        said.append(f"Never shown in the log, so that what is expected of them is little more than a guess: {names}.")
    if len(told.offers) > ROWS:
        said.append(f"{len(told.offers) - ROWS:,} more offers changed no more than these: --json tells all.")
    for line in said:
        console.print(Text(line), soft_wrap=True)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _budgets(rows: "tuple[BudgetUse, ...]") -> "Table":
    """Return a table of the expected use of budgets, over all decisions."""
    from rich.table import Table
    from rich.text import Text

    table = Table("budget", "of", title="budgets, as expected over all decisions", title_justify="left")
    for heading in ("redemptions before", "after", "amount before", "after"):
        table.add_column(heading, justify="right")
    for one in rows[:ROWS]:
        amounts = [
            f"{amount:,.2f} {one.currency}" if one.currency else "" for amount in (one.amount_before, one.amount_after)
        ]
        counts = [f"{count:,.1f}" for count in (one.redemptions_before, one.redemptions_after)]
        table.add_row(Text(one.budget), one.limit, *counts, *amounts)
    return table


def _segments(name: str, unit: str, rows: "tuple[SegmentChange, ...]") -> "Table":
    """Return a table of the segments' exposure and gain."""
    from rich.table import Table
    from rich.text import Text

    title = Text(f"by {name}; who loses most stands first")
    table = Table(title=title, title_justify="left")
    table.add_column(Text(name))
    for heading in (
        "decisions",
        "share",
        "of offers shown, before",
        "after",
        f"{unit} per decision, before",
        "after",
        "gain",
    ):
        table.add_column(heading, justify="right")
    table.add_column("most shown before")
    table.add_column("after")
    for one in rows[:ROWS]:
        shares = [f"{100 * share:.1f} %" for share in (one.decision_share, one.exposure_before, one.exposure_after)]
        rewards = f"{one.reward_before:.4f}", f"{one.reward_after:.4f}", f"{one.reward_after - one.reward_before:+.4f}"
        tops = Text(one.top_offer_before), Text(one.top_offer_after)
        table.add_row(Text(one.segment), f"{one.decisions:,}", *shares, *rewards, *tops)
    return table
