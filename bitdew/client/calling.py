"""Calls of Python functions as an archive that hosts can run, and what comes back of them.

Owns what is believed of a result: a host may be anybody's, and nothing that it says is unpickled unless the program has
said that it trusts it. How a call runs there is `bitdew.calls`.
"""

from __future__ import annotations

import builtins
import io
import json
import pickle
import re
import sys
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from bitdew.calls.tagged import Untold, heard
from bitdew.core.errors import BitDewError, error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

ARCHIVE: Final = "calls.zip"
MOST_ARGUMENTS: Final = 256 * 2**20
"""Bytes of one call, packed: more is better given as data, which hosts fetch once."""
MOST_RESULT: Final = 16 * 2**20
"""Bytes of what one call may give back: as many values as a program can be made to hold by it are no danger."""
MOST_HEAD: Final = 1024 * 1024
"""Bytes of what stands before a result."""
_MAIN: Final = "import sys\nfrom bitdew_calls.runner import main\nmain(sys.argv[0], int(sys.argv[1]))\n"
_ODD: Final = re.compile(r"[^A-Za-z0-9._]+")
_REGISTRY: Final = threading.Lock()
# Those that a future or a generator takes for its own end are raised as something else.
_NOT_RAISED: Final = (StopIteration, StopAsyncIteration, BaseExceptionGroup)


class RemoteTraceback(Exception):  # noqa: N818 (it is no fault of its own)
    """The traceback of an exception on the host where it was raised: the `__cause__` of that exception here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._text = text

    def __str__(self) -> str:
        return f'\n"""\n{self._text}"""'


@dataclass(frozen=True, slots=True)
class Packed:
    """A call whose function and arguments are bytes.

    Attributes:
        name: The function's, for people.
        function: The function.
        arguments: Its arguments; of a chunk those of several calls.
        chunk: Whether it is several calls, whose results come back as a list.
    """

    name: str
    function: bytes
    arguments: bytes
    chunk: bool

    @property
    def size(self) -> int:
        """Bytes that it takes up."""
        return len(self.function) + len(self.arguments)


def packed(
    function: Callable[..., Any], arguments: Any, *, chunk: bool = False, modules: Sequence[ModuleType] = ()
) -> Packed:
    """A call, as it is now: what becomes of its arguments later does not change it.

    Args:
        function: What is called.
        arguments: Positional ones and named ones; or, of a chunk, a list of positional ones.
        chunk: See `Packed`.
        modules: Modules whose functions and classes go along; all others must be on the hosts. Those of the program
            itself, `__main__`, always do.

    Raises:
        UserError: `input.invalid`, for what can't be pickled; `input.too-large`.
    """
    import cloudpickle

    name = _ODD.sub("-", getattr(function, "__qualname__", type(function).__name__))[-60:].strip("-._") or "call"
    try:
        with _going_along(modules):
            call = Packed(name, cloudpickle.dumps(function), cloudpickle.dumps(arguments), chunk)
    except Exception as fault:
        why = f"{type(fault).__name__}: {fault}"
        do = "Give it what can be pickled: paths in place of open files, values in place of connections."
        raise error("input.invalid", f"The call of {name} can't be packed", why=why, do=do) from fault
    if call.size > MOST_ARGUMENTS:
        why = f"it has {call.size} bytes, and {MOST_ARGUMENTS} are allowed"
        do = "Put what is large as data, and name them as inputs: hosts fetch them once."
        raise error("input.too-large", f"The call of {name} is too large", why=why, do=do)
    return call


def archive(calls: Sequence[Packed], *, trust: bool) -> bytes:
    """The archive of which `python3 calls.zip NUMBER` carries out one of these calls."""
    functions: dict[bytes, int] = {}
    said = {
        "python": list(sys.version_info[:2]),
        "trust": trust,
        "most": MOST_RESULT,
        "calls": [
            {
                "function": functions.setdefault(call.function, len(functions)),
                "chunk": call.chunk,
                # What is pickled by name alone can be read by any Python.
                "bytecode": b"cloudpickle" in call.function or b"cloudpickle" in call.arguments,
            }
            for call in calls
        ],
    }
    raw = io.BytesIO(_base())
    with zipfile.ZipFile(raw, "a", compression=zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("calls.json", json.dumps(said))
        for function, number in functions.items():
            file.writestr(f"functions/{number}", function)
        for number, call in enumerate(calls):
            file.writestr(f"calls/{number}", call.arguments)
    return raw.getvalue()


def came_of(raw: bytes, name: str, host: str, *, trust: bool) -> Any:
    """What a call gave back, of the file that a host left.

    Args:
        raw: The file's bytes.
        name: The function's.
        host: The host's name.
        trust: Whether what is pickled may be unpickled.

    Raises:
        Exception: what the call raised: an exception of Python's own as itself, its traceback there as its cause.
        BitDewError: `job.raised`, for any other; `job.python`, `job.result`, `job.garbled`.
    """
    head, _, rest = raw.partition(b"\n")
    try:
        said: dict[str, Any] = json.loads(head[: MOST_HEAD + 1])
        kind = said["kind"]
        if kind == "value":
            return heard(rest)
        if kind == "pickle" and trust:
            return pickle.loads(rest)  # noqa: S301 (the program has said that it trusts whoever runs its calls)
        fault = _fault_of(said, rest, name, host, trust=trust)
    except Exception as broken:
        why = str(broken) if isinstance(broken, Untold) else "it is cut short, or nothing that a call leaves"
        raise error("job.garbled", f"What {host} gave back of {name} is no result", why=why, host=host) from broken
    raise fault


def again(fault: BitDewError) -> BitDewError:
    """The same fault, for another call: an exception that is raised twice would gather both tracebacks."""
    return error(fault.key, fault.message, why=fault.why, do=fault.do, **fault.fields)


# Inside ---------------------------------------------------------------------------------------------------------------


def _fault_of(said: dict[str, Any], rest: bytes, name: str, host: str, *, trust: bool) -> Exception:
    """Why there is no value. Raises whatever comes of what nobody of ours has written."""
    kind = said["kind"]
    if kind in {"raised", "pickled-raised"}:
        return _raised(said, rest, name, trust=trust and kind == "pickled-raised")
    if kind == "python":
        there, here = (".".join(str(int(n)) for n in pair[:2]) for pair in (said["here"], sys.version_info))
        why = f"it has Python {there}, this program has {here}, and bytecode is for one of them only"
        major, minor = sys.version_info[:2]
        needs = f"needs=['python3>={here},<{major}.{minor + 1}']"
        do = f"Run the program with Python {there}, or ask for hosts that have its own: {needs}"
        return error("job.python", f"{host} can't run {name}", why=why, do=do, there=there, here=here, host=host)
    if kind == "untold":
        do = (
            "Give back None, booleans, numbers, text, bytes, dates, and lists, tuples, dicts and sets of them; or say "
            "trust_results=True, where every host is trusted."
        )
        return error("job.result", f"What {name} gave back can't be told", why=_sentence(said["why"]), do=do)
    if kind == "too-large":
        why = f"it has {int(said['size'])} bytes, and {MOST_RESULT} are allowed"
        do = "Split the work into more calls, or submit a job that leaves files: dew.submit(outputs=…)"
        return error("job.result", f"What {name} gave back is too large", why=why, do=do)
    raise Untold("it is of a kind that is not asked for")


def _raised(said: dict[str, Any], rest: bytes, name: str, *, trust: bool) -> Exception:
    kind, text, trace = _sentence(said["type"]), _sentence(said["text"]), str(said["trace"])[:MOST_HEAD]
    notes = [_sentence(note) for note in said["notes"]][:10]
    fault = _trusted(rest) if trust else _builtin(kind, rest) if said["builtin"] is True else None
    if fault is None:
        fault = error("job.raised", f"{name} raised {kind}: {text}", type=kind, text=text)
    if not getattr(fault, "__notes__", None):
        for note in notes:
            fault.add_note(note)
    if isinstance(fault, ModuleNotFoundError):
        fault.add_note("A module of your own goes along if you say so: dew.executor(modules=[…]).")
    fault.__cause__ = RemoteTraceback(trace)
    return fault


def _builtin(kind: str, rest: bytes) -> Exception | None:
    """An exception of Python's own, by its name, if it is one that may be raised here."""
    found = getattr(builtins, kind, None)
    if not isinstance(found, type) or not issubclass(found, Exception) or issubclass(found, _NOT_RAISED):
        return None
    try:
        arguments = heard(rest)
        return found(*arguments) if isinstance(arguments, tuple) else None
    except Exception:  # noqa: BLE001 (it wants other arguments, or none were told)
        return None


def _trusted(rest: bytes) -> Exception | None:
    try:
        found = pickle.loads(rest)  # noqa: S301 (as in `came_of`)
    except Exception:  # noqa: BLE001 (it can be made there only)
        return None
    return found if isinstance(found, Exception) and not isinstance(found, _NOT_RAISED) else None


def _sentence(text: Any) -> str:
    return str(text)[:4096]


@contextmanager
def _going_along(modules: Sequence[ModuleType]) -> Iterator[None]:
    """Pickle what these modules define by value. It is said to cloudpickle as a whole: one thread at a time does so."""
    import cloudpickle

    if not modules:
        yield
        return
    with _REGISTRY:
        added = [one for one in modules if one.__name__ not in cloudpickle.list_registry_pickle_by_value()]
        for one in added:
            cloudpickle.register_pickle_by_value(one)
        try:
            yield
        finally:
            for one in added:
                cloudpickle.unregister_pickle_by_value(one)


@cache
def _base() -> bytes:
    """The archive without any calls: what runs them, and what unpickles them."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression=zipfile.ZIP_DEFLATED) as file:
        file.writestr("__main__.py", _MAIN)
        for package, within in (("bitdew.calls", "bitdew_calls"), ("cloudpickle", "cloudpickle")):
            for one in sorted(files(package).iterdir(), key=lambda one: one.name):
                if one.name.endswith(".py"):
                    file.writestr(f"{within}/{one.name}", one.read_bytes())
    return raw.getvalue()
