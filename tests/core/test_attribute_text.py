"""The one-line language: what it takes, and that anything else is refused at the right place."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitdew.core.attribute import Attribute
from bitdew.core.attribute_keys import KEYS
from bitdew.core.attribute_text import MOST_CHARACTERS, parse_line, write_line
from bitdew.core.errors import BitDewError
from bitdew.core.requirement import Requirement

FULL = (
    "attr root = { replica = 3, ft = true, lifetime = 7d, affinity = hep-inputs, "
    'requires = "sharing=virtualbox, site in (orsay, lyon)", spread = rack, protocol = http, distrib = 2, '
    "pin = [pc1, pc2], priority = -5 }"
)


def refused(text: str) -> BitDewError:
    with pytest.raises(BitDewError) as fault:
        parse_line(text)
    return fault.value


def test_a_line_with_every_key_is_read_and_written_again_the_same() -> None:
    name, attribute = parse_line(FULL)
    assert name == "root"
    assert attribute.to_dict().keys() == KEYS.keys()
    assert write_line(name, attribute) == FULL


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("attr x={}", "attr x = {}"),
        ("  attr\tx  =  {  }  \n", "attr x = {}"),
        ("attr x={replica=-1,ft=true}", "attr x = { replica = -1, ft = true }"),
        ("attr x = { priority = 1, replica = 2 }", "attr x = { replica = 2, priority = 1 }"),
        ('attr "x" = { "replica" = 2, "affinity" = "hep" }', "attr x = { replica = 2, affinity = hep }"),
        ("attr x = { pin = [] }", "attr x = {}"),
        ('attr x = { pin = ["b" , a] }', "attr x = { pin = [a, b] }"),
        ("attr x = { requires = sharing.qemu }", "attr x = { requires = sharing.qemu }"),
        ("attr x = { affinity = attr:hep }", "attr x = { affinity = attr:hep }"),
        ('attr x = { lifetime = "2026-12-31 12:00Z" }', "attr x = { lifetime = 2026-12-31T12:00:00Z }"),
        ("attr x = { spread = true }", "attr x = { spread = true }"),
        ("attr attr = { replica = 1 }", "attr attr = { replica = 1 }"),
    ],
)
def test_a_line_has_one_canonical_form(text: str, canonical: str) -> None:
    assert write_line(*parse_line(text)) == canonical
    assert write_line(*parse_line(canonical)) == canonical


def test_escapes_in_quotes_are_read_and_written() -> None:
    requires = 'site = "a \\ b"\n and\tx = 1'
    line = write_line("x", Attribute(requires=Requirement(requires)))
    assert line == r'attr x = { requires = "site = \"a \\ b\"\n and\tx = 1" }'
    assert parse_line(line)[1].requires.text == requires


@pytest.mark.parametrize(
    ("text", "position", "why", "do"),
    [
        ("", 1, "'attr' is expected", "Write it like"),
        ("   ", 1, "'attr' is expected", "Write it like"),
        ("attr", 5, "name is expected", "Write it like"),
        ("attribute x = {}", 1, "begins with 'attr'", "Write it like"),
        ("attr x", 7, "'=' is expected", "Write it like"),
        ("attr x {}", 8, "'=' is expected", "Write it like"),
        ("attr x = ", 9, "'{' is expected", "Write it like"),
        ("attr x = {", 11, "a key is expected", "Write it like"),
        ("attr x = {} y", 13, "nothing is expected", "Write it like"),
        ("attr -x = {}", 6, "1 to 128", "Choose another name."),
        ("attr x = { replica }", 20, "'=' is expected", "Write it like"),
        ("attr x = { replica = }", 22, "the value of replica is expected", "Write it like"),
        ("attr x = { replica = 3 ", 23, "',' or '}' is expected", "Write it like"),
        ("attr x = { replica = 3, }", 25, "a key is expected", "Write it like"),
        ("attr x = { , }", 12, "a key is expected", "Write it like"),
        ("attr x = { replcia = 3 }", 12, "", "Did you mean 'replica'?"),
        ("attr x = { abstime = 3 }", 12, "", "Did you mean 'lifetime'?"),
        ("attr x = { replica = 3, replica = 3 }", 25, "only one of the two", "Correct"),
        ('attr x = { replica = "3" }', 22, "without quotes", "Did you mean 3?"),
        ("attr x = { replica = 3.0 }", 22, "a whole number", "Did you mean 3?"),
        ("attr x = { replica = nan }", 22, "a whole number", "Correct"),
        ("attr x = { replica = " + "9" * 30 + " }", 22, "a whole number", "Correct"),
        ("attr x = { replica = 9999999 }", 22, "from 0 to 1000000", "Did you mean 1000000?"),
        ("attr x = { replica = [3] }", 22, "a whole number", "Correct"),
        ("attr x = { ft = yes }", 17, "true or false", "Did you mean true?"),
        ('attr x = { ft = "true" }', 17, "without quotes", "Did you mean true?"),
        ("attr x = { protocol = torrent }", 23, "auto, bittorrent or http", "Did you mean 'bittorrent'?"),
        ("attr x = { lifetime = 7days }", 23, "the units are", "Did you mean '7d'?"),
        ("attr x = { lifetime = 7 days }", 25, "',' or '}' is expected", "Did you mean '7d'?"),
        ("attr x = { lifetime = 2026-12-31 12:00 }", 34, "',' or '}'", "Did you mean '2026-12-31T12:00Z'?"),
        ("attr x = { affinity = my data, ft = true }", 26, "',' or '}'", "Did you mean 'my-data'?"),
        ("attr x = { requires = a=1, ft = true }", 24, "',' or '}'", 'Write it in quotes: requires = "a=1"'),
        ("attr x = { requires = a in (b }", 25, "',' or '}'", 'Write it in quotes: requires = "a in (b"'),
        ("attr x = { pin = pc1 }", 18, "a list of hosts", "Write it as a list: [pc1]"),
        ("attr x = { pin = [pc1, ] }", 24, "an item of the list", "Write it like"),
        ("attr x = { pin = [pc1 pc2] }", 23, "',' or ']'", "Write it like"),
        ("attr x = { pin = [pc1 }", 23, "',' or ']'", "Write it like"),
        ("attr x = { pin = [[pc1]] }", 19, "an item of the list", "Write it like"),
        ('attr x = { pin = ["a b"] }', 18, "name of a host", "Did you mean 'a-b'?"),
        ('attr x = { requires = "a = 1 }', 23, "not closed", "Close it"),
        ('attr x = { requires = "a\\"}', 23, "not closed", "Close it"),
        (r'attr x = { requires = "a = \1" }', 28, "this escape means nothing", "There are"),
        ("attr x = {\n}", 11, "one line", "Write it like"),
        ("attr x = {\x00}", 11, "one line", "Write it like"),
        ('attr x = { requires = "a\x7f" }', 25, "one line", "Write it like"),
        ("attr x = {\ud800}", 11, "one line", "Write it like"),
        ("attr x = {\u2003}", 11, "no meaning here", "Write it like"),
        ("x" * (MOST_CHARACTERS + 1), MOST_CHARACTERS + 1, "longer than", "Write it like"),
    ],
)
def test_a_fault_is_told_with_its_position_and_what_was_meant(text: str, position: int, why: str, do: str) -> None:
    fault = refused(text)
    assert fault.key == "attribute.invalid"
    assert fault.fields["position"] == position
    assert f"at position {position}" in fault.message
    assert len(fault.message) < 200
    assert why in fault.why
    assert fault.do.startswith(do)


@pytest.mark.parametrize(
    ("value", "position"),
    [
        ('"site lyon"', 29),
        ('"site = "', 30),
        (r'"site = \"a\" x"', 37),
        (r'"\n\nsite ="', 34),
        (r'"memory > \"lots\""', 33),
        ("site", 27),
        (r'"a = 1 or \"\" \""', 38),
    ],
)
def test_a_fault_in_a_requirement_is_told_with_its_position_in_the_line(value: str, position: int) -> None:
    line = f"attr x = {{ requires = {value} }}"
    fault = refused(line)
    assert fault.key == "attribute.requires"
    assert fault.fields == {"position": position}
    assert fault.message.endswith(f"at position {position} of the line")


def test_the_longest_attribute_fits_into_a_line() -> None:
    widest = Attribute.from_dict({"requires": 'x = "' + "\\" * 1018 + '"', "pin": [f"{i:0128}" for i in range(64)]})
    line = write_line("x" * 128, widest)
    assert parse_line(line) == ("x" * 128, widest)


def test_a_name_that_no_attribute_can_have_is_not_written() -> None:
    with pytest.raises(BitDewError) as fault:
        write_line("a b", Attribute())
    assert fault.value.key == "input.invalid"


PARTS = ["attr", "x", "=", "{", "}", "[", "]", ",", '"', "\\", '"a b"', "3", "-1", "true", "7d", " ", "(", *KEYS]


@given(
    st.text()
    | st.lists(st.sampled_from(PARTS)).map("".join)
    | st.lists(st.sampled_from(PARTS)).map(lambda parts: "attr x = {" + " ".join(parts) + "}")
)
@example('attr x = {requires="\\')
@example('"')
@example("\x0b attr")
def test_any_text_is_a_line_or_refused_with_a_position_in_it(text: str) -> None:
    try:
        name, attribute = parse_line(text)
    except BitDewError as fault:
        assert fault.key in {"attribute.invalid", "attribute.requires"}  # noqa: PT017  (either outcome is right)
        assert 1 <= fault.fields["position"] <= len(text) + 1  # noqa: PT017
    else:
        assert parse_line(write_line(name, attribute)) == (name, attribute)


@given(st.data())
def test_a_line_with_one_character_changed_is_read_or_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(FULL)))
    text = FULL[:at] + data.draw(st.text(max_size=2)) + FULL[at + data.draw(st.integers(0, 2)) :]
    try:
        parse_line(text)
    except BitDewError as fault:
        assert 1 <= fault.fields["position"] <= len(text) + 1  # noqa: PT017  (either outcome is right)
