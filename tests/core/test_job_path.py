"""Paths inside a job's folder: the same bounds for whoever submits, the service and the host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.core.job_path import DEPTH, NAME_BYTES, PATH_BYTES, checked_path, pattern_parts, why_no_path

LONG = "/".join(["n" * 200] * 6)


DEEP = "/".join("a" * (DEPTH + 1))
BAD = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "a/../b",
    "./a",
    "a//b",
    "a/",
    "a\nb",
    "a\0b",
    "a\\b",
    "\udcff",
    "n" * 256,
    LONG,
    DEEP,
]


@pytest.mark.parametrize("path", BAD)
def test_a_path_that_leads_elsewhere_or_is_too_long_is_refused_with_a_reason(path: str) -> None:
    with pytest.raises(BitDewError) as refused:
        checked_path(path)
    assert (refused.value.key, refused.value.why) == ("input.invalid", why_no_path(path))
    assert why_no_path(path)
    with pytest.raises(BitDewError):
        pattern_parts(path)


@given(st.lists(st.text("aé√ .*", min_size=1, max_size=60), min_size=1, max_size=DEPTH))
def test_a_path_is_taken_if_and_only_if_each_name_is_one_and_all_are_short_enough(names: list[str]) -> None:
    path = "/".join(names)
    fits = len(path.encode()) <= PATH_BYTES and max(len(name.encode()) for name in names) <= NAME_BYTES
    assert (why_no_path(path) == "") == (fits and {".", ".."}.isdisjoint(names))


def test_a_pattern_looks_into_any_depth_twice_at_most() -> None:
    assert pattern_parts("plots/**/a*.png") == ("plots", "**", "a*.png")
    with pytest.raises(BitDewError) as refused:
        pattern_parts("**/**/**")
    assert refused.value.key == "input.invalid"
