"""Attributes in a TOML file: what it takes, and that anything else is refused with its line."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.attribute import Attribute
from bitdew.core.attribute_keys import KEYS
from bitdew.core.attribute_toml import MOST_CHARACTERS, parse_toml, write_toml
from bitdew.core.errors import BitDewError
from bitdew.core.requirement import Requirement

FULL = """\
[attr.root]
replica = 3
ft = true
lifetime = "7d"
affinity = "hep-inputs"
requires = "sharing=virtualbox, site in (orsay, lyon)"
spread = "rack"
protocol = "http"
distrib = 2
pin = ["pc1", "pc2"]
priority = -5

[attr."with.dots"]
"""


def refused(text: str) -> BitDewError:
    with pytest.raises(BitDewError) as fault:
        parse_toml(text)
    return fault.value


def test_a_file_with_every_key_is_read_and_written_again_the_same() -> None:
    attributes = parse_toml(FULL)
    assert list(attributes) == ["root", "with.dots"]
    assert attributes["root"].to_dict().keys() == KEYS.keys()
    assert attributes["with.dots"] == Attribute()
    assert write_toml(attributes) == FULL


def test_an_empty_file_has_no_attributes() -> None:
    assert parse_toml("") == parse_toml("# nothing\n") == {}
    assert write_toml({}) == ""


@pytest.mark.parametrize(
    "text",
    [
        "[attr]\nx.replica = 3",
        "attr = { x = { replica = 3 } }",
        "attr.x.replica = 3",
        "[attr.'x']\r\n'replica' = +3 # three\r\n",
        "[ attr . x ]\nreplica = 0x3",
    ],
)
def test_every_way_that_toml_has_of_writing_a_table_is_read(text: str) -> None:
    assert parse_toml(text) == {"x": Attribute(replica=3)}


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("2026-12-31", "2026-12-31"),
        ("2026-12-31T12:00:00Z", "2026-12-31T12:00:00Z"),
        ("2026-12-31 12:00:00.25+02:00", "2026-12-31T10:00:00.250000Z"),
        ('"2026-12-31"', "2026-12-31"),
        ("'7d'", "7d"),
    ],
)
def test_a_lifetime_may_be_a_date_of_tomls_own(written: str, canonical: str) -> None:
    assert str(parse_toml(f"[attr.x]\nlifetime = {written}")["x"].lifetime) == canonical


def test_names_may_have_as_many_dots_as_they_like_in_quotes() -> None:
    name = ".".join("x" * 64)
    attributes = {name: Attribute(pin=(name, "pc1", f"y{name}"))}
    assert parse_toml(write_toml(attributes)) == attributes


def test_a_text_of_several_lines_is_read_and_written() -> None:
    attribute = parse_toml('[attr.x]\nrequires = """\nsite = lyon\nand rack = "a \\\\ b"\n"""')["x"]
    assert attribute.requires == Requirement('site = lyon\nand rack = "a \\ b"')
    assert write_toml({"x": attribute}) == '[attr.x]\nrequires = "site = lyon\\nand rack = \\"a \\\\ b\\""\n'


@pytest.mark.parametrize(
    ("text", "line", "why", "do"),
    [
        ("[attr.x]\nreplica = = 3\n", 2, "invalid value", "Correct the line."),
        ("[attr.x]\nlifetime = 7d\n", 2, "expected newline", "Correct the line."),
        ("[attr.x]\nlifetime = 2026-02-30\n", 2, "invalid date", "Correct the line."),
        ('[attr.x]\nlifetime = "7', 2, "unterminated string", "Correct the line."),
        ("[attr.x]\nreplica = 3\nreplica = 3\n", 3, "given twice", "Correct the line."),
        ("[attr.x]\n\n[attr.x]\n", 3, "given twice", "Correct the line."),
        ("attr = {x = {replica = 1, replica = 1}}", 1, "", "Correct the line."),
        ("[attr.x]\nreplica = " + "9" * 5000, 2, "a number is too long", "Correct the line."),
        ("[attr.x]\npin = " + "[" * 10_000, 1, "nested too deep", "Correct the line."),
        ("#" * (MOST_CHARACTERS + 1), 1, "longer than", "Correct the line."),
        ("\nattr." + "a." * 100_000 + "x = 1", 2, "dots outside quotes", "Correct the line."),
        ("[attr.x]\npin = [", 2, "", "Correct the line."),
        ("[attr.x]\n\nreplcia = 3\n", 3, "", "Did you mean 'replica'?"),
        ("[attr.y]\nreplica = 1\n[attr.x]\nreplica = 3.0\n", 4, "of type int", "Did you mean 3?"),
        ("[attr.x]\nreplica = nan\n", 2, "of type int", "Correct"),
        ("[attr.x]\nreplica = inf\n", 2, "of type int", "Correct"),
        ("[attr.x]\nreplica = 99999999999999999999999999\n", 2, "from 0 to", "Did you mean 1000000?"),
        ("[attr.x]\nreplica = true\n", 2, "of type int", "Correct"),
        ("[attr.x]\nft = 1\n", 2, "of type bool", "Did you mean true?"),
        ("[attr.x]\nprotocol = 'torrent'\n", 2, "auto, bittorrent or http", "Did you mean 'bittorrent'?"),
        ("[attr.x]\nlifetime = '7 days'\n", 2, "the units are", "Did you mean '7d'?"),
        ("[attr.x]\nlifetime = 2026-12-31T12:00:00\n", 2, "time zone", "Did you mean '2026-12-31T12:00:00Z'?"),
        ("[attr.x]\nlifetime = 12:00:00\n", 2, "of type str", "Correct"),
        ("[attr.x]\naffinity = 2026-12-31\n", 2, "of type str", "Correct"),
        ("[attr.x]\npin = 'pc1'\n", 2, "a list of hosts", "Write it as a list: [pc1]"),
        ("[attr.x]\nrequires = 'site lyon'\n", 2, "an operator is expected", "Correct"),
        ('[attr.x]\nrequires = "a = \\u0000"\n', 2, "no meaning", "Correct"),
        ("[attr.'a b']\nreplica = 1\n", 1, "1 to 128", "Choose another name."),
    ],
)
def test_a_fault_is_told_with_its_line_and_what_was_meant(text: str, line: int, why: str, do: str) -> None:
    fault = refused(text)
    assert fault.key == ("attribute.requires" if "requires" in text else "attribute.invalid")
    assert fault.fields["line"] == line
    assert f"line {line}" in fault.message
    assert len(fault.message) < 250
    assert why in fault.why
    assert fault.do.startswith(do)


@pytest.mark.parametrize(
    ("text", "message", "do"),
    [
        ("[atr.x]", "'atr' is not a table of attributes", "Did you mean [attr.NAME]?"),
        ("[disk.x]", "'disk' is not a table of attributes", "Each attribute is a table [attr.NAME]."),
        ("attr = 3", "attr is not a table of attributes", "Each attribute is a table [attr.NAME]."),
        ("[[attr]]", "attr is not a table of attributes", "Each attribute is a table [attr.NAME]."),
        ("attr.x = 3", "x is not a table", "Write its keys below [attr.x]."),
        ("[[attr.x]]", "x is not a table", "Write its keys below [attr.x]."),
        ("[attr.a.b]\nreplica = 3", "'b' can't be a table", 'stands in quotes: [attr."a.b"]'),
        ("[attr.x.pin]", "'pin' can't be a table", "A name with dots"),
    ],
)
def test_what_is_no_table_of_attributes_is_refused_not_skipped(text: str, message: str, do: str) -> None:
    fault = refused(text)
    assert fault.key == "attribute.invalid"
    assert message in fault.message
    assert do in fault.do


def test_a_name_that_no_attribute_can_have_is_not_written() -> None:
    with pytest.raises(BitDewError) as fault:
        write_toml({"a b": Attribute()})
    assert fault.value.key == "input.invalid"


PARTS = [
    "[attr.x]",
    "[attr]",
    "\n",
    "=",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "3",
    "nan",
    "1e9",
    "true",
    "7d",
    "2026-12-31",
    *KEYS,
]


@given(st.text() | st.lists(st.sampled_from(PARTS)).map(" ".join) | st.lists(st.sampled_from(PARTS)).map("".join))
def test_any_text_is_a_file_of_attributes_or_refused(text: str) -> None:
    try:
        attributes = parse_toml(text)
    except BitDewError as fault:
        assert fault.key in {"attribute.invalid", "attribute.requires"}  # noqa: PT017  (either outcome is right)
        assert 1 <= fault.fields.get("line", 1) <= text.count("\n") + 1  # noqa: PT017
    else:
        assert len(tomllib.loads(text).get("attr", {})) == len(attributes)
        assert parse_toml(write_toml(attributes)) == attributes
