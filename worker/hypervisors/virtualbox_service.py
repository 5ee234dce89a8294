"""The processes that VirtualBox runs for one home: its service, and one for each machine.

Owns how they are told from those of the volunteer's own VirtualBox: by the home in their environment. It must not end
machines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from bitdew.core.ids import Uid

from . import virtualbox_command as command

_SERVICE: Final = frozenset({"VBoxSVC", "VBoxSVC.exe"})
_GONE_WITHIN: Final = 5.0
_HOME: Final = "VBOX_USER_HOME"


def running_machines(home: Path) -> set[Uid]:
    """The machines that have a process with this home. Blocks for milliseconds."""
    found: set[Uid] = set()
    for process in _processes(home):
        with contextlib.suppress(psutil.Error):
            uid = command.machine_of(process.cmdline())
            if uid is not None:
                found.add(uid)
    return found


def end_hung_service(home: Path) -> bool:
    """End the service of this home, unless a machine runs, which would end with it; whether that was done. Blocks.

    It starts anew with the next command.
    """
    if running_machines(home):
        return False
    hung = []
    for process in _processes(home):
        with contextlib.suppress(psutil.Error):
            if process.name() in _SERVICE:
                process.kill()
                hung.append(process)
    _, left = psutil.wait_procs(hung, timeout=_GONE_WITHIN)
    return bool(hung) and not any(process.status() != psutil.STATUS_ZOMBIE for process in left)


def _processes(home: Path) -> Iterator[psutil.Process]:
    """This user's processes with this home. Those whose environment the system hides are not seen."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(_HOME) == str(home):
                yield process
