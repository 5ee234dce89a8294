"""The keys of an attribute: what kind of value each takes, and how a key or a value that is none is refused.

Owns the table of keys, their order, and the sentences of refusals, which name the nearest thing that would be right.
What the values mean belongs to `attribute`, how they are written to each of its spellings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from .errors import BitDewError, error


class Kind(StrEnum):
    """What kind of value a key takes, in the words of the documentation."""

    NUMBER = "whole number"
    SWITCH = "true or false"
    TEXT = "text"
    LIST = "list of texts"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: the field of `Attribute` that it sets, and the kind of its value."""

    field: str
    kind: Kind


KEYS: Final[dict[str, Key]] = {
    "replica": Key("replica", Kind.NUMBER),
    "ft": Key("fault_tolerance", Kind.SWITCH),
    "lifetime": Key("lifetime", Kind.TEXT),
    "affinity": Key("affinity", Kind.TEXT),
    "requires": Key("requires", Kind.TEXT),
    "spread": Key("spread", Kind.TEXT),
    "protocol": Key("protocol", Kind.TEXT),
    "distrib": Key("distrib", Kind.NUMBER),
    "pin": Key("pin", Kind.LIST),
    "priority": Key("priority", Kind.NUMBER),
}
"""All keys, in the order in which they are written."""

_MEANT: Final = {
    "abstime": "lifetime",
    "copies": "replica",
    "expires": "lifetime",
    "faulttolerance": "ft",
    "hosts": "pin",
    "near": "affinity",
    "oob": "protocol",
    "reltime": "lifetime",
    "resilience": "ft",
    "ttl": "lifetime",
    "where": "requires",
}
"""What people write who know another language, or an older BitDew."""
_WORDS: Final = {"all": -1, "any": -1, "every": -1, "everywhere": -1, "unlimited": -1, "*": -1, "no": 0, "none": 0}
_WHOLE: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_NEARLY_WHOLE: Final = re.compile(r"\+?(-?[0-9]{1,12})(?:\.0*)?", re.ASCII)


def shown(value: object) -> str:
    """`value` as a refusal quotes it: short, whatever it is."""
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    return repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"


def impossible(key: str, value: object, why: str, *, near: object = None, do: str = "") -> BitDewError:
    """The refusal of `value` under `key`; `near` is the nearest value that would be right, if anyone can tell."""
    return error(
        "attribute.invalid",
        f"{key} can't be {shown(value)}",
        why=why,
        do=do if near is None else f"Did you mean {shown(near)}?",
        attribute=key,
    )


def twice(key: str) -> BitDewError:
    """The refusal of `key` where it stands a second time."""
    return error("attribute.invalid", f"{key} is given twice", why="only one of the two could count", attribute=key)


def placed(fault: BitDewError, where: str, **fields: Any) -> BitDewError:
    """`fault`, saying also where it is: `where` in words, and `fields` for programs."""
    return error(fault.key, f"{fault.message}, {where}", why=fault.why, do=fault.do, **{**fault.fields, **fields})


def checked_key(key: object) -> str:
    """`key`, if there is such a key.

    Raises:
        UserError: `attribute.invalid`, with the nearest one.
    """
    if isinstance(key, str) and key in KEYS:
        return key
    near = nearest(key, KEYS, _MEANT) if isinstance(key, str) else None
    raise error(
        "attribute.invalid",
        f"{shown(key if not isinstance(key, str) else key[:40])} is not a key of an attribute",
        do=f"Did you mean {near!r}?" if near else f"The keys are {', '.join(KEYS)}.",
        attribute=key[:40] if isinstance(key, str) else shown(key),
    )


def nearest(text: str, known: Collection[str], meant: dict[str, str] | None = None) -> str | None:
    """The one of `known` that `text` probably stands for; `meant` says what some other words stand for."""
    plain = re.sub(r"[\s_-]", "", text[:40].lower())
    if meant and plain in meant:
        return meant[plain]
    if plain in known:
        return plain
    return next(iter(difflib.get_close_matches(plain, known, n=1)), None)


def from_text(key: str, text: str, *, quoted: bool = False) -> Any:
    """The value that `text` is under `key`, for the spellings that have no types of their own.

    Args:
        key: One of `KEYS`; what takes a list takes no single text, and is given it as it is, to be refused.
        text: What is written, without quotes.
        quoted: Whether it stood in quotes: a number or a switch never does.

    Raises:
        UserError: `attribute.invalid`.
    """
    kind = KEYS[key].kind
    if kind in {Kind.TEXT, Kind.LIST}:
        return text
    if kind is Kind.NUMBER:
        if not quoted and _WHOLE.fullmatch(text):
            return int(text)
        raise impossible(key, text, "it is a whole number" + " without quotes" * quoted, near=near_number(key, text))
    if not quoted and text in {"true", "false"}:
        return text == "true"
    raise impossible(key, text, "it is true or false" + " without quotes" * quoted, near=near_switch(text))


def near_number(key: str, value: object) -> int | None:
    """The whole number that `value` was probably meant to be."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 10**12 else None
    if not isinstance(value, str):
        return None
    if match := _NEARLY_WHOLE.fullmatch(value.strip()):
        return int(match[1])
    word = _WORDS.get(value.strip().lower())
    return None if word is not None and key == "priority" else word


def near_name(text: str) -> str | None:
    """The name that `text` was probably meant to be."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text[:128]).strip("._-") or None


def near_switch(value: object) -> bool | None:
    """The switch that `value` was probably meant to be."""
    word = str(value)[:9].strip().lower() if isinstance(value, str) or (type(value) is int and value in {0, 1}) else ""
    return {
        "1": True,
        "yes": True,
        "on": True,
        "true": True,
        "0": False,
        "no": False,
        "off": False,
        "false": False,
    }.get(word)
