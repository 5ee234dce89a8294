"""The table of errors is complete, says what to do, and is what the product raises: no more, no less."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from bitdew.core.errors import ERRORS, BitDewError, HostError, PeerError, ServiceError, UserError, error

ROOT = Path(__file__).parents[2]
CLASSES = {"user": UserError, "service": ServiceError, "host": HostError, "peer": PeerError}
EXIT_CODES = {1, 2, 3, 4, 5, 6, 7, 8, 130}
"""As documented above the table."""


@cache
def sources() -> dict[str, ast.Module]:
    """The product's modules, parsed."""
    files = [p for folder in ("bitdew", "catalog", "scheduler", "worker") for p in (ROOT / folder).rglob("*.py")]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in files}


def raised() -> dict[str, set[str]]:
    """The keys that are written in a call of `error` or of an error's class, each with the files where that is."""
    calls = {"error", "BitDewError", *(kind.__name__ for kind in CLASSES.values())}
    found: dict[str, set[str]] = {}
    for file, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and getattr(node.func, "id", "") in calls:
                for part in ast.walk(node.args[0]):  # also both sides of a choice
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        found.setdefault(part.value, set()).add(file)
    return found


def mentioned() -> set[str]:
    """Every text that stands in the sources outside the table, docstrings aside."""
    return {
        node.value
        for file, tree in sources().items()
        if file != "bitdew/core/errors.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_key_that_the_product_raises_is_in_the_table() -> None:
    assert len(raised()) > 20
    assert {key: files for key, files in raised().items() if key not in ERRORS} == {}


def test_no_key_of_the_table_is_unused() -> None:
    assert sorted(ERRORS.keys() - mentioned()) == []


def test_every_row_of_the_table_is_whole() -> None:
    command = re.compile(r"bitdew [a-z]+( [a-z]+){0,2}( [A-Z]+| --[a-z]+)*$")
    for key, kind in ERRORS.items():
        assert re.fullmatch(r"[a-z]+(\.[a-z]+(-[a-z]+)*)?", key), key
        assert kind.fault in CLASSES, key
        assert 400 <= kind.status < 600, key
        assert kind.exit_code in EXIT_CODES, key
        assert re.fullmatch(r"[A-Z].*\.", kind.meaning), key
        assert re.match(r"[A-Z]", kind.do), key
        assert kind.do.endswith(".") or command.search(kind.do), key
        assert kind.do != kind.meaning, key


def test_what_is_not_found_or_not_allowed_ends_a_command_alike_everywhere() -> None:
    for key, kind in ERRORS.items():
        assert (kind.status == 404) == (kind.exit_code == 3), key
        assert (kind.status in {401, 403}) == (kind.exit_code == 5), key


def test_no_two_keys_differ_only_in_their_spelling() -> None:
    plain = [re.sub(r"[^a-z]", "", key) for key in ERRORS]
    assert len(set(plain)) == len(plain)
    assert len({kind.meaning for kind in ERRORS.values()}) == len(ERRORS)


def test_an_error_is_of_the_class_of_whose_fault_it_is() -> None:
    for key, kind in ERRORS.items():
        fault = error(key, "Something happened")
        assert type(fault) is CLASSES[kind.fault], key
        assert fault.kind is kind, key


def test_an_error_tells_what_why_and_the_key() -> None:
    fault = error("storage.full", "The disk does not fit", why="3 GB are wanted, 1 GB is free", wanted=3, free=1)
    assert str(fault) == "The disk does not fit (3 GB are wanted, 1 GB is free) [storage.full]"
    assert fault.fields == {"wanted": 3, "free": 1}


def test_an_error_without_a_cause_tells_no_brackets() -> None:
    assert str(error("disk.empty", "It is empty")) == "It is empty [disk.empty]"


def test_the_next_step_is_the_tables_unless_the_place_knows_better() -> None:
    assert error("disk.empty", "It is empty").do == ERRORS["disk.empty"].do
    assert error("disk.empty", "It is empty", do="Fill it.").do == "Fill it."


def test_an_unknown_key_is_a_defect_and_no_error_of_ours() -> None:
    with pytest.raises(KeyError):
        error("no.such-key", "Something happened")


def test_fields_may_have_any_name() -> None:
    fields = {"self": 1, "key": 2, "message": 3, "kind": 4}
    fault = error("disk.empty", "It is empty", **fields)
    assert isinstance(fault, BitDewError)
    assert (fault.key, fault.message, fault.fields) == ("disk.empty", "It is empty", fields)
