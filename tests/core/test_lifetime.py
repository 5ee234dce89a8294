"""Lifetimes and references are one to one with their text, and what only looks like one is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.core.lifetime import EARLIEST, LONGEST, For, Lifetime, Reference, Until, With, parse_lifetime

NAMES = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True)
TIMELY = st.sampled_from(
    ["7d", "7D", "7days", "1month", "2026-12-31", "2026-99-99", "2026-12-31T12", "1.5w", "12", "007", "2w", "9" * 128]
)
LIFETIMES = (
    st.datetimes(datetime(1970, 1, 2), timezones=st.just(UTC)).map(Until)  # noqa: DTZ001  (the zone is the other argument)
    | st.datetimes(datetime(1970, 1, 2), timezones=st.just(UTC)).map(lambda t: Until(t.replace(microsecond=0)))  # noqa: DTZ001
    | st.dates(EARLIEST.date()).map(lambda day: Until(datetime(day.year, day.month, day.day, tzinfo=UTC)))
    | st.integers(1, int(LONGEST.total_seconds())).map(lambda seconds: For(timedelta(seconds=seconds)))
    | st.integers(1, 5000).map(lambda weeks: For(timedelta(weeks=weeks)))
    | (NAMES | TIMELY).map(lambda name: With(Reference(name)))
)


@given(LIFETIMES)
def test_a_lifetime_is_told_and_read_again_the_same(lifetime: Lifetime) -> None:
    assert parse_lifetime(str(lifetime)) == lifetime


@pytest.mark.parametrize(
    ("text", "lifetime", "canonical"),
    [
        ("45s", For(timedelta(seconds=45)), "45s"),
        ("90m", For(timedelta(minutes=90)), "90m"),
        ("36h", For(timedelta(hours=36)), "36h"),
        ("48h", For(timedelta(days=2)), "2d"),
        ("1.5d", For(timedelta(hours=36)), "36h"),
        ("7d", For(timedelta(days=7)), "7d"),
        ("1w", For(timedelta(days=7)), "7d"),
        ("2w", For(timedelta(days=14)), "2w"),
        ("30D", For(timedelta(days=30)), "30d"),
        ("7 d", For(timedelta(days=7)), "7d"),
        ("36525d", For(LONGEST), "36525d"),
        ("2026-12-31", Until(datetime(2026, 12, 31, tzinfo=UTC)), "2026-12-31"),
        ("2026-12-31T00:00Z", Until(datetime(2026, 12, 31, tzinfo=UTC)), "2026-12-31"),
        ("2026-12-31T12:00:00Z", Until(datetime(2026, 12, 31, 12, tzinfo=UTC)), "2026-12-31T12:00:00Z"),
        ("2026-12-31 12:00z", Until(datetime(2026, 12, 31, 12, tzinfo=UTC)), "2026-12-31T12:00:00Z"),
        ("2026-12-31T12:00:00+02:00", Until(datetime(2026, 12, 31, 10, tzinfo=UTC)), "2026-12-31T10:00:00Z"),
        ("2026-12-31T00:00:00.5Z", Until(datetime(2026, 12, 31, 0, 0, 0, 500_000, UTC)), "2026-12-31T00:00:00.500000Z"),
        ("hep-inputs", With(Reference("hep-inputs")), "hep-inputs"),
        ("data:hep-inputs", With(Reference("hep-inputs", "data")), "hep-inputs"),
        ("data:7days", With(Reference("7days")), "data:7days"),
        ("data:2026-12-31", With(Reference("2026-12-31")), "data:2026-12-31"),
        ("3fortnights", With(Reference("3fortnights")), "3fortnights"),
    ],
)
def test_a_lifetime_is_a_date_a_span_or_a_name(text: str, lifetime: Lifetime, canonical: str) -> None:
    assert parse_lifetime(text) == lifetime
    assert str(lifetime) == canonical


@pytest.mark.parametrize(
    ("text", "why", "do"),
    [
        ("7 days", "the units are", "Did you mean '7d'?"),
        ("7days", "the units are", "Did you mean '7d'?"),
        ("1 month", "the units are", "Did you mean '30d'?"),
        ("2 Years", "the units are", "Did you mean '730d'?"),
        ("0.5 minutes", "the units are", "Did you mean '30s'?"),
        ("7", "needs its unit", "Did you mean '7d'?"),
        ("0s", "at least a second", "Did you mean '1s'?"),
        ("0.2s", "at least a second", "Did you mean '1s'?"),
        ("1.5s", "whole seconds", "Did you mean '1s'?"),
        ("36526d", "36525 days are the most", "Did you mean '36525d'?"),
        ("9" * 400 + "w", "36525 days are the most", "Did you mean '36525d'?"),
        ("2026-02-30", "no such date", "Did you mean '2026-02-28'?"),
        ("2028-02-99", "no such date", "Did you mean '2028-02-29'?"),
        ("2026-01-00", "no such date", "Did you mean '2026-01-01'?"),
        ("2026-13-01", "no such date", "Write it like 7d"),
        ("0000-01-01", "no such date", "Write it like 7d"),
        ("2026-12-31T25:00Z", "no such date", "Write it like 7d"),
        ("2026-12-31T12:00:00+99:00", "no such date", "Write it like 7d"),
        ("2026-1-1", "two digits", "Did you mean '2026-01-01'?"),
        ("2026-11-31T1", "two digits", "Write it like 7d"),
        ("2026-12-31T12", "two digits", "Write it like 7d"),
        ("2026-12-31T12:00", "time zone", "Did you mean '2026-12-31T12:00Z'?"),
        ("1969-12-31", "from 1970-01-01", "Correct"),
        ("9999-12-31T23:59:59-01:00", "from 1970-01-01", "Correct"),
        ("0001-01-01T00:00:00+01:00", "from 1970-01-01", "Correct"),
        ("attr:inputs", "an attribute has no end", "Correct"),
        ("attr:7d", "an attribute has no end", "Correct"),
        ("datum:hep", "before a colon", "Write it like 7d"),
        ("in a week", "1 to 128", "Write it like 7d"),
        ("-7d", "1 to 128", "Write it like 7d"),
        ("", "1 to 128", "Write it like 7d"),
        ("data:", "1 to 128", ""),
        ("7d\x00", "1 to 128", "Write it like 7d"),
        ("\u0667d", "1 to 128", "Write it like 7d"),
    ],
)
def test_what_is_no_lifetime_is_refused_with_the_reason_and_what_was_meant(text: str, why: str, do: str) -> None:
    with pytest.raises(BitDewError) as refused:
        parse_lifetime(text)
    assert refused.value.key == "attribute.invalid"
    assert refused.value.message.startswith("lifetime can't be")
    assert why in refused.value.why
    assert refused.value.do.startswith(do)
    assert refused.value.fields == {"attribute": "lifetime"}


@given(st.text(max_size=30) | st.text("0123456789-T:.Z+ dwmhsy", max_size=30))
def test_any_text_is_a_lifetime_or_refused_as_one(text: str) -> None:
    try:
        lifetime = parse_lifetime(text)
    except BitDewError as refused:
        assert refused.key == "attribute.invalid"  # noqa: PT017  (either outcome is right)
        assert refused.do  # noqa: PT017
    else:
        assert parse_lifetime(str(lifetime)) == lifetime


def test_a_moment_is_kept_in_utc() -> None:
    cet = timezone(timedelta(hours=1))
    assert Until(datetime(2026, 1, 1, 1, tzinfo=cet)) == Until(datetime(2026, 1, 1, tzinfo=UTC))
    assert Until(datetime(2026, 1, 1, 1, tzinfo=cet)).moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Until(datetime(2026, 1, 1)), "time zone"),  # noqa: DTZ001  (that is what is refused)
        (lambda: Until(datetime(1969, 1, 1, tzinfo=UTC)), "from 1970-01-01"),
        (lambda: For(timedelta(0)), "at least a second"),
        (lambda: For(timedelta(seconds=-1)), "at least a second"),
        (lambda: For(timedelta.max), "36525 days are the most"),
        (lambda: For(timedelta(milliseconds=1500)), "whole seconds"),
        (lambda: With(Reference("inputs", "attr")), "an attribute has no end"),
    ],
)
def test_impossible_lifetimes_are_refused_however_they_are_made(make: object, why: str) -> None:
    assert callable(make)
    with pytest.raises(BitDewError) as refused:
        make()
    assert refused.value.key == "attribute.invalid"
    assert why in refused.value.why


def test_a_span_after_any_date_of_the_clock_is_still_a_date() -> None:
    assert datetime(9000, 1, 1, tzinfo=UTC) + LONGEST < datetime.max.replace(tzinfo=UTC)


# References -----------------------------------------------------------------------------------------------------------


@given(st.builds(Reference, NAMES | TIMELY, st.sampled_from(["", "data", "attr"])))
def test_a_reference_is_told_and_read_again_the_same(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


def test_a_reference_of_an_open_kind_is_not_that_of_a_datum() -> None:
    assert Reference.parse("hep") == Reference("hep", "")
    assert Reference.parse("hep") != Reference.parse("data:hep")


def test_a_lifetimes_target_is_a_datum_said_or_not() -> None:
    assert With(Reference("hep")) == With(Reference("hep", "data"))
    assert With(Reference("hep")).target.kind == "data"


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a\n", "é", "x" * 129, "data:a"])
def test_a_name_that_nothing_can_have_is_no_reference(name: str) -> None:
    with pytest.raises(BitDewError) as refused:
        Reference(name)
    assert refused.value.key == "input.invalid"
    with pytest.raises(BitDewError) as refused:
        Reference.parse(f"attr:{name}")
    assert refused.value.key == "attribute.invalid"
    assert refused.value.fields == {"attribute": "affinity"}
