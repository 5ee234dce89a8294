"""Sizes and durations are read as people write them, and whatever else is written is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.core.units import LARGEST_SIZE, format_size, parse_duration, parse_size

KIB = 1024


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("64MB", 64 * KIB**2),
        ("64 mb", 64 * KIB**2),
        ("64M", 64 * KIB**2),
        ("64MiB", 64 * KIB**2),
        ("1.5 GiB", 3 * KIB**3 // 2),
        ("20gb", 20 * KIB**3),
        ("1TB", KIB**4),
        ("  1k ", KIB),
        ("9007199254740993", 2**53 + 1),
        (str(LARGEST_SIZE), LARGEST_SIZE),
    ],
)
def test_a_size_is_read_to_the_byte(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "B", "-1", "1e3", "1.5.5", "1 PB", "1MBB", "5i", "5ib", "GB 1", "٣", "1,5GB", "nan"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BitDewError, match="is not a size") as refused:
        parse_size(text)
    assert refused.value.key == "input.invalid"
    assert "20GB" in refused.value.do


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "9" * 400 + "TB", str(LARGEST_SIZE + 1), "8388608TB"])
def test_a_size_that_no_disk_has_is_refused(text: str) -> None:
    with pytest.raises(BitDewError, match="too large a size") as refused:
        parse_size(text)
    assert refused.value.key == "input.invalid"


@given(st.integers(0, LARGEST_SIZE), st.sampled_from(["", "B", "b", " B"]))
def test_bytes_are_read_exactly(size: int, unit: str) -> None:
    assert parse_size(f"{size}{unit}") == size


@given(st.integers(0, 2**50))
def test_a_size_shown_to_people_is_read_again_within_a_rounding(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= max(size * 0.051, 0)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (64 * KIB**2, "64.0 MB"),
        (20 * KIB**3, "20.0 GB"),
        (2**50, "1024.0 TB"),
    ],
)
def test_a_size_is_shown_in_the_unit_that_suits_it(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("1.5 H", timedelta(minutes=90)),
        (" 0s ", timedelta()),
    ],
)
def test_a_duration_is_read(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1y", "1h30m", "1ms", "inf s", "٣s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BitDewError, match="is not a duration") as refused:
        parse_duration(text)
    assert refused.value.key == "input.invalid"
    assert "7d" in refused.value.do


@pytest.mark.parametrize("text", ["9" * 400 + "s", "9" * 20 + "w"])
def test_a_duration_beyond_all_time_is_refused(text: str) -> None:
    with pytest.raises(BitDewError, match="too long a duration"):
        parse_duration(text)


@given(st.integers(0, 10**7), st.sampled_from([("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_a_duration_is_its_number_of_units(number: int, unit: tuple[str, int]) -> None:
    assert parse_duration(f"{number}{unit[0]}").total_seconds() == number * unit[1]


@given(st.text() | st.from_regex(r"[0-9.]+ ?[kmgtsmhdwKMGTB]{0,3}"))
def test_any_text_is_read_or_refused_in_a_short_sentence(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            parse(text)
        except BitDewError as refused:
            assert refused.key == "input.invalid"  # noqa: PT017  (either outcome is right)
            assert len(str(refused)) < 500  # noqa: PT017
