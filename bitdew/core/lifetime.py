"""Lifetimes: until when a datum lives. And references: how wishes name another datum or attribute.

Owns their text, which is one to one with their meaning. Whether a named target exists is for who keeps the data to say.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal, TypeAlias

from .attribute_keys import impossible, near_name
from .errors import BitDewError
from .ids import checked_name
from .units import parse_duration

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST: Final = timedelta(days=36525)
"""A hundred years: added to any date that a clock may show, it is still a date."""

ReferenceKind = Literal["", "data", "attr"]

_SPAN: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?\s*(?P<unit>[a-z]+)", re.IGNORECASE | re.ASCII)
_DATED: Final = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[T ].*)?", re.IGNORECASE | re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?",
    re.IGNORECASE | re.ASCII,
)
_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), (1, "s")),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), (1, "m")),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), (1, "h")),
    **dict.fromkeys(("d", "day", "days"), (1, "d")),
    **dict.fromkeys(("w", "wk", "week", "weeks"), (1, "w")),
    **dict.fromkeys(("mo", "month", "months"), (30, "d")),
    **dict.fromkeys(("y", "yr", "year", "years"), (365, "d")),
}
"""The units that people write, as so many of those that there are."""
_HOW: Final = "Write it like 7d, 36h, 2026-12-31, 2026-12-31T12:00:00Z or the name of a datum."


@dataclass(frozen=True, slots=True)
class Reference:
    """Another datum or attribute by its name: `hep-inputs`, `data:hep-inputs` or `attr:inputs`.

    Attributes:
        name: Its name, or its uid.
        kind: Which of the two it is; "" leaves it open: a datum of that name, or else an attribute.
    """

    name: str
    kind: ReferenceKind = ""

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UserError: `input.invalid` for a name that nothing can have.
        """
        checked_name(self.name, "name of a datum or an attribute")

    @classmethod
    def parse(cls, text: str, key: str = "affinity") -> Reference:
        """What `text` refers to, under the key of an attribute.

        Raises:
            UserError: `attribute.invalid`.
        """
        head, colon, name = text.partition(":")
        kind: ReferenceKind | None = (
            "" if not colon else "data" if head == "data" else "attr" if head == "attr" else None
        )
        try:
            if kind is not None:
                return cls(name if colon else text, kind)
        except BitDewError as fault:
            raise impossible(key, text, fault.why, near=_near_reference(text)) from None
        raise impossible(key, text, "before a colon stands 'data' or 'attr'", near=_near_reference(text))

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.kind else self.name


@dataclass(frozen=True, slots=True)
class Until:
    """Until a moment. It needs a time zone, and is kept in UTC."""

    moment: datetime

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UserError: `attribute.invalid`.
        """
        try:
            if self.moment.tzinfo is None:
                raise impossible("lifetime", self.moment.isoformat(), "a moment needs its time zone")
            moment = self.moment.astimezone(UTC)
        except OverflowError:
            moment = datetime.min.replace(tzinfo=UTC)
        if moment < EARLIEST:
            raise impossible("lifetime", self.moment.isoformat(), "it is from 1970-01-01 to 9999-12-31, in UTC")
        object.__setattr__(self, "moment", moment)

    def __str__(self) -> str:
        whole = self.moment.isoformat().removesuffix("+00:00")
        return whole.removesuffix("T00:00:00") if whole.endswith("T00:00:00") else f"{whole}Z"


@dataclass(frozen=True, slots=True)
class For:
    """For a time span from the datum's creation, in whole seconds."""

    span: timedelta

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UserError: `attribute.invalid`.
        """
        if fault := _fault(self.span):
            raise impossible("lifetime", str(self.span), fault[0], near=fault[1])

    def __str__(self) -> str:
        seconds = int(self.span.total_seconds())
        for unit, length in (("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60)):
            if seconds % length == 0 and (unit != "w" or seconds > length):  # a week is rather read as 7 days
                return f"{seconds // length}{unit}"
        return f"{seconds}s"


@dataclass(frozen=True, slots=True)
class With:
    """As long as another datum lives. The target's kind is always "data", said or not."""

    target: Reference

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UserError: `attribute.invalid` for an attribute as the target: it has no end.
        """
        if self.target.kind == "attr":
            raise impossible("lifetime", str(self.target), "an attribute has no end to share: name a datum")
        object.__setattr__(self, "target", Reference(self.target.name, "data"))

    def __str__(self) -> str:
        return str(self.target) if _timely(self.target.name) else self.target.name


Lifetime: TypeAlias = Until | For | With


def parse_lifetime(text: str) -> Lifetime:
    """The lifetime that `text` says: a date or a moment, a time span, or the name of a datum.

    What begins like a date or a span and is none is refused rather than taken as a name: `2026-02-30`, `7days`. A datum
    that is called so is named `data:7days`.

    Raises:
        UserError: `attribute.invalid`.
    """
    if _DATED.fullmatch(text):
        return _until(text)
    if span := _SPAN.fullmatch(text):
        if span["unit"].lower() in {"s", "m", "h", "d", "w"}:
            return _for(text)
        if span["unit"].lower() in _UNITS:
            raise impossible("lifetime", text, "the units are s, m, h, d and w", near=_near_span(text))
    if text.isascii() and text.isdecimal():
        raise impossible("lifetime", text, "a time span needs its unit: s, m, h, d or w", near=f"{text[:9]}d")
    try:
        return With(Reference.parse(text, "lifetime"))
    except BitDewError as fault:
        fault.do = fault.do if text.partition(":")[0] in {"data", "attr"} else _HOW
        raise


def _timely(name: str) -> bool:
    """Whether a datum's name would read as a date or a time span."""
    span = _SPAN.fullmatch(name)
    return bool(_DATED.fullmatch(name) or name.isdecimal() or (span and span["unit"].lower() in _UNITS))


def _until(text: str) -> Until:
    moment = _MOMENT.fullmatch(text)
    try:
        if _DATE.fullmatch(text):
            return Until(datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC))
        if moment and moment["zone"]:
            return Until(datetime.fromisoformat(text.upper().replace(" ", "T")))
    except ValueError as fault:
        raise impossible("lifetime", text, f"there is no such date: {fault}", near=_near_date(text), do=_HOW) from None
    if moment:
        raise impossible("lifetime", text, "a moment needs its time zone", near=f"{text.replace(' ', 'T')}Z")
    why = "a date is written year-month-day, in two digits each"
    raise impossible("lifetime", text, why, near=_near_date(text), do=_HOW)


def _for(text: str) -> For:
    try:
        span = parse_duration(text)
    except BitDewError:  # its form is right, so that it is too long even for Python
        span = timedelta.max
    if fault := _fault(span):
        raise impossible("lifetime", text, fault[0], near=fault[1])
    return For(span)


def _fault(span: timedelta) -> tuple[str, str] | None:
    """Why nothing can live for `span`, and the nearest span that is right."""
    if span < timedelta(seconds=1):
        return "a datum lives for at least a second", "1s"
    if span > LONGEST:
        return f"{LONGEST.days} days are the most", f"{LONGEST.days}d"
    if span % timedelta(seconds=1):
        return "it is counted in whole seconds", str(For(timedelta(seconds=span // timedelta(seconds=1))))
    return None


def _near_date(text: str) -> str | None:
    """The last day that there is, up to the one that `text` says, in its month."""
    if len(parts := text.split("-")) != 3 or not all(part.isdecimal() for part in parts):
        return None
    year, month, day = (int(part) for part in parts)
    if year < EARLIEST.year or not 1 <= month <= 12:
        return None
    return date(year, month, min(max(day, 1), calendar.monthrange(year, month)[1])).isoformat()


def _near_span(text: str) -> str | None:
    number, unit = re.findall(r"[0-9.]+|[a-z]+", text.lower())
    times, unit = _UNITS[unit]
    try:
        return str(For(parse_duration(f"{float(number) * times:g}{unit}")))
    except BitDewError:
        return None


def _near_reference(text: str) -> str | None:
    head, colon, name = text.rpartition(":")
    kind = "attr:" if head.lower().startswith("attr") else "data:" if head.lower().startswith("dat") else ""
    found = near_name(name)
    return f"{kind if colon else ''}{found}" if found else None
