"""The standard streams that a command is given: they may be closed, full, or read by nobody.

Owns that each of them is there, and what becomes of one that takes nothing more. It must not print.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import error

if TYPE_CHECKING:
    from bitdew.core.errors import BitDewError

_UNWRITTEN: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
_STREAMS: Final = {"stdin": (0, "r"), "stdout": (1, "w"), "stderr": (2, "w")}


def open_closed() -> None:
    """Put the null device where a standard stream is closed: else the first file opened would take its place."""
    for name, (number, mode) in _STREAMS.items():
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, open(nothing, mode, encoding="utf-8", closefd=nothing != number))  # noqa: SIM115


def stop_writing() -> None:
    """Send what is still to be written nowhere, so that the interpreter does not fail on it at its end."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


def unwritten() -> BitDewError | None:
    """Why what is still to be written can't be, or None, if it could.

    Raises:
        BrokenPipeError: Its reader is gone.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as fault:
        return of_writing(fault)
    return None


def of_writing(fault: Exception) -> BitDewError | None:
    """The error for a failed write to a stream, after which no more is written; None, if `fault` is of another kind."""
    if not isinstance(fault, OSError) or fault.errno not in _UNWRITTEN or fault.filename is not None:
        return None
    with suppress(OSError, ValueError):
        stop_writing()
    return error("output.unwritten", "What the command writes can't be written", why=fault.strerror or str(fault))
