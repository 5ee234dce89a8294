"""A program of its own: does with a machine what it is told by lines of JSON, through VirtualBox's own bindings.

Owns nothing of the worker: it runs in whatever Python has the module `vboxapi`, which comes with VirtualBox and is
built for one Python, seldom the worker's. So it must not import anything of BitDew. Each line is a list of words as
VBoxManage knows them; the answer is a line with an exit code and what VBoxManage would have said. It ends when its
input ends, when VirtualBox's service is gone, or when nothing was asked for a minute, so that the service may end too.
"""

from __future__ import annotations

import importlib
import json
import select
import sys
from typing import Any

IDLE = 60.0
"""Seconds without a question after which it ends."""
NOT_FOUND = "VBOX_E_OBJECT_NOT_FOUND"
_NOT_FOUND_CODE = 0x80BB0001
_OWN_CODES = 0x80BB0000  # VirtualBox's own errors; others say that the service is gone
_MARGIN = 0xFFFF
_WORDS = {"PoweredOff": "poweroff", "AbortedSaved": "aborted-saved", "Stuck": "gurumeditation"}
"""VBoxManage's words for the states that have another name in the bindings."""
_BOUNDS = ("First", "Last")  # names of the first and last of some states, whose numbers have names of their own
_ENDING_WITHIN = 15_000  # milliseconds
_DEEPEST = 250  # snapshots below each other


class LostError(Exception):
    """VirtualBox's service does not answer any more."""


class Bound:
    """VirtualBox through its bindings."""

    def __init__(self) -> None:
        self._manager: Any = importlib.import_module("vboxapi").VirtualBoxManager(None, None)
        self._box: Any = self._manager.getVirtualBox()
        self._constants: Any = self._manager.constants
        states = self._constants.all_values("MachineState")
        self._states = {
            value: _WORDS.get(name, name.lower()) for name, value in states.items() if not name.startswith(_BOUNDS)
        }

    def version(self) -> str:
        """VirtualBox's own."""
        return str(self._box.version)

    def do(self, words: list[str]) -> str:
        """What VBoxManage would answer to these words."""
        if words == ["list", "vms"]:
            machines = self._manager.getArray(self._box, "machines")
            return "\n".join(f'"{_name_of(machine)}" {{{machine.id}}}' for machine in machines)
        machine = self._box.findMachine(words[1])
        if words[0] == "showvminfo":
            return self._shown(machine)
        session = self._manager.getSessionObject(self._box)
        machine.lockMachine(session, self._constants.LockType_Shared)
        try:
            if session.console is None:
                raise RuntimeError("the machine does not run")
            self._control(session.console, words[2:])
        finally:
            session.unlockMachine()
        return ""

    def _shown(self, machine: Any) -> str:
        if not machine.accessible:
            raise RuntimeError("the machine is not accessible")
        lines = [f'VMState="{self._states[machine.state]}"', f'CfgFile="{machine.settingsFilePath}"']
        if machine.sessionState != self._constants.SessionState_Unlocked:
            lines.append('SessionName="headless"')
        if machine.snapshotCount:
            lines += _snapshots(self._manager, machine.findSnapshot(""), 0)
        return "\n".join(lines)

    def _control(self, console: Any, words: list[str]) -> None:
        if words == ["pause"]:
            console.pause()
        elif words == ["resume"]:
            console.resume()
        elif words == ["acpipowerbutton"]:
            console.powerButton()
        elif words == ["poweroff"]:
            console.powerDown().waitForCompletion(_ENDING_WITHIN)
        elif words[0] == "screenshotpng":
            self._picture(console.display, words[1])
        else:
            raise RuntimeError(f"unknown words: {words}")

    def _picture(self, display: Any, path: str) -> None:
        width, height = display.getScreenResolution(0)[:2]
        content = display.takeScreenShotToArray(0, width, height, self._constants.BitmapFormat_PNG)
        with open(path, "wb") as file:  # noqa: PTH123 - one import less in a program that starts often
            file.write(bytes(content))


def _name_of(machine: Any) -> str:
    return machine.name if machine.accessible else "<inaccessible>"


def _snapshots(manager: Any, snapshot: Any, depth: int) -> list[str]:
    found = [f'SnapshotName="{snapshot.name}"']
    if depth < _DEEPEST:
        for child in manager.getArray(snapshot, "children"):
            found += _snapshots(manager, child, depth + 1)
    return found


def _code_of(problem: BaseException) -> int:
    """The number of VirtualBox's error; 0 if it is none."""
    code = getattr(problem, "errno", None) or getattr(problem, "hresult", None) or 0
    return int(code) & 0xFFFFFFFF


def answer(bound: Bound, words: list[str]) -> tuple[int, str]:
    """Exit code and text.

    Raises:
        LostError: VirtualBox's service is gone.
    """
    try:
        return 0, bound.do(words)
    except RuntimeError as problem:
        return 1, f"VBoxManage: error: {problem}"
    except Exception as problem:  # the bindings raise classes of their own making, by platform
        code = _code_of(problem)
        if code == _NOT_FOUND_CODE:
            return 1, f"VBoxManage: error: {NOT_FOUND}"
        if _OWN_CODES < code < _OWN_CODES + _MARGIN:
            return 1, f"VBoxManage: error: {getattr(problem, 'msg', '') or problem}"
        raise LostError(str(problem)) from problem


def main() -> None:
    """Say VirtualBox's version, then answer line by line."""
    bound = Bound()
    _say(0, bound.version())
    while select.select([sys.stdin], [], [], IDLE)[0] and (line := sys.stdin.readline()):
        _say(*answer(bound, json.loads(line)))


def _say(code: int, text: str) -> None:
    sys.stdout.write(json.dumps([code, text]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
