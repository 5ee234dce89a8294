"""A machine's folder as QEMU's driver keeps it: the handle, the lock, the logs.

Owns the names of the files and what they prove. The lock is the proof of life: QEMU inherits the locked file, so that
the lock is held exactly as long as QEMU lives, from before the fork on, whatever became of the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from bitdew import lock
from bitdew.core.errors import error
from bitdew.core.ids import Uid
from bitdew.hypervisor import Handle, is_uid, remove_folder

DISK: Final = "disk.qcow2"
CONSOLE: Final = "console.log"
LOG: Final = "qemu.log"
SOCKET: Final = "qmp.sock"

_HANDLE: Final = "handle.json"
_LOCK: Final = "lock"
_ASKED: Final = "asked-to-end"
_TAIL: Final = 8192  # how much of QEMU's log is looked at
_SHUTDOWN: Final = re.compile(r"qemu_system_shutdown_request reason=(\d+)")
_SIGNALLED: Final = "terminating on signal"  # said instead of a trace
HOST_SIGNAL: Final = 4
"""QEMU's ShutdownCause for a signal that asked it to end."""


def claim(folder: Path) -> AbstractContextManager[int | None]:
    """Hold the machine's lock: its file descriptor, or None if the machine, or one being started, holds it.

    A process that inherits the descriptor keeps the lock after the block.
    """
    return lock.claim(folder / _LOCK)


def remove_unlocked(folder: Path) -> bool:
    """Remove the folder unless the machine's lock is held; whether it is gone. Blocks."""
    if not folder.is_dir():
        return True
    with claim(folder) as held:
        if held is None:
            return False
        remove_folder(folder)
        return True


def write_handle(folder: Path, driver: str, uid: Uid, data: dict[str, str | int]) -> Handle:
    """Replace the folder's handle, whole or not at all. Without data it is the intent to start the machine."""
    content = json.dumps({"driver": driver, "uid": uid, "data": data})
    fresh = folder / f".{_HANDLE}.{secrets.token_hex(4)}"
    try:
        with fresh.open("x", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / _HANDLE)
    finally:
        fresh.unlink(missing_ok=True)
    return Handle(driver, uid, data)


def read_handle(folder: Path) -> Handle | None:
    """The handle of a machine that was started, or None. What can't be read counts as never started."""
    try:
        found = json.loads((folder / _HANDLE).read_text("utf-8"))
        uid, data = found["uid"], found["data"]
        if not (data and is_uid(uid) and isinstance(data["pid"], int) and isinstance(data["folder"], str)):
            return None
        return Handle(found["driver"], Uid(uid), data)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def forget_handle(folder: Path) -> None:
    """After a failed start: the machine may be started again."""
    (folder / _HANDLE).unlink(missing_ok=True)


def note_asked(folder: Path) -> None:
    """Note that the worker ends the machine, so that its end is told from a failure, by a restarted worker too."""
    with contextlib.suppress(FileNotFoundError):  # somebody removed the folder of a machine that runs
        (folder / _ASKED).touch()


def forget_asked(folder: Path) -> None:
    """The machine runs again: that it was ended before says nothing of its next end."""
    (folder / _ASKED).unlink(missing_ok=True)


def was_asked(folder: Path) -> bool:
    """Whether the worker ended the machine."""
    return (folder / _ASKED).exists()


def shutdown_cause(folder: Path) -> int | None:
    """Why QEMU shut down, from its log: a number of its ShutdownCause. None if it did not say."""
    log = _tail(folder)
    if _SIGNALLED in log:
        return HOST_SIGNAL
    found = _SHUTDOWN.findall(log)
    return int(found[-1]) if found else None


def last_words(folder: Path) -> str:
    """The last lines that QEMU wrote, without the trace; at most 600 characters."""
    lines = [line.strip() for line in _tail(folder).splitlines() if line.strip() and not _SHUTDOWN.search(line)]
    return " | ".join(lines[-5:])[-600:]


def _tail(folder: Path) -> str:
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            return file.read(_TAIL).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def folder_of(handle: Handle) -> Path:
    """The folder that a handle names.

    Raises:
        UserError: `input.invalid`, if the handle is not of this driver's making.
    """
    folder = handle.data.get("folder")
    if handle.driver == "qemu" and isinstance(folder, str) and is_uid(handle.uid) and Path(folder).name == handle.uid:
        return Path(folder)
    raise error("input.invalid", "This is not a handle of the QEMU driver", uid=str(handle.uid)[:40])


def pid_of(handle: Handle) -> int:
    """The process that a handle names; 0 if none."""
    pid = handle.data.get("pid", 0)
    return pid if isinstance(pid, int) else 0
