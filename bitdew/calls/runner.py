"""What a host runs for a call: `python3 calls.zip NUMBER`, where the archive's `__main__.py` calls this.

Owns how a call becomes the file `result`: one line of JSON that says what follows, and then that. Whatever the
function raises is a result too, so that only what broke the process itself is tried again elsewhere. It must not write
anything of this host into the result: several hosts may have to agree on it.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
import traceback
import zipfile
from typing import Any

from . import tagged

RESULT = "result"
"""The file that a call leaves."""
MOST_TRACE = 64 * 1024
"""Characters of a traceback that are told: its end."""
MOST_TEXT = 4096
"""Characters of a sentence."""


def main(archive: str, number: int) -> None:
    """Carry out the call `number` of `archive`, and leave what came of it."""
    with zipfile.ZipFile(archive) as file:
        said = json.loads(file.read("calls.json"))
        call = said["calls"][number]
        here = list(sys.version_info[:2])
        if call["bytecode"] and here != said["python"]:
            _leave({"kind": "python", "here": here})
            return
        function, arguments = file.read("functions/{}".format(call["function"])), file.read("calls/{}".format(number))
    try:
        value = _called(function, arguments, chunk=call["chunk"])
    except BaseException as fault:  # noqa: BLE001 (what it raised is the call's result)
        _leave_raised(fault, trust=said["trust"])
        return
    _leave_value(value, trust=said["trust"], most=said["most"])


def _called(function: bytes, arguments: bytes, *, chunk: bool) -> Any:
    run, given = pickle.loads(function), pickle.loads(arguments)  # noqa: S301 (the caller's own, in the caller's job)
    if chunk:
        return [run(*each) for each in given]
    positional, named = given
    return run(*positional, **named)


def _leave_value(value: Any, *, trust: bool, most: int) -> None:
    kind = "pickle" if trust else "value"
    try:
        raw = _pickled(value) if trust else tagged.told(value)
    except tagged.Untold as fault:
        _leave({"kind": "untold", "why": str(fault)[:MOST_TEXT]})
    except Exception as fault:  # noqa: BLE001 (whatever pickling raises)
        _leave({"kind": "untold", "why": "{}: {}".format(type(fault).__name__, fault)[:MOST_TEXT]})
    else:
        if len(raw) > most:
            _leave({"kind": "too-large", "size": len(raw)})
        else:
            _leave({"kind": kind}, raw)


def _leave_raised(fault: BaseException, *, trust: bool) -> None:
    trace = "".join(traceback.format_exception(type(fault), fault, _below(fault)))[-MOST_TRACE:]
    said = {
        "kind": "raised",
        "type": type(fault).__name__[:MOST_TEXT],
        "builtin": type(fault).__module__ == "builtins",
        "text": _text_of(fault),
        "notes": [str(one)[:MOST_TEXT] for one in getattr(fault, "__notes__", [])][:10],
        "trace": trace,
    }
    try:
        raw = tagged.told(fault.__reduce__()[1])
    except Exception:  # noqa: BLE001 (its text has to do)
        raw = b""
    if trust:
        with contextlib.suppress(Exception):  # else its name and its text have to do
            raw, said["kind"] = _pickled(fault), "pickled-raised"
    _leave(said, raw if len(raw) <= MOST_TRACE or trust else b"")


def _below(fault: BaseException) -> Any:
    """The traceback without this file's own frames."""
    trace = fault.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    return trace


def _text_of(fault: BaseException) -> str:
    try:
        return str(fault)[:MOST_TEXT]
    except Exception:  # noqa: BLE001 (an exception's own code)
        return ""


def _pickled(value: Any) -> bytes:
    import cloudpickle

    raw: bytes = cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return raw


def _leave(said: dict[str, Any], raw: bytes = b"") -> None:
    with open(RESULT, "wb") as file:
        file.write(json.dumps(said).encode() + b"\n" + raw)
