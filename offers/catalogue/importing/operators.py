"""The operators of the mapping language, which make elements that a template cannot."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import opening_hours
from google.protobuf.descriptor import FieldDescriptor
from google.type.latlng_pb2 import LatLng
from yaml.nodes import SequenceNode

from offers.catalogue.importing.cells import (
    DECIMAL_SIGNS,
    CellError,
    converter,
    hours,
    instant,
    is_numeric,
    money,
    number,
    position,
    typed,
)
from offers.catalogue.importing.rules import Call, Compiler, Operator, Row, RowFaultError, Rule, absent

_MOST_DAYS = 100_000


def _when(compiler: Compiler, call: Call) -> Rule:
    report, path = compiler.report, call.path
    subject = compiler.converted(call.entries["$when"][1], path, str)
    wanted = report.texts(call.entries["is"][1], path) if "is" in call.entries else None
    unwanted = report.texts(call.entries["is_not"][1], path) if "is_not" in call.entries else ()
    then = _branch(compiler, call, "then")
    otherwise = _branch(compiler, call, "else") if "else" in call.entries else absent

    def rule(row: Row) -> object:
        text = subject(row)
        chosen = text is not None and (wanted is None or text in wanted) and text not in unwanted
        return then(row) if chosen else otherwise(row)

    return rule


def _branch(compiler: Compiler, call: Call, option: str) -> Rule:
    return compiler.value(call.entries[option][1], call.field, call.path, repeated=call.repeated)


def _first(compiler: Compiler, call: Call) -> Rule:
    node = call.entries["$first"][1]
    if not isinstance(node, SequenceNode):
        compiler.report.add(node, call.path, "$first needs a list", "write one choice per line, each after '- '")
        return absent
    choices = [compiler.value(item, call.field, call.path, repeated=call.repeated) for item in node.value]
    return lambda row: next((value for value in (choice(row) for choice in choices) if value is not None), None)


def _map(compiler: Compiler, call: Call) -> Rule:
    subject = compiler.converted(call.entries["$map"][1], call.path, str)
    values = compiler.report.entries(call.entries["values"][1], call.path) or {}
    rules = {
        text: compiler.value(node, call.field, call.path, repeated=call.repeated) for text, (_, node) in values.items()
    }
    default = _branch(compiler, call, "default") if "default" in call.entries else None

    def rule(row: Row) -> object:
        text = subject(row)
        if text is None:
            return None
        chosen = rules.get(str(text), default)
        if chosen is None:
            raise RowFaultError((call.path, f"{text!r} is not one of {', '.join(rules)}"))
        return chosen(row)

    return rule


def _split(compiler: Compiler, call: Call) -> Rule:
    separator = compiler.report.text(call.entries["by"][1], call.path) or ","
    convert = converter(call.field)

    def parts(text: str) -> list[object] | None:
        return [convert(part) for part in map(str.strip, text.split(separator)) if part] or None

    return compiler.converted(call.entries["$split"][1], call.path, parts)


def _number(compiler: Compiler, call: Call) -> Rule:
    times, least, most = (_decimal(compiler, call, option) for option in ("times", "at_least", "at_most"))
    sign = _decimal_sign(compiler, call)

    def convert(text: str) -> object:
        value = number(text, sign) * (1 if times is None else times)
        value = value if least is None else max(value, least)
        return typed(call.field, value if most is None else min(value, most))

    return compiler.converted(call.entries["$number"][1], call.path, convert)


def _decimal(compiler: Compiler, call: Call, option: str) -> Decimal | None:
    if option not in call.entries:
        return None
    node = call.entries[option][1]
    text = compiler.report.text(node, call.path)
    try:
        return None if text is None else number(text)
    except CellError as error:
        compiler.report.add(node, call.path, f"{option}: {error}", "write a number")
        return None


def _decimal_sign(compiler: Compiler, call: Call) -> str:
    """Return the sign that cells have before decimals; "" where the mapping names none."""
    if "decimal" not in call.entries:
        return ""
    node = call.entries["decimal"][1]
    sign = compiler.report.text(node, call.path)
    if sign is not None and sign not in DECIMAL_SIGNS:
        compiler.report.add(node, call.path, f"decimal: {sign!r} is not a decimal sign", 'write "," or "."')
        return ""
    return sign or ""


def _time(compiler: Compiler, call: Call) -> Rule:
    layout, zone, days = _layout(compiler, call), _zone(compiler, call), _days(compiler, call)
    return compiler.converted(call.entries["$time"][1], call.path, lambda text: instant(text, layout, zone, days))


def _layout(compiler: Compiler, call: Call) -> str | None:
    if "format" not in call.entries:
        return None
    node = call.entries["format"][1]
    layout = compiler.report.text(node, call.path)
    try:
        if layout is not None:
            sample = datetime(2000, 1, 2, 3, 4, 5)  # noqa: DTZ001 - any time, to test the format
            datetime.strptime(sample.strftime(layout), layout)  # noqa: DTZ007
    except ValueError as error:
        compiler.report.add(node, call.path, f"format: {error}", "write one such as '%Y-%m-%d %H:%M:%S'")
        return None
    return layout


def _zone(compiler: Compiler, call: Call) -> ZoneInfo | None:
    if "time_zone" not in call.entries:
        return None
    node = call.entries["time_zone"][1]
    name = compiler.report.text(node, call.path)
    try:
        return None if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        compiler.report.add(node, call.path, f"{name!r} is not a time zone", "write an IANA name such as Asia/Tokyo")
        return None


def _days(compiler: Compiler, call: Call) -> int:
    days = _decimal(compiler, call, "plus_days") or Decimal(0)
    if abs(days) > _MOST_DAYS or days != days.to_integral_value():
        node = call.entries["plus_days"][1]
        compiler.report.add(node, call.path, f"plus_days: {days} is not a number of days", "write 1, for example")
        return 0
    return int(days)


def _money(compiler: Compiler, call: Call) -> Rule:
    currency = compiler.converted(call.entries["currency_code"][1], call.path, str)
    sign = _decimal_sign(compiler, call)
    amount = compiler.converted(call.entries["$money"][1], call.path, lambda text: number(text, sign))

    def rule(row: Row) -> object:
        value, code = amount(row), currency(row)
        if value is None:
            return None
        if code is None:
            raise RowFaultError((call.path, "the sum has no currency_code"))
        try:
            return money(Decimal(str(value)), str(code))
        except CellError as error:
            raise RowFaultError((call.path, str(error))) from None

    return rule


def _hours(compiler: Compiler, call: Call) -> Rule:
    report, path = compiler.report, call.path
    flags: list[tuple[str, Rule]] = []
    for selector, (key, node) in (report.entries(call.entries["$hours"][1], path) or {}).items():
        if not opening_hours.validate(f"{selector} off"):
            fix = "write one of OpenStreetMap's opening_hours, such as Mo, PH or 'PH -1 day'"
            report.add(key, path, f"{selector!r} is not a selector of days", fix)
        flags.append((selector, compiler.converted(node, path, str)))
    states = dict.fromkeys(report.texts(call.entries["on"][1], path), True)
    states |= dict.fromkeys(report.texts(call.entries["off"][1], path), False)

    def rule(row: Row) -> object:
        cells = [(selector, flag(row)) for selector, flag in flags]
        given = [(selector, str(text)) for selector, text in cells if text is not None]
        if not given:
            return None
        if len(given) < len(cells):
            raise RowFaultError((path, "some flags have a value and others have none"))
        strange = [text for _, text in given if text not in states]
        if strange:
            raise RowFaultError((path, f"{strange[0]!r} is neither on nor off"))
        return hours([(selector, states[text]) for selector, text in given])

    return rule


def _position(compiler: Compiler, call: Call) -> Rule:
    def convert(text: str) -> LatLng:
        latitude, longitude = position(text)
        return LatLng(latitude=latitude, longitude=longitude)

    return compiler.converted(call.entries["$position"][1], call.path, convert)


def _anything(_: Call) -> bool:
    return True


def _numeric(call: Call) -> bool:
    return not call.repeated and is_numeric(call.field)


def _text(call: Call) -> bool:
    return not call.repeated and call.field.type == FieldDescriptor.TYPE_STRING


def _list_of_values(call: Call) -> bool:
    return call.repeated and call.field.message_type is None


def _message(name: str) -> Callable[[Call], bool]:
    return lambda call: (
        not call.repeated and call.field.message_type is not None and call.field.message_type.full_name == name
    )


OPERATORS = {
    "$when": Operator(_when, ("then",), ("is", "is_not", "else"), _anything, "any element"),
    "$first": Operator(_first, (), (), _anything, "any element"),
    "$map": Operator(_map, ("values",), ("default",), _anything, "any element"),
    "$split": Operator(_split, ("by",), (), _list_of_values, "lists of single values"),
    "$number": Operator(_number, (), ("times", "at_least", "at_most", "decimal"), _numeric, "numbers"),
    "$time": Operator(
        _time, (), ("format", "time_zone", "plus_days"), _message("google.protobuf.Timestamp"), "instants"
    ),
    "$money": Operator(_money, ("currency_code",), ("decimal",), _message("google.type.Money"), "sums of money"),
    "$position": Operator(_position, (), (), _message("google.type.LatLng"), "positions"),
    "$hours": Operator(_hours, ("on", "off"), (), _text, "opening hours"),
}
"""The operators by name."""
