"""Check a whole catalogue document and report every fault."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from offers.catalogue import document
from offers.catalogue.definitions import ID_NAMES, Definitions
from offers.catalogue.geo.geojson import MAX_CATALOG_CORNERS
from offers.catalogue.rules.cross import CrossRules
from offers.catalogue.rules.survey import Survey, place_of, problems_of
from offers.errors import CatalogError, Problem


@dataclass(frozen=True, slots=True)
class Checked(Definitions):
    """The definitions of a catalogue without faults, and the number of its offers."""

    offer_count: int
    hours: frozenset[str]
    """The distinct opening hours, those of dayparts and quiet hours included."""


def check(source: Path) -> Checked:
    """Read a file or folder once and check all of it.

    Raises CatalogError with every problem found, in the order of files and lines. A path that cannot be read is such a
    problem, too.
    """
    problems: list[Problem] = []
    survey = Survey(problems)
    for fragment in document.read(source, problems):
        survey.add(fragment)
    rules = CrossRules(survey)
    # Where a part of the document could not be read, a reference into it is no fault.
    complete = all(problem.field not in {"", *ID_NAMES} for problem in problems)
    if complete:
        problems += _faults_as_a_whole(source, survey, rules)
    if any(survey.repeated.values()) or (complete and rules.has_faults()):
        found = list(_locate(source, survey, rules if complete else None))
        if not (found or problems):
            found = [Problem(str(source), None, "", "changed while it was being read", "check it again")]
        problems += found
    if problems:
        raise CatalogError(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
    return Checked(survey.head, **survey.known, offer_count=survey.offer_count, hours=frozenset(_hours(survey)))


def _hours(survey: Survey) -> Iterator[str]:
    yield from (expression for expression, *_ in survey.hours)
    yield from (daypart.opening_hours for daypart in survey.known["dayparts"].values())
    yield from (policy.quiet_hours for policy in survey.known["contact_policies"].values() if policy.quiet_hours)


def _faults_as_a_whole(source: Path, survey: Survey, rules: CrossRules) -> Iterator[Problem]:
    """Yield the faults of a document as a whole: what it lacks, and what it has too much of."""
    faulty = {problem.field for problem in survey.problems}
    if not survey.head.catalog_id and "catalog_id" not in faulty:
        fix = "write the name that requests will use, such as 'catalog_id: paris'"
        yield Problem(str(source), None, "catalog_id", "missing", fix)
    if not survey.offer_count and "offers" not in faulty:
        yield Problem(str(source), None, "offers", "missing", "write at least one offer")
    if survey.corners > MAX_CATALOG_CORNERS:
        reason = f"have about {survey.corners:,} corners together, and may have {MAX_CATALOG_CORNERS:,}"
        yield Problem(str(source), None, "zones", f"the areas {reason}", "simplify them, or use several catalogues")
    default = survey.head.default_ranking_strategy_id
    if default and default not in survey.known["ranking_strategies"]:
        fragment = survey.head_places["default_ranking_strategy_id"][0]
        fault = rules.unknown("ranking_strategies", default, ("default_ranking_strategy_id",))
        yield from problems_of(fragment, (), [fault])


def _locate(source: Path, survey: Survey, rules: CrossRules | None) -> Iterator[Problem]:
    """Read the source again and yield, with their lines, the faults that only the whole document shows.

    Without `rules`, these are only the ids given twice.
    """
    first: dict[tuple[str, str], str] = {}
    for fragment in document.read(source, []):
        for name, twice in survey.repeated.items():
            id_name = ID_NAMES.get(name, "offer_id")
            for index, message in enumerate(getattr(fragment.catalog, name) if twice else ()):
                identity = getattr(message, id_name)
                if identity not in twice:
                    continue
                path = (name, index, id_name)
                if (name, identity) in first:
                    reason = f"'{identity}' is given twice, first at {first[name, identity]}"
                    yield fragment.problem(path, reason, "give each its own id, or remove one")
                else:
                    first[name, identity] = place_of(fragment, path)
        if rules is not None:
            for name, faults_of in (
                ("zones", rules.zone_faults),
                ("venues", rules.venue_faults),
                ("offers", rules.offer_faults),
                ("placements", rules.placement_faults),
                ("ranking_strategies", rules.people.strategy_faults),
                ("segments", rules.people.segment_faults),
                ("intents", rules.people.segment_faults),
                ("campaigns", rules.people.campaign_faults),
                ("contact_policies", rules.people.policy_faults),
                ("experiments", rules.people.experiment_faults),
                ("triggers", rules.people.trigger_faults),
                ("interactions", rules.people.interaction_faults),
            ):
                for index, message in enumerate(getattr(fragment.catalog, name)):
                    yield from problems_of(fragment, (name, index), faults_of(message))


if __name__ == "__main__":  # the check in a process of its own: see compile/compiler.py
    try:
        check(Path(sys.argv[1]))
    except CatalogError:
        sys.exit(1)
