"""The bounds of expressions: what may grow or take long is refused when a catalogue is checked."""

from typing import Any

import pytest
from cel_expr_python import cel
from google.protobuf.struct_pb2 import Struct

from offers.catalogue.costs import ITERATIONS, instructions
from offers.catalogue.expressions import environment
from offers.catalogue.rules.audience import check_segment
from offers.catalogue.rules.faults import Fault
from offers.model.attributes import MAX_ATTRIBUTE_BYTES, MAX_LISTED, attribute_faults
from offers.v1.audience_pb2 import Segment
from offers.v1.profile_pb2 import Profile


def faults_of(expression: str) -> list[Fault]:
    """Return the faults of a segment with an expression."""
    faults: list[Fault] = []
    check_segment(Segment(segment_id="one", expression=expression), faults)
    return faults


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        (f"['a']{'.map(x, x + x)' * 25}.size() > 0", "may make a value of"),
        (f"[[1]]{'.map(x, [x, x])' * 25}.size() > 0", "may make a value of"),
        ("profile.attributes.a.replace('', profile.attributes.a) == ''", "may make a value of"),
        ("profile.attributes.tags.join(profile.attributes.a) == ''", "may make a value of"),
        ("profile.attributes.tags.map(t, profile.attributes.a + t).size() > 0", "may make a value of"),
        (f"['a'].map(x, '{'%s' * 900}'.format([x, x])).size() > 0", "may make a value of"),
        ("profile.attributes.a.matches('([ab]?){500}[ab]{500}c')", "may take"),
        (r"profile.attributes.a.matches('\\p{L}{200}')", "may take"),
        (r"profile.attributes.a.matches('(\\pL{14}){14}')", "may take"),
        (r"profile.attributes.a.matches('\\pL{14}{14}')", "may take"),
        (r"profile.attributes.tags.exists(t, t.matches('\\pL{4}'))", "may take"),
        ("profile.attributes.tags.exists(t, t.matches('.{100}'))", "may take"),
        ("profile.attributes.a.split(',').map(x, x.trim()).join('-') == 'a'", "may take"),
        ("profile.attributes.a.split('').filter(x, x != 'a').size() > 0", "may take"),
        (f"({' + '.join(['profile.attributes.t'] * 4)}).map(x, 1).size() > 0", "may take"),
        ("profile.attributes.t.exists(a, context.attributes.t.map(b, 1) == [a])", "may take"),
        ("now.getHours(context.attributes.zone) > 3", "a zone that is not checked"),
        ("now.getDate(context.time_zone == '' ? profile.attributes.zone : '') > 3", "a zone that is not checked"),
        ("profile.attributes.a.matches(context.attributes.pattern)", "a pattern that is not a constant"),
        ("profile.attributes.t.all(a, context.attributes.t.all(b, a in b.map(c, c)))", "may take"),
        ("[1].map(a, [1].map(b, [1].map(c, [1].map(d, [1].map(e, e))))).size() > 0", "nests loops deeper than 4"),
    ],
)
def test_what_may_grow_or_take_long_is_refused(expression: str, told: str) -> None:
    """The check names the bound that is exceeded and what to do."""
    (fault,) = faults_of(expression)

    assert (("expression",), True) == (fault.path, told in fault.reason)
    assert fault.fix


@pytest.mark.parametrize(
    "expression",
    [
        "profile.attributes.tags.exists(t, t in context.attributes.tags)",
        "profile.attributes.tags.exists(t, context.attributes.tags.exists(u, u == t))",
        "profile.attributes.tags.map(t, t.lowerAscii()).exists(t, t in ['a', 'b'])",
        r"profile.attributes.email.matches('^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\\.[a-zA-Z]{2,63}$')",
        "profile.attributes.a.split(',', 100).map(x, x.trim()).join('-') == 'a'",
        "profile.attributes.a.split(',').exists(x, x == 'a')",
        "profile.attributes.tags.map(t, t.trim()).filter(t, t != '').size() > 2",
        r"profile.attributes.name.matches('^\\p{L}{2,63}$')",
        "session.basket.items.exists(i, i.category in profile.attributes.categories)",
        "session.searches.exists(s, s.query.lowerAscii().contains('ramen'))",
        "profile.affinities.categories.exists(c, profile.affinities.categories[c] > 0.5)",
        f"[1]{'.map(x, x + x)' * 8}.size() > 0",
        "now.getHours(context.time_zone == '' ? 'Europe/Paris' : context.time_zone) > 3",
        "'%s costs %.2f'.format([context.attributes.a, 1.5]) == 'tea costs 1.50'",
    ],
)
def test_usual_expressions_are_within_the_bounds(expression: str) -> None:
    """Loops over lists of attributes, in pairs, and functions of texts."""
    assert [] == faults_of(expression)


def test_an_evaluation_ends_after_so_many_elements() -> None:
    """CEL's own limit, on which the bound of nested loops relies."""
    side = int(ITERATIONS**0.5)
    program = environment().compile("profile.attributes.t.all(a, profile.attributes.t.all(b, a + b >= 0))")
    few, many = Profile(), Profile()
    few.attributes.update({"t": list(range(side - 1))})
    many.attributes.update({"t": list(range(side + 1))})

    assert program.eval(data={"profile": few}).value() is True
    with pytest.raises(RuntimeError, match="Iteration budget exceeded"):
        program.eval(data={"profile": many})


def test_the_size_of_a_value_is_counted_as_it_becomes() -> None:
    """An allowed expression that doubles texts makes no more than the bound says."""
    grown = environment().compile(f"['a']{'.map(x, x + x)' * 10}[0]").eval(data={})

    assert cel.Type.STRING == grown.type()
    assert 2**10 == len(grown.value())
    assert [] == faults_of(f"['a']{'.map(x, x + x)' * 10}[0].size() > 0")


@pytest.mark.parametrize(
    ("pattern", "least", "most"),
    [("abc", 3, 5), ("a{100}", 100, 102), ("((a{3}){3}){3}", 27, 45), (r"[a\]{9}]{9}", 9, 11), (r"\{9}", 3, 5)],
)
def test_repetitions_of_a_pattern_are_counted(pattern: str, least: int, most: int) -> None:
    """Also nested ones; braces in classes and escaped ones are no repetitions."""
    assert least <= instructions(pattern) <= most


@pytest.mark.parametrize(
    ("attributes", "path", "told"),
    [
        ({str(number): 1 for number in range(101)}, "", "101 entries: send at most 100"),
        ({"a": "x" * MAX_ATTRIBUTE_BYTES}, "", "bytes: send at most 16,384"),
        ({"a": {"x" * 129: 1}}, "a", "a name of 129 characters: send 1 to 128"),
        ({"": 1}, "", "a name of 0 characters"),
        ({"a": {"b": [None] * (MAX_LISTED + 1)}}, "a.b", "1,001 values: send at most 1,000"),
        ({"a": {str(number): None for number in range(MAX_LISTED + 1)}}, "a", "1,001 entries: send at most 1,000"),
        ({"a": [[[[[[[[1]]]]]]]]}, "a[0][0][0][0][0][0][0]", "nested deeper than 8 levels"),
        ({"a": [1, float("nan")]}, "a[1]", "not a number: leave it out"),
        ({"a": {"b": float("inf")}}, "a.b", "a number from 2^53 on"),
        ({"a": -(2.0**53)}, "a", "a number from 2^53 on"),
    ],
)
def test_attributes_beyond_a_limit_are_named(attributes: dict[str, Any], path: str, told: str) -> None:
    """Each limit of names, lists, levels, numbers and of the whole."""
    written = Struct()
    written.update(attributes)
    ((where, reason),) = attribute_faults(written)

    assert (path, True) == (where, told in reason)


def test_attributes_at_their_limits_are_allowed() -> None:
    """The values at the limits themselves."""
    written = Struct()
    written.update({"x" * 128: [None] * MAX_LISTED, "b": [[[[[[[1]]]]]]], "c": 2**53 - 1, "d": 0.1, "e": True})

    assert [] == list(attribute_faults(written))
