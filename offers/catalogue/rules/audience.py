"""Rules for segments, audiences and experiments, each taken by itself."""

from offers.catalogue.costs import check_cost
from offers.catalogue.document.nodes import Path
from offers.catalogue.expressions import MAX_CHARACTERS, ConstantError, ExpressionError, compiled, tree
from offers.catalogue.rules.faults import Fault, Faults
from offers.catalogue.rules.values import check_id, check_length, check_new_id, check_share, check_text, check_window
from offers.v1.audience_pb2 import Audience, Segment
from offers.v1.behaviour_pb2 import Intent
from offers.v1.experiment_pb2 import Experiment

MAX_WEIGHT = 1_000


def check_segment(segment: Segment, faults: Faults) -> None:
    """Check a segment, except for its use of sensitive attributes, which depends on the catalogue."""
    check_id(segment.segment_id, ("segment_id",), faults)
    check_length(segment.title, 200, ("title",), faults)
    check_expression(segment, "write who belongs to it, such as session.entry_channel == 'push'", faults)


def check_expression(named: Segment | Intent, fix: str, faults: Faults) -> None:
    """Check an expression and its permission; `fix` is for an expression that is missing."""
    expression = named.expression
    if not expression.strip():
        faults.append(Fault(("expression",), "is blank" if expression else "missing", fix))
    elif len(expression) > MAX_CHARACTERS:
        reason = f"has {len(expression):,} characters"
        faults.append(Fault(("expression",), reason, f"write at most {MAX_CHARACTERS:,}, or several segments"))
    else:
        try:
            check_cost(tree(compiled(expression)))
        except ConstantError as error:
            reason, _, fix = str(error).rpartition(": ")
            faults.append(Fault(("expression",), reason, fix))
        except ExpressionError as error:
            fix = "write it in CEL over user, session, context, profile and now (github.com/google/cel-spec)"
            faults.append(Fault(("expression",), str(error), fix))
    if named.HasField("sensitive_use"):
        use = named.sensitive_use
        if not use.attributes:
            faults.append(Fault(("sensitive_use", "attributes"), "missing", "write which attributes it may use"))
        check_text(use.reason, 500, ("sensitive_use", "reason"), faults)
        check_text(use.approved_by, 128, ("sensitive_use", "approved_by"), faults)


def check_audience(audience: Audience, path: Path, faults: Faults) -> None:
    """Check an audience, except for the ids it names."""
    never = set(audience.none_segment_ids)
    for name, ids in (("any_segment_ids", audience.any_segment_ids), ("all_segment_ids", audience.all_segment_ids)):
        for index, identity in enumerate(ids):
            if identity in never:
                reason = f"'{identity}' is also in none_segment_ids"
                faults.append(Fault((*path, name, index), reason, "leave it out of one of the two"))


def check_experiment(experiment: Experiment, faults: Faults) -> None:
    """Check an experiment, except for the ids it names and the shares of its layer."""
    check_id(experiment.experiment_id, ("experiment_id",), faults)
    check_length(experiment.title, 200, ("title",), faults)
    if experiment.HasField("window"):
        check_window(experiment.window, ("window",), faults)
    check_length(experiment.layer, 128, ("layer",), faults)
    if experiment.HasField("share"):
        check_share(experiment.share, ("share",), faults)
    if not 2 <= len(experiment.variants) <= 20:
        reason = f"has {len(experiment.variants)}" if experiment.variants else "missing"
        faults.append(Fault(("variants",), reason, "write 2 to 20 variants"))
    known: set[str] = set()
    for index, variant in enumerate(experiment.variants):
        check_new_id(variant.variant_id, known, ("variants", index, "variant_id"), faults)
        if variant.HasField("weight") and not 0 < variant.weight <= MAX_WEIGHT:
            reason = f"{variant.weight:.12g} is not over 0 and at most 1,000"
            faults.append(Fault(("variants", index, "weight"), reason, "write a weight such as 1"))
