"""`make fuzz`: mutated calls against a server of two workers; exits with status 1 if one of them does harm."""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from offers.demo import catalogue
from tests.faults.fuzz.campaign import Campaign, Outcome, tell
from tests.server.running import started

MOST_GROWTH = 256 << 20
"""Bytes by which the memory of all workers may grow once they are warm: caches fill, and allocators keep some."""


def main() -> int:
    """Run a campaign as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=0, help="number of cases; 0: as many as fit into the seconds")
    parser.add_argument("--seconds", type=float, default=0, help="seconds; 0: as many as the cases take")
    parser.add_argument("--seed", type=int, default=0, help="repeats a run; 0: a new one")
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to repeat one with --cases 1")
    asked = parser.parse_args()
    seed = asked.seed or random.SystemRandom().randrange(1, 1 << 31)
    seconds = asked.seconds or (float("inf") if asked.cases else 60.0)
    print(f"Seed {seed}: make fuzz SEED={seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="offers-fuzz-") as folder:
        outcome = fuzz(Path(folder), seed, asked.cases or sys.maxsize, seconds, asked.first)
    tell(outcome, lambda line: print(line, flush=True))  # noqa: T201
    return 1 if outcome.faults else 0


def fuzz(folder: Path, seed: int, cases: int, seconds: float, first: int = 0) -> Outcome:
    """Run a campaign against a server of its own."""
    with started(folder, catalogs=(catalogue(),), workers=2) as server:
        outcome = Campaign(server, seed, first).run(cases, seconds)
        if server.stop():
            outcome.faults.append("the server did not stop in order")
    if outcome.memory[-1] - outcome.memory[0] > MOST_GROWTH:
        outcome.faults.append("memory of the workers has grown too much")
    return outcome


if __name__ == "__main__":
    sys.exit(main())
