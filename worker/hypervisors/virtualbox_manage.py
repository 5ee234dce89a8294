"""VBoxManage, run as a program: the way in which this worker speaks with VirtualBox.

Where its bindings are wanted, they do what they know in its place (`virtualbox_bindings`). Owns the surroundings that
keep the volunteer's own machines out of reach: the worker has a VirtualBox home of its own, and, where VirtualBox's
programs find each other by a socket, a socket of its own. VirtualBox's service serves one home at a time for whoever
finds its socket, so that a home alone would not be enough.

Every command has a time within which it must end, and no more than a megabyte of its answer is read. A service that
does not answer is ended where no machine depends on it; what was only to be read is then read from a new one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid

from . import virtualbox_command as command
from .virtualbox_bindings import Bindings, SilentError
from .virtualbox_service import end_hung_service

_MOST: Final = 1024 * 1024
_KEPT: Final = ("HOME", "LOGNAME", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "USER", "USERNAME", "USERPROFILE")
_NOT_RUN: Final = ("Failed to create the VirtualBox object", "Failed to initialize COM", "failed to initialize COM")
"""What VBoxManage says when it did not reach VirtualBox's service, so that nothing was done."""
_MORE_TRIALS: Final = 3
_GLANCE: Final = 0.1
"""Seconds between two looks at a machine that changes: VBoxManage has no way to wait for that."""
_FULL: Final = ("VERR_DISK_FULL", "No space left", "Disk quota")
_READING: Final = frozenset({"list", "showvminfo"})
SOON: Final = 15.0
"""Seconds that a command has which only asks or tells something."""
USUAL: Final = 60.0
"""Seconds that a command has. They take a tenth of a second; on a loaded PC, and at VirtualBox's own start, longer."""


class VBoxManage:
    """VBoxManage with a home of the worker's own. All methods block.

    Args:
        program: Its name or path.
        home: Where VirtualBox keeps what it knows; made when it is needed.
        python: The Python whose bindings are to be used; "" for none.
    """

    def __init__(self, program: str, home: Path, python: str = "") -> None:
        self.home = home
        self.bindings = Bindings(python, home, self._environment) if python else None
        self._program = program

    @property
    def path(self) -> str | None:
        """Where the program is, if anywhere."""
        return shutil.which(self._program)

    def run(self, *words: str, within: float = USUAL) -> str:
        """What it answers to these words.

        Raises:
            HostError: `hypervisor.failed` with VirtualBox's own words; `hypervisor.missing`; `storage.full`.
        """
        code, told = self.ask(*words, within=within)
        if code == 0:
            return told
        why = command.last_error(told)
        key = "storage.full" if any(mark in told for mark in _FULL) else "hypervisor.failed"
        raise error(key, f"VirtualBox could not do this: {words[0]}", why=why or f"exit code {code}")

    def ask(self, *words: str, within: float = USUAL) -> tuple[int, str]:
        """Its exit code and what it says.

        Raises:
            HostError: `hypervisor.missing`; `hypervisor.failed`, if it does not end in time.
        """
        path = self.path
        if path is None:
            raise error("hypervisor.missing", "VirtualBox is not installed here", why=f"{self._program} not found")
        line = [path, "-q", *words]
        bound = self.bindings is not None and self.bindings.know(words)
        try:
            if self.bindings is not None and bound:
                return self.bindings.ask(words, within)
            code, told = self._once(line, within)
        except SilentError as silent:
            # Where a service ends while the bindings ask it, they may wait for its answer for ever.
            if not ((end_hung_service(self.home) or bound) and words[0] in _READING):
                raise _failed(line, str(silent)) from silent
            code, told = self._again(line, within)
        for trial in range(_MORE_TRIALS):
            if code == 0 or not any(mark in told for mark in _NOT_RUN):
                break
            time.sleep(_GLANCE * 2**trial)  # its service was about to start, or to end
            code, told = self._again(line, within)
        return code, told

    def view(self, uid: Uid) -> command.View | None:
        """A machine as VirtualBox has it, or None if it has none such.

        Raises:
            HostError: as `run` does.
        """
        code, told = self.ask("showvminfo", command.identity(uid), "--machinereadable", within=SOON)
        if code and "VBOX_E_OBJECT_NOT_FOUND" in told:
            return None
        if code and command.identity(uid) not in self.run("list", "vms", within=SOON):
            return None
        return command.parse_view(told) if code == 0 else command.View("")

    def settled(self, uid: Uid, within: float = USUAL) -> command.View | None:
        """A machine when it is neither changing nor, having ended, still held by its process.

        Raises:
            HostError: `hypervisor.failed`, if it goes on changing.
        """
        deadline = time.monotonic() + within
        while (view := self.view(uid)) is not None and view.state and not view.settled:
            if time.monotonic() > deadline:
                why = f"it has been {view.state} for {within:.0f} seconds"
                raise error("hypervisor.failed", f"VirtualBox is not done with machine {uid}", why=why, uid=uid)
            time.sleep(_GLANCE)
        return view

    def forget(self, uid: Uid, folder: Path) -> None:
        """Make VirtualBox forget a machine that has ended, and every medium in its folder. No file is removed.

        VirtualBox is never told to delete a medium: what lies behind the descriptor is the delivered image.

        Raises:
            HostError: `hypervisor.failed`.
        """
        if self.settled(uid) is not None:
            self.run("unregistervm", command.identity(uid))
        for kind, listed in (("disk", "hdds"), ("dvd", "dvds")):
            for medium in reversed(command.parse_media(self.run("list", listed, within=SOON))):
                if medium.is_relative_to(folder):
                    self.run("closemedium", kind, str(medium))

    def close(self) -> None:
        """Let go of what was started to ask it."""
        if self.bindings is not None:
            self.bindings.close()

    def machines(self) -> set[Uid]:
        """The machines that it has.

        Raises:
            HostError: as `run` does.
        """
        return command.parse_machines(self.run("list", "vms", within=SOON))

    def _again(self, line: list[str], within: float) -> tuple[int, str]:
        try:
            return self._once(line, within)
        except SilentError as silent:
            raise _failed(line, str(silent)) from silent

    def _once(self, line: list[str], within: float) -> tuple[int, str]:
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A file takes what it says, not a pipe: the service that it may start would keep a pipe open.
            with tempfile.TemporaryFile() as said:
                code = subprocess.run(
                    line,
                    cwd=self.home,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    timeout=within,
                    check=False,
                    start_new_session=True,  # Ctrl-C at the worker's terminal is not for VirtualBox's service
                ).returncode
                said.seek(0)
                return code, said.read(_MOST).decode("utf-8", "replace")
        except subprocess.TimeoutExpired as cause:
            raise SilentError(f"it did not answer within {within:.0f} seconds") from cause
        except OSError as cause:
            raise _failed(line, cause.strerror or str(cause)) from cause

    def _environment(self) -> dict[str, str]:
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
        own = {"VBOX_USER_HOME": str(self.home), "VBOX_IPC_SOCKETID": f"bitdew-{name}", "LC_ALL": "C", "LANG": "C"}
        return {"PATH": os.defpath, **kept, **own}


def _failed(line: list[str], why: str) -> BitDewError:
    return error("hypervisor.failed", f"VBoxManage could not be run: {line[2]}", why=why)
