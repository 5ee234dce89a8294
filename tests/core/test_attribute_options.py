"""Attributes as options of a command: what is taken, and that anything else is refused with its argument."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.attribute import Attribute
from bitdew.core.attribute_keys import KEYS
from bitdew.core.attribute_options import MOST_ARGUMENTS, from_options, to_options
from bitdew.core.errors import BitDewError
from bitdew.core.requirement import Requirement

FULL = [
    *("--replica", "-1", "--ft", "--lifetime", "7d", "--affinity", "hep", "--requires", "site in (orsay, lyon)"),
    *("--spread", "rack", "--protocol", "http", "--distrib", "2", "--pin", "pc1", "--pin", "pc2", "--priority", "-5"),
]


def test_every_option_is_read_and_written_again_the_same() -> None:
    attribute = from_options(FULL)
    assert attribute.to_dict().keys() == KEYS.keys()
    assert to_options(attribute) == FULL


def test_no_wish_is_no_option() -> None:
    assert to_options(Attribute()) == []
    assert from_options([]) == Attribute()


@pytest.mark.parametrize(
    ("argv", "wishes"),
    [
        (["--replica=2"], {"replica": 2}),
        (["--priority", "5", "--ft", "--replica", "2"], {"replica": 2, "ft": True, "priority": 5}),
        (["--requires=a=1"], {"requires": "a=1"}),
        (["--requires="], {}),
        (["--pin", "b", "--pin=a", "--pin", "b"], {"pin": ["a", "b"]}),
    ],
)
def test_options_may_have_any_order_and_their_values_behind_a_sign(argv: list[str], wishes: dict[str, Any]) -> None:
    assert from_options(argv).to_dict() == wishes


def test_a_value_that_looks_like_an_option_is_a_value() -> None:
    attribute = Attribute(requires=Requirement("--ft = 1"))
    assert from_options(to_options(attribute)) == attribute


@pytest.mark.parametrize(
    ("argv", "argument", "message", "do"),
    [
        (["--replica"], 1, "--replica has no value", "Write it like --replica VALUE."),
        (["--ft", "--replica", "--ft"], 2, "replica can't be '--ft'", "Correct"),
        (["--replica", "3.0"], 1, "replica can't be '3.0'", "Did you mean 3?"),
        (["--replica", "all"], 1, "replica can't be 'all'", "Did you mean -1?"),
        (["--replica", "9" * 5000], 1, "replica can't be '9999", "Correct"),
        (["--ft=yes"], 1, "--ft takes no value", "Correct"),
        (["--ft", "true"], 2, "'true' is not an option", "Text with spaces"),
        (["--lifetime", "7", "days"], 1, "lifetime can't be '7'", "Did you mean '7d'?"),
        (["--lifetime", "7 days"], 1, "lifetime can't be '7 days'", "Did you mean '7d'?"),
        (["--protocol", "torrent"], 1, "protocol can't be 'torrent'", "Did you mean 'bittorrent'?"),
        (["--ft", "--replcia", "3"], 2, "'--replcia' is not an option", "Did you mean '--replica'?"),
        (["--abstime=3"], 1, "'--abstime=3' is not an option", "Did you mean '--lifetime'?"),
        (["--xyzzy"], 1, "'--xyzzy' is not an option", "The options are --replica, --ft, "),
        (["-r", "3"], 1, "'-r' is not an option", "Options begin with '--'."),
        ([""], 1, "'' is not an option", ""),
        (["--"], 1, "'--' is not an option", "The options are"),
        (["--ft", "--ft"], 2, "ft is given twice", "Correct"),
        (["--replica", "1", "--replica", "1"], 3, "replica is given twice", "Correct"),
        (["--pin", "a b"], 1, "pin can't be 'a b'", "Did you mean 'a-b'?"),
        (["--pin", "[a]"], 1, "pin can't be '[a]'", "Did you mean 'a'?"),
    ],
)
def test_a_fault_is_told_with_its_argument_and_what_was_meant(
    argv: list[str], argument: int, message: str, do: str
) -> None:
    with pytest.raises(BitDewError) as fault:
        from_options(argv)
    assert fault.value.key == "attribute.invalid"
    assert fault.value.message.startswith(message)
    assert len(fault.value.message) < 200
    assert fault.value.fields["argument"] == argument
    assert fault.value.do.startswith(do)


def test_a_fault_in_a_requirement_is_told_with_argument_and_position() -> None:
    with pytest.raises(BitDewError) as fault:
        from_options(["--ft", "--requires", "site lyon"])
    assert fault.value.key == "attribute.requires"
    assert fault.value.fields == {"argument": 2, "position": 6}


def test_more_pins_than_an_attribute_has_are_refused_however_they_are_given() -> None:
    with pytest.raises(BitDewError, match="pin can't be"):
        from_options([part for i in range(65) for part in ("--pin", f"pc{i}")])
    with pytest.raises(BitDewError, match="too many"):
        from_options(["--pin=a"] * (MOST_ARGUMENTS + 1))


ARGUMENTS = st.text(max_size=10) | st.sampled_from(["3", "-1", "true", "7d", "a = 1", *(f"--{key}" for key in KEYS)])


@given(st.lists(ARGUMENTS | st.builds("--{}={}".format, st.sampled_from(list(KEYS)), ARGUMENTS), max_size=6))
def test_any_arguments_are_an_attribute_or_refused(argv: list[str]) -> None:
    try:
        attribute = from_options(argv)
    except BitDewError as fault:
        assert fault.key in {"attribute.invalid", "attribute.requires"}  # noqa: PT017  (either outcome is right)
        assert 1 <= fault.fields["argument"] <= len(argv)  # noqa: PT017
    else:
        assert from_options(to_options(attribute)) == attribute
