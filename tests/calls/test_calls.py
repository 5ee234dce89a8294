"""What calls give back: told as they are, read within bounds, and run by any Python, without a service."""

from __future__ import annotations

import ast
import json
import math
import pickle
import subprocess
import sys
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew import BitDewError
from bitdew.calls import runner, tagged
from bitdew.calls.tagged import Untold, heard, told
from bitdew.client import calling
from bitdew.client.calling import RemoteTraceback, archive, came_of, packed

HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=-3, minutes=-30))])),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.complex_numbers(allow_nan=False),
)
VALUES = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=3) | st.binary().map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=4),
    ),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_told_is_heard_with_its_types(value: Any) -> None:
    back = heard(told(value))
    assert back == value
    assert type(back) is type(value)


def test_every_kind_of_value_is_told() -> None:
    value = [
        {(1, "a"): frozenset({2}), None: range(3, 9, 2)},
        datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        date(2026, 1, 2),
        [Decimal("1.10"), Fraction(1, 3), UUID(int=7), 10**5000, -(2**53), math.inf],
        {"tuple": [1]},  # what looks like a tag
    ]
    assert heard(told(value)) == value
    assert math.isnan(heard(told(math.nan)))


def test_sets_are_told_the_same_in_whatever_order_they_are() -> None:
    assert told({"b", "a", "c"}) == told({"c", "b", "a"}) == b'{"set":["a","b","c"]}'


def test_what_derives_from_a_value_is_told_as_that() -> None:
    class Scalar(float):
        """As NumPy's own derive from Python's."""

    class Count:
        """As NumPy's integers: a number that says what it is to Python."""

        def item(self) -> int:
            return 7

    import numbers

    numbers.Number.register(Count)

    class Pair(NamedTuple):
        a: int
        b: int

    class Level(IntEnum):
        HIGH = 2

    given = [Scalar(1.5), Count(), Pair(1, 2), Level.HIGH, OrderedDict(a=1)]
    back = heard(told(given))
    assert back == [1.5, 7, (1, 2), 2, {"a": 1}]
    assert [type(one) for one in back] == [float, int, tuple, int, dict]


def cyclic() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize("value", [object(), len, [Path("x")], {1: {2: type}}, cyclic()])
def test_what_can_not_be_told_is_refused(value: Any) -> None:
    with pytest.raises(Untold):
        told(value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1,",
        b"\xff",
        b'{"a":1,"b":2}',
        b'{"object":[]}',
        b'{"set":[[1]]}',
        b'{"dict":[[1]]}',
        b'{"dict":[[[],1]]}',
        b'{"tuple":1}',
        b'{"bytes":"?"}',
        b'{"bytes":1}',
        b'{"int":"0xg"}',
        b'{"int":7}',
        b'{"fraction":["0x1","0x0"]}',
        b'{"decimal":"one"}',
        b'{"decimal":[0,[1],0]}',
        b'{"datetime":"never"}',
        b'{"timedelta":[1e300,0,0]}',
        b'{"timedelta":[1]}',
        b'{"complex":["x",1]}',
        b'{"uuid":"1"}',
        b'{"range":["0x1","0x2","0x0"]}',
        b"[" * 90_000,
        b"[" * 200 + b"]" * 200,
        b"9" * 10_000,
    ],
)
def test_a_text_that_nobody_of_ours_wrote_is_refused(text: bytes) -> None:
    with pytest.raises(Untold):
        heard(text)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_value_or_refused(text: bytes) -> None:
    try:
        heard(text)
    except Untold:
        return


# On a host ------------------------------------------------------------------------------------------------------------


def ran(folder: Path, *calls: calling.Packed, trust: bool = False, python: str = sys.executable) -> list[bytes]:
    """What each call leaves, where nothing of BitDew is installed."""
    (folder / "calls.zip").write_bytes(archive(calls, trust=trust))
    left = []
    for number in range(len(calls)):
        subprocess.run([python, "-I", "calls.zip", str(number)], cwd=folder, check=True, timeout=100)
        left.append((folder / "result").read_bytes())
        (folder / "result").unlink()
    return left


def value(raw: bytes, *, trust: bool = False) -> Any:
    return came_of(raw, "f", "h1", trust=trust)


def test_calls_of_one_archive_are_told_apart_and_functions_go_with_what_they_refer_to(tmp_path: Path) -> None:
    factor = 3

    def times(x: int, *, more: int = 0) -> tuple[int, int]:
        return x * factor + more, math.factorial(x)

    given = [packed(times, ((2,), {"more": 1})), packed(pow, ((2, 10), {})), packed(times, [(1,), (3,)], chunk=True)]
    assert [value(one) for one in ran(tmp_path, *given)] == [(7, 2), 1024, [(3, 1), (9, 6)]]


def test_exceptions_of_pythons_own_are_raised_as_themselves_with_their_traceback_there(tmp_path: Path) -> None:
    def missing() -> None:
        raise FileNotFoundError(2, "no such thing", "x")

    def noted() -> None:
        fault = ZeroDivisionError("by zero")
        fault.add_note("a note")
        raise fault

    left = ran(tmp_path, packed(missing, ((), {})), packed(noted, ((), {})), packed(math.sqrt, ((-1,), {})))
    with pytest.raises(FileNotFoundError, match="no such thing") as fault:
        value(left[0])
    assert (fault.value.errno, fault.value.filename) == (2, "x")
    assert isinstance(fault.value.__cause__, RemoteTraceback)
    assert "in missing" in str(fault.value.__cause__)
    assert "runner.py" not in str(fault.value.__cause__)
    with pytest.raises(ZeroDivisionError) as fault:
        value(left[1])
    assert fault.value.__notes__ == ["a note"]
    with pytest.raises(ValueError, match="domain") as fault:
        value(left[2])
    assert "calls.zip" not in str(fault.value.__cause__)  # nothing of the host: replicas have to agree


def test_other_exceptions_are_raised_by_their_key_and_none_ends_the_program(tmp_path: Path) -> None:
    class OddError(Exception):
        pass

    def raising(fault: type[BaseException]) -> None:
        raise fault("why")

    kinds = (OddError, SystemExit, KeyboardInterrupt, StopIteration)
    for raw, kind in zip(ran(tmp_path, *(packed(raising, ((one,), {})) for one in kinds)), kinds, strict=True):
        with pytest.raises(BitDewError) as fault:
            value(raw)
        assert (fault.value.key, fault.value.fields["type"]) == ("job.raised", kind.__name__)
        assert "why" in fault.value.message
        assert isinstance(fault.value.__cause__, RemoteTraceback)
    (raw,) = ran(tmp_path, packed(raising, ((OddError,), {})), trust=True)
    with pytest.raises(OddError):  # the very class: it goes there and back
        value(raw, trust=True)


def test_what_can_not_come_back_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (raw,) = ran(tmp_path, packed(object, ((), {})))
    with pytest.raises(BitDewError) as fault:
        value(raw)
    assert fault.value.key == "job.result"
    assert "trust_results" in fault.value.do
    monkeypatch.setattr(calling, "MOST_RESULT", 1000)
    (raw,) = ran(tmp_path, packed(bytes, ((2000,), {})))
    with pytest.raises(BitDewError) as fault:
        value(raw)
    assert (fault.value.key, "2680 bytes" in fault.value.why) == ("job.result", True)


def test_objects_come_back_where_results_are_trusted_and_nowhere_else(tmp_path: Path) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    (raw,) = ran(tmp_path, packed(Point, ((4,), {})), trust=True)
    back = value(raw, trust=True)
    assert (type(back), back.x) == (Point, 4)
    with pytest.raises(BitDewError) as fault:
        value(raw)
    assert fault.value.key == "job.garbled"


def test_nothing_is_unpickled_of_a_host_that_is_not_trusted() -> None:
    run = pickle.dumps(_Bomb())
    for kind in ("pickle", "pickled-raised", "value", "raised"):
        said = {"kind": kind, "type": "ValueError", "builtin": True, "text": "", "notes": [], "trace": ""}
        with pytest.raises(BitDewError) as fault:
            value(json.dumps(said).encode() + b"\n" + run)
        assert fault.value.key in {"job.garbled", "job.raised"}
    assert not _Bomb.went_off


class _Bomb:
    went_off = False

    def __reduce__(self) -> Any:
        return (setattr, (_Bomb, "went_off", True))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"[]\n1",
        b"{}\n1",
        b'{"kind":"raised"}\n',
        b'{"kind":"raised","type":1,"builtin":true,"text":[],"notes":1,"trace":0}\n',
        b'{"kind":"python","here":3}\n',
        b'{"kind":"python","here":["x"]}\n',
        b'{"kind":"too-large"}\n',
        b'{"kind":"value"}\n{',
        b'{"kind":["value"]}\n1',
        b"[" * 2_000_000,
    ],
)
def test_what_no_call_leaves_is_refused(raw: bytes) -> None:
    with pytest.raises(BitDewError) as fault:
        value(raw)
    assert fault.value.key == "job.garbled"


def test_an_exceptions_name_names_only_an_exception() -> None:
    for name in ("eval", "exit", "object", "SystemExit", "ExceptionGroup", "__import__", "nothing"):
        said = {"kind": "raised", "type": name, "builtin": True, "text": "", "notes": [], "trace": "there"}
        with pytest.raises(BitDewError) as fault:
            value(json.dumps(said).encode() + b"\n" + told(("1+1",)))
        assert fault.value.key == "job.raised"


def test_another_python_takes_no_bytecode_but_calls_what_it_knows_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mine() -> int:
        return 1

    with monkeypatch.context() as patch:
        patch.setattr(calling.sys, "version_info", (3, 2, 0))  # what the archive says that it was packed by
        raw = archive([packed(mine, ((), {})), packed(pow, ((2, 3), {}))], trust=False)
    (tmp_path / "calls.zip").write_bytes(raw)
    for number in (0, 1):
        subprocess.run([sys.executable, "calls.zip", str(number)], cwd=tmp_path, check=True, timeout=100)
        left = (tmp_path / "result").read_bytes()
        if number == 1:
            assert value(left) == 8
            continue
        with pytest.raises(BitDewError) as fault:
            value(left)
        here = ".".join(map(str, sys.version_info[:2]))
        assert (fault.value.key, fault.value.fields["there"]) == ("job.python", here)
        assert "needs=['python3>=" in fault.value.do


@pytest.mark.parametrize("module", [runner, tagged])
def test_what_goes_to_hosts_is_read_by_old_pythons_and_needs_the_standard_library_alone(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text(), feature_version=(3, 8))
    names = {one.module or "" for one in ast.walk(tree) if isinstance(one, ast.ImportFrom) and not one.level}
    names |= {alias.name for one in ast.walk(tree) if isinstance(one, ast.Import) for alias in one.names}
    assert names - {"cloudpickle"} <= sys.stdlib_module_names


def test_a_module_of_ones_own_goes_along_if_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownmodule.py").write_text("FACTOR = 4\ndef scaled(x):\n    return x * FACTOR\n")
    monkeypatch.syspath_prepend(tmp_path)
    import ownmodule  # type: ignore[import-not-found]

    host = tmp_path / "host"
    host.mkdir()
    given = packed(ownmodule.scaled, ((2,), {})), packed(ownmodule.scaled, ((2,), {}), modules=[ownmodule])
    left = ran(host, *given)
    with pytest.raises(ModuleNotFoundError) as fault:
        value(left[0])
    assert any("modules=" in note for note in fault.value.__notes__)
    assert value(left[1]) == 8
    monkeypatch.delitem(sys.modules, "ownmodule")


def test_what_can_not_be_packed_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BitDewError) as fault:
        packed(print, ((sys._getframe(),), {}))
    assert (fault.value.key, fault.value.message) == ("input.invalid", "The call of print can't be packed")
    monkeypatch.setattr(calling, "MOST_ARGUMENTS", 100)
    with pytest.raises(BitDewError) as fault:
        packed(len, ((b"x" * 200,), {}))
    assert fault.value.key == "input.too-large"
