"""`python -m benchmarks.quality [--data PATH] [NAME...]` replays data sets and prints the results."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.load import ROOT
from benchmarks.quality import bandit, checkins, coupon, orders, promotion
from benchmarks.quality.result import ALL, SWITCHES, Added, Found
from offers.telemetry import logs

DATA = ROOT.parent / "shared" / "data"
REPLAYS: Mapping[str, Callable[[Path], Found]] = {
    one.NAME: one.run for one in (coupon, checkins, orders, bandit, promotion)
}
_WIDTH = 160
"""Width of the tables where the output is no terminal."""


def main(arguments: list[str]) -> int:
    """Replay the named data sets, or all available ones. Returns 1 where a figure falls short of its target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(REPLAYS)}; none: all")
    parser.add_argument("--data", type=Path, default=DATA, metavar="PATH", help="folder of the data sets")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - set(REPLAYS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(REPLAYS)}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    logs.configure("error")
    return show(console, {name: asked.data / name for name in asked.names or REPLAYS}, asked.data)


def show(console: Console, folders: Mapping[str, Path], data: Path) -> int:
    """Replay the available data sets, and print the results."""
    figures = Table(title="On real data, through GetOffers and ReportEvents")
    for name in ("data", "measure", "found", "wanted", "", "beside", "s"):
        figures.add_column(name, justify="right" if name == "s" else "left")
    added, short = [], 0
    for name, folder in folders.items():
        if not folder.is_dir():
            console.print(f"{name}: skipped, as there is no {folder}; name its parent by --data", style="yellow")
            continue
        begin = time.monotonic()
        with console.status(f"Replaying {name}"):
            found = REPLAYS[name](data)
        seconds = time.monotonic() - begin
        for note in found.notes:
            console.print(note, style="dim")
        for number, one in enumerate(found.figures):
            short += not one.reached
            figures.add_row(
                one.data, one.measure, one.found, one.wanted, "yes" if one.reached else "NO", one.beside,
                f"{seconds:.0f}" if number == 0 else "",
            )  # fmt: skip
        figures.add_section()
        added += found.added
    if figures.row_count:
        console.print(figures)
    if added:
        console.print(_table_of(added))
    return 1 if short else 0


def _table_of(added: list[Added]) -> Table:
    """Return a table of what each switch adds: the measure with everything, minus that without it."""
    table = Table(title="What each adds: the measure with everything, less that of the same strategy without it")
    for name in ("data", "measure", "everything", *SWITCHES):
        table.add_column(name, justify="left" if name in {"data", "measure"} else "right")
    for one in added:
        everything = one.by_placement[ALL]
        table.add_row(
            one.data,
            one.measure,
            f"{everything:.4f}",
            *(
                f"{less:+.4f}" if (less := everything - one.by_placement[f"no-{switch}"]) else "0"
                for switch in SWITCHES
            ),
        )
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
