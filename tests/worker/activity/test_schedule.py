"""Windows of the week go by the clock on the wall: over midnight, and where summer time begins and ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from bitdew.worker.activity.schedule import Window, is_open, next_change
from hypothesis import given
from hypothesis import strategies as st

PARIS = ZoneInfo("Europe/Paris")
MINUTES = st.integers(0, 1439)
WINDOWS = st.builds(
    Window,
    st.frozensets(st.integers(0, 6), min_size=1),
    MINUTES,
    st.integers(1, 1440),
)
INSTANTS = st.datetimes(datetime(2020, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda instant: instant.astimezone(PARIS)
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mon-fri 20:00-07:00", "mon,tue,wed,thu,fri 20:00-07:00"),
        ("SAT,sun 0:00-24:00", "sat,sun 00:00-24:00"),
        ("22:30-6:00", "22:30-06:00"),
        ("sat-mon 08:00-09:00", "mon,sat,sun 08:00-09:00"),
        ("fri 20:00-00:00", "fri 20:00-24:00"),
    ],
)
def test_a_window_is_read_and_written(text, shown):
    assert str(Window.parse(text)) == shown
    assert Window.parse(shown) == Window.parse(text)


@pytest.mark.parametrize(
    "text", ["", "always", "mon 8-9", "mon 08:60-09:00", "25:00-26:00", "24:00-06:00", "mo 1:00-2:00"]
)
def test_what_is_no_window_is_refused_with_the_reason(text):
    with pytest.raises(ValueError, match=r"is not like|no time of day|no day|before 24:00"):
        Window.parse(text)


@pytest.mark.parametrize(
    ("instant", "open_"),
    [
        ("2026-03-27 19:59", False),  # Friday
        ("2026-03-27 20:00", True),
        ("2026-03-28 06:59", True),  # Saturday, of Friday's window
        ("2026-03-28 07:00", False),
        ("2026-03-28 20:00", False),
        ("2026-03-30 06:00", False),  # Monday, after a Sunday on which none begins
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_began(instant, open_):
    assert Window.parse("mon-fri 20:00-07:00").holds(at(instant)) is open_


def test_an_hour_that_the_clock_leaves_out_is_in_no_window():
    windows = (Window.parse("02:15-02:45"),)
    assert next_change(windows, at("2026-03-28 12:00")) == datetime(2026, 3, 30, 0, 15, tzinfo=UTC)


def test_an_hour_that_the_clock_shows_twice_is_in_a_window_twice():
    windows = (Window.parse("02:15-02:45"),)
    instant, changes = at("2026-10-25 00:00"), []
    for _ in range(4):
        found = next_change(windows, instant)
        assert found is not None
        changes.append(found)
        instant = found.astimezone(PARIS)
    first = datetime(2026, 10, 25, 0, 15, tzinfo=UTC)
    assert changes == [first + timedelta(minutes=minutes) for minutes in (0, 30, 60, 90)]


def test_a_window_may_close_because_the_clock_is_moved():
    assert next_change((Window.parse("01:30-02:30"),), at("2026-03-29 01:45")) == datetime(2026, 3, 29, 1, tzinfo=UTC)


def test_without_windows_it_is_always_open():
    assert is_open((), at("2026-03-27 19:59"))
    assert next_change((), at("2026-03-27 19:59")) is None


@given(st.lists(WINDOWS, min_size=1, max_size=4), INSTANTS, st.integers(0, 8 * 24 * 4))
def test_nothing_changes_before_the_next_change_and_something_does_then(windows, local, quarters):
    change = next_change(windows, local)
    before = is_open(windows, local)
    later = local.astimezone(UTC) + timedelta(minutes=15 * quarters)
    if change is None or later < change:
        assert is_open(windows, later.astimezone(PARIS)) is before
    if change is not None:
        assert change > local.astimezone(UTC)
        assert is_open(windows, change.astimezone(PARIS)) is not before


@given(WINDOWS)
def test_a_window_is_open_as_long_as_it_says_in_a_week_without_summer_time_changes(window):
    start = at("2026-06-01 00:00")
    minutes = sum(window.holds(start + timedelta(minutes=15 * step)) for step in range(7 * 24 * 4))
    length = (window.last - window.first) % 1440 or 1440
    assert abs(minutes * 15 - length * len(window.days)) <= 15 * 2 * len(window.days)
