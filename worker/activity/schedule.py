"""Hours of the week at which a host works, in the volunteer's local time.

Owns the form of a window, `mon-fri 20:00-07:00`, and which instants lie in it. A window goes by what the clock on the
wall shows: one that ends before it begins ends on the next day and belongs to the day on which it began. Where summer
time begins or ends, an hour that the clock shows twice is in a window twice, and one that it leaves out is in none.
It must not know what is done at those hours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60
_FORM: Final = re.compile(r"(?:(?P<days>[a-z,-]{3,60}) +)?(?P<first>\d\d?:\d\d)-(?P<last>\d\d?:\d\d)")
_AHEAD_DAYS: Final = 8
"""A week repeats itself: whoever looks so far ahead has seen all changes."""


@dataclass(frozen=True, slots=True)
class Window:
    """The same hours on some days of the week.

    Attributes:
        days: Those on which it begins, 0 for Monday.
        first: Minutes after midnight at which it begins, 0 to 1439.
        last: Minutes after midnight before which it ends, 1 to 1440. Not after `first`, it ends on the next day.
    """

    days: frozenset[int]
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """The window that `text` says: days, `mon-fri` or `sat,sun` or none for every day, and hours, `20:00-07:00`.

        Raises:
            ValueError: what is wrong, for people.
        """
        match = _FORM.fullmatch(text.strip().lower())
        if match is None:
            raise ValueError(f"{text[:60]!r} is not like 'mon-fri 20:00-07:00'")
        first, last = _minutes(match["first"]), _minutes(match["last"])
        if first == DAY_MINUTES:
            raise ValueError("a window begins before 24:00")
        days = frozenset(_days(match["days"])) if match["days"] else frozenset(range(7))
        return cls(days, first, last or DAY_MINUTES)

    def __str__(self) -> str:
        """As `parse` reads it."""
        days = ",".join(DAYS[day] for day in sorted(self.days))
        hours = f"{_clock(self.first)}-{_clock(self.last)}"
        return hours if len(self.days) == len(DAYS) else f"{days} {hours}"

    def holds(self, local: datetime) -> bool:
        """Whether it is open when the clock on the wall shows `local`."""
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if self.first < self.last:
            return today in self.days and self.first <= minute < self.last
        began_today = today in self.days and minute >= self.first
        return began_today or ((today - 1) % 7 in self.days and minute < self.last)


def is_open(windows: Sequence[Window], local: datetime) -> bool:
    """Whether one of `windows` is open at `local`; with none of them it always is."""
    return not windows or any(window.holds(local) for window in windows)


def next_change(windows: Sequence[Window], local: datetime) -> datetime | None:
    """When `is_open` changes next after `local`, which knows its time zone; UTC. None if it never does."""
    now, before = local.astimezone(UTC), is_open(windows, local)
    for instant in sorted(set(_edges(windows, local))):
        if instant > now and is_open(windows, instant.astimezone(local.tzinfo)) is not before:
            return instant
    return None


def _edges(windows: Sequence[Window], local: datetime) -> Iterator[datetime]:
    """Every instant from yesterday on at which something may open or close, also where the clock itself is moved."""
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in range(-1, _AHEAD_DAYS + 1):
        date = midnight + timedelta(days=day)
        for minute in {edge for window in windows for edge in (window.first, window.last % DAY_MINUTES)}:
            wall = date.replace(hour=minute // 60, minute=minute % 60)
            for fold in (0, 1):
                yield wall.replace(fold=fold).astimezone(UTC)
        yield from _moves(date)


def _moves(date: datetime) -> Iterator[datetime]:
    """The instant on the day of `date` at which its time zone's clock is moved, to the minute, if it is."""
    start = date.replace(fold=0).astimezone(UTC)
    end, zone = start + timedelta(days=1), date.tzinfo
    offset = start.astimezone(zone).utcoffset()
    if end.astimezone(zone).utcoffset() == offset:
        return
    while end - start > timedelta(minutes=1):
        middle = start + timedelta(minutes=(end - start) // timedelta(minutes=1) // 2)
        start, end = (middle, end) if middle.astimezone(zone).utcoffset() == offset else (start, middle)
    yield end


def _minutes(text: str) -> int:
    hour, minute = map(int, text.split(":"))
    if minute >= 60 or hour * 60 + minute > DAY_MINUTES:
        raise ValueError(f"{text} is no time of day")
    return hour * 60 + minute


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _days(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, dash, last = part.partition("-")
        for name in (first, last) if dash else (first,):
            if name not in DAYS:
                raise ValueError(f"{name[:20]!r} is no day; days are {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        yield from ((begin + step) % 7 for step in range((end - begin) % 7 + 1))
