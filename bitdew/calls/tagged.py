"""Values as JSON that keeps their types, both ways: what a call gives back, without that anything is unpickled.

Lists, texts, numbers, booleans and None are JSON's own; everything else is an object of one pair, a tag and its parts.
Owns the bounds on what is read: whoever wrote it may be anybody. This module goes to hosts, with old Pythons too.
"""

from __future__ import annotations

import base64
import json
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from numbers import Number
from typing import Any
from uuid import UUID

MOST_DEPTH = 100
"""How deep lists, dicts and their like may lie in each other."""
MOST_DIGITS = 2**53
"""Integers beyond this one are written as hexadecimal digits: every JSON reader takes the others."""


class Untold(ValueError):  # noqa: N818 (it says what is the matter)
    """What is no value that can be told, or no text that tells one."""


def told(value: Any) -> bytes:
    """`value` as a text that `heard` reads. The same values give the same bytes, whatever the order of their sets.

    What derives from a type that can be told is told as that; numbers of NumPy are Python's.

    Raises:
        Untold: for what has another type, is nested too deeply, or contains itself.
    """
    return _written(_tagged(value, 0))


def heard(text: bytes) -> Any:
    """The value that `text` tells.

    Raises:
        Untold: for what `told` does not write.
    """
    try:
        return _plain(json.loads(text), 0)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as fault:
        if isinstance(fault, Untold):
            raise
        raise Untold("it is not the text of a value: {}".format(str(fault)[:200] or type(fault).__name__)) from None


def _written(tagged: Any) -> bytes:
    return json.dumps(tagged, separators=(",", ":")).encode()


def _tagged(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if depth > MOST_DEPTH:
        raise Untold("it is nested deeper than {}, or contains itself".format(MOST_DEPTH))
    for kind, tag, parts in _WRITERS:
        if isinstance(value, kind):
            if tag:
                return {tag: parts(value, depth + 1)}
            return parts(value, depth + 1)
    if isinstance(value, Number) and callable(getattr(value, "item", None)):
        return _tagged(value.item(), depth + 1)  # type: ignore[attr-defined]
    raise Untold("a {} can't be told".format(_named(type(value))))


def _plain(tagged: Any, depth: int) -> Any:
    if tagged is None or isinstance(tagged, (bool, int, float, str)):
        return tagged
    if depth > MOST_DEPTH:
        raise Untold("it is nested deeper than {}".format(MOST_DEPTH))
    if isinstance(tagged, list):
        return [_plain(one, depth + 1) for one in tagged]
    if len(tagged) == 1:
        ((tag, parts),) = tagged.items()
        if tag in _READERS:
            return _READERS[tag](parts, depth + 1)
    raise Untold("it has a tag that is none")


def _named(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else "{}.{}".format(kind.__module__, kind.__qualname__)


# Writing --------------------------------------------------------------------------------------------------------------


def _int(value: int, _depth: int) -> Any:
    value = int(value)
    return value if abs(value) < MOST_DIGITS else {"int": hex(value)}


def _list(value: Any, depth: int) -> list[Any]:
    return [_tagged(one, depth) for one in value]


def _set(value: Any, depth: int) -> list[Any]:
    return sorted(_list(value, depth), key=_written)


def _dict(value: Any, depth: int) -> list[Any]:
    return [[_tagged(key, depth), _tagged(one, depth)] for key, one in value.items()]


def _bytes(value: Any, _depth: int) -> str:
    return base64.b64encode(value).decode()


def _zone(value: Any) -> Any:
    """Another zone than none and UTC is told as its distance to that; the text has it."""
    return value.replace(tzinfo=timezone(value.utcoffset())) if value.utcoffset() is not None else value


_WRITERS: list[tuple[type, str, Any]] = [
    # What derives from another one in this list stands before it.
    (int, "", _int),
    (float, "", lambda value, _: float(value)),
    (str, "", lambda value, _: str.__str__(value)),
    (list, "", _list),
    (tuple, "tuple", _list),
    (dict, "dict", _dict),
    (set, "set", _set),
    (frozenset, "frozenset", _set),
    (bytes, "bytes", _bytes),
    (bytearray, "bytearray", _bytes),
    (datetime, "datetime", lambda value, _: _zone(value).isoformat()),
    (date, "date", lambda value, _: value.isoformat()),
    (time, "time", lambda value, _: _zone(value).isoformat()),
    (timedelta, "timedelta", lambda value, _: [value.days, value.seconds, value.microseconds]),
    (complex, "complex", lambda value, _: [value.real, value.imag]),
    (Decimal, "decimal", lambda value, _: str(value)),
    (Fraction, "fraction", lambda value, _: [hex(value.numerator), hex(value.denominator)]),
    (UUID, "uuid", lambda value, _: value.hex),
    (range, "range", lambda value, _: [hex(value.start), hex(value.stop), hex(value.step)]),
]


# Reading --------------------------------------------------------------------------------------------------------------


def _text(parts: Any) -> str:
    if not isinstance(parts, str):
        raise Untold("it has a text that is none")
    return parts


def _items(parts: Any, depth: int) -> list[Any]:
    if not isinstance(parts, list):
        raise Untold("it has a list that is none")
    return [_plain(one, depth) for one in parts]


def _pairs(parts: Any, depth: int) -> dict[Any, Any]:
    pairs = _items(parts, depth)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise Untold("it has a dict whose pairs are none")
    return {key: one for key, one in pairs}  # noqa: C416 (a pair may be a list, which `dict` takes too, but says less)


def _numbers(kind: Any, parts: Any, most: int) -> list[Any]:
    if not isinstance(parts, list) or len(parts) != most:
        raise Untold("it has numbers that are none")
    return [kind(one) for one in parts]


def _hex(text: Any) -> int:
    return int(_text(text), 16)


_READERS: dict[str, Any] = {
    "int": lambda parts, _: _hex(parts),
    "tuple": lambda parts, depth: tuple(_items(parts, depth)),
    "dict": _pairs,
    "set": lambda parts, depth: set(_items(parts, depth)),
    "frozenset": lambda parts, depth: frozenset(_items(parts, depth)),
    "bytes": lambda parts, _: base64.b64decode(_text(parts), validate=True),
    "bytearray": lambda parts, _: bytearray(base64.b64decode(_text(parts), validate=True)),
    "datetime": lambda parts, _: datetime.fromisoformat(_text(parts)),
    "date": lambda parts, _: date.fromisoformat(_text(parts)),
    "time": lambda parts, _: time.fromisoformat(_text(parts)),
    "timedelta": lambda parts, _: timedelta(*_numbers(int, parts, 3)),
    "complex": lambda parts, _: complex(*_numbers(float, parts, 2)),
    "decimal": lambda parts, _: Decimal(_text(parts)),
    "fraction": lambda parts, _: Fraction(*_numbers(_hex, parts, 2)),
    "uuid": lambda parts, _: UUID(hex=_text(parts)),
    "range": lambda parts, _: range(*_numbers(_hex, parts, 3)),
}
