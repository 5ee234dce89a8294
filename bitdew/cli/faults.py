"""How a command ends: by the exit code of the error's kind, with one clear message and no traceback.

Owns the translation of errors, of wrong usage and of defects. What is not one of our errors is a defect: its traceback
goes to a file that the message names.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bitdew.core.errors import BitDewError, error

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG_LIMIT: Final = 1024 * 1024
"""Bytes of the file of defects; past it, it starts anew."""


def report(fault: BitDewError, *, as_json: bool) -> int:
    """Print `fault` and return the exit code."""
    if as_json:
        told = {"schema": "ErrorReply/1", "error": as_dict(fault)}
        try:
            sys.stdout.write(json.dumps(told, ensure_ascii=sys.stdout.isatty(), default=str) + "\n")
        except BrokenPipeError:
            raise
        except OSError:
            return report(fault, as_json=False)
    else:
        from .output import printable

        lines = [f"Error: {fault.message}"]
        if fault.why:
            lines.append(f"  Why: {fault.why}")
        lines += [f"  Do:  {fault.do}", f"  Key: {fault.key}"]
        with suppress(OSError):  # the exit code says it too
            sys.stderr.write(printable("\n".join(lines)) + "\n")
    return fault.kind.exit_code


def as_dict(fault: BitDewError) -> dict[str, Any]:
    """The error as `--json` shows it."""
    fields = {name: value for name, value in fault.fields.items() if _plain(value)}
    return {"key": fault.key, "message": fault.message, "why": fault.why, "do": fault.do, "fields": fields}


def wrong_usage(message: str, command: str, meant: Sequence[str] = ()) -> BitDewError:
    """The error for options and arguments that the command does not know; `meant` are commands that may be meant."""
    guess = f"There is {', '.join(meant)}. " if meant else ""
    return error("input.invalid", message, do=f"{guess}See what it takes: {command} --help")


def not_text(word: str) -> BitDewError:
    """The error for a word of the command that has to be stored or sent as text, and is none."""
    shown = word.encode("utf-8", "backslashreplace").decode()[:200]
    return error("input.invalid", f"{shown} is not UTF-8", do="Give it a name in UTF-8, or rename the file.")


def defect(fault: BaseException) -> BitDewError:
    """The error for what should not have happened; the traceback goes to a file."""
    where = _write("".join(traceback.format_exception(fault)))
    message = f"This is a defect of ours: {type(fault).__name__}: {str(fault)[:500]}"
    return error("internal", message, do=f"Please report it with {where}; nothing that was stored is lost.", log=where)


def _write(trace: str) -> str:
    from bitdew.client.profiles import home_folder

    command = " ".join("token…" if argument.startswith("bitdew-join-") else argument for argument in sys.argv)
    entry = f"{datetime.now(UTC).isoformat()} {command}\n{trace}\n"
    for folder in (home_folder(), Path(tempfile.gettempdir())):
        path = folder / "bitdew-defects.log"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.exists() and path.stat().st_size > LOG_LIMIT
            with path.open("w" if fresh else "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(entry)
        except OSError:
            continue
        return str(path)
    return "the message above"


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool | list | dict | type(None))
