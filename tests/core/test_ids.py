"""Identities are fresh, and names are narrow."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.core.ids import checked_name, new_uid

ENDS = string.ascii_letters + string.digits
NAMES = st.from_regex(r"\A[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?\Z")


def test_a_uid_is_32_hexadecimal_digits_and_never_the_same() -> None:
    uids = [new_uid() for _ in range(1000)]
    assert len(set(uids)) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{32}", uid) for uid in uids)


@given(NAMES)
def test_a_name_of_the_alphabet_is_taken_as_it_is(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "-a", "a-", "a.", "..", "a/b", "a b", "a\n", "\na", "ä", "a\0b", "a" * 129, "a*", "٣", "a\u200b"],
)
def test_what_can_not_be_a_name_is_refused_by_what_it_should_name(name: str) -> None:
    with pytest.raises(BitDewError, match="can't be a host's name") as refused:
        checked_name(name, "host's name")
    assert refused.value.key == "input.invalid"
    assert refused.value.fields == {"field": "host's name"}
    assert "128" in refused.value.why


@given(st.text())
def test_any_text_is_a_name_or_refused(text: str) -> None:
    fits = bool(text) and len(text) <= 128 and set(text) <= set(ENDS + "._-") and {text[0], text[-1]} <= set(ENDS)
    if fits:
        assert checked_name(text) == text
    else:
        with pytest.raises(BitDewError):
            checked_name(text)


def test_a_long_name_does_not_make_a_long_message() -> None:
    with pytest.raises(BitDewError) as refused:
        checked_name("x" * 1_000_000)
    assert len(str(refused.value)) < 400
