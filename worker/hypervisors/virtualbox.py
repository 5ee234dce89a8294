"""The VirtualBox driver: machines that VirtualBox keeps, in a home of the worker's own.

Owns what happens at the same time: waiting for a machine's end, ending it within a time. The steps themselves, and what
makes them safe against a worker killed at any point, are `virtualbox_steps`. All machines here are ours, and are
addressed by their uid; the volunteer's own are in another home.

The delivered image is the extent of a descriptor in the machine's folder, which nothing but differencing disks are
based on. It must not decide when machines run, and knows nothing of swarms, orders or the service.

Exit order: `close` ends what was started to ask VirtualBox; its service ends some seconds after its last machine.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Sharing
from bitdew.core.ids import Uid
from bitdew.hypervisor import (
    Capabilities,
    Fingerprint,
    Handle,
    MachineSpec,
    MachineStatus,
    check_abilities,
)

from . import machine_folder as files
from . import virtualbox_command as command
from .acquaintance import Acquaintance
from .machine_process import MachineProcess
from .threads import to_the_end
from .virtualbox_manage import SOON, VBoxManage
from .virtualbox_probe import MODULE, VirtualBoxFound, probe_virtualbox
from .virtualbox_steps import DRIVER, Steps, folder_of, process_of

_ENDED_WITHIN: Final = 20.0  # seconds for VirtualBox to end a machine that it was told to end
_LOOK: Final = 20.0
"""Seconds between two looks at whether a machine is stuck: VirtualBox keeps the process of one whose virtual processors
failed, and tells nobody."""
_GLANCE: Final = 0.2
_LEFT_WITHIN: Final = 60.0
"""Seconds that a process has to end after its machine has; then it does nothing any more that could be waited for."""


class VirtualBoxHypervisor:
    """The driver. See `bitdew.hypervisor.Hypervisor` for what each method promises.

    Args:
        home: Where VirtualBox keeps what it knows of this worker's machines.
        program: VBoxManage's name or path.
        extra_modifyvm: Further words for `VBoxManage modifyvm`, for each machine.
        python: The Python whose bindings of VirtualBox (`vboxapi`) look after machines that were made; "" for none.
    """

    name: Final = DRIVER
    capabilities: Final = Capabilities(
        graceful_stop=True,
        outlives_worker=True,
        pause=True,
        snapshot=True,
        screenshot=True,
        seed=True,
        network=True,
    )

    def __init__(
        self, home: Path, *, program: str = "VBoxManage", extra_modifyvm: Sequence[str] = (), python: str = ""
    ) -> None:
        self._manage = VBoxManage(program, home, python)
        self._extra = tuple(extra_modifyvm)
        self._steps = Steps(self._manage, self._extra)
        self._known: Acquaintance[VirtualBoxFound] = Acquaintance(
            (program, str(MODULE)), lambda: probe_virtualbox(self._manage, self._extra)
        )

    @property
    def missing(self) -> str:
        """What was missing when it was tried last."""
        return self._known.missing

    @property
    def doubtful(self) -> bool:
        """Whether something failed since."""
        return self._known.doubtful

    async def fingerprint(self) -> Fingerprint | None:
        """What VirtualBox is here, by starting an empty machine; asked once, unless that is to be doubted."""
        found = await self._known.look()
        if found is None:
            return None
        details = {"version": found.version, "program": found.program}
        if self._manage.bindings is not None:
            details["bindings"] = self._manage.bindings.python
        limits = "its memory; its processors step back for other programs"
        slow = "Guests are interpreted, which is very slow" if found.accelerator == "interpreter" else ""
        sharing = Sharing(self.name, found.series)
        return Fingerprint(sharing, found.accelerator, details, limits=limits, health=slow, programs=found.programs)

    async def prepare(self, spec: MachineSpec) -> None:
        """Write the descriptor, make the differencing disk, and describe the machine to VirtualBox."""
        check_abilities(spec, self.name, self.capabilities)
        with self._known.doubting():
            await to_the_end(self._steps.make, spec)

    async def start(self, spec: MachineSpec) -> Handle:
        """Start it once, without a window; return when VirtualBox says that it runs."""
        with self._known.doubting():
            return await to_the_end(self._steps.start, spec)

    async def recover(self, handle: Handle) -> bool:
        """Whether VirtualBox runs it."""
        view = await self._view(handle)
        return view is not None and not view.ended and not view.stuck

    async def status(self, handle: Handle) -> MachineStatus:
        """As VirtualBox has it. While that does not answer, a machine with a process runs."""
        view = await self._view(handle)
        if view is not None and not view.ended and not view.stuck:
            return MachineStatus("paused" if view.state == "paused" else "running")
        return await asyncio.to_thread(self._steps.ending, handle)

    async def wait(self, handle: Handle) -> MachineStatus:
        """Until its process has ended, or it is stuck."""
        while (view := await self._view(handle)) is not None and not view.ended and not view.stuck:
            process = await asyncio.to_thread(process_of, handle.uid, files.pid_of(handle))
            if process is None:  # it is just ending, or the system hides its command line
                await asyncio.sleep(_GLANCE)
                continue
            with process:
                await process.ended_within(_LOOK)
        if view is None or not view.stuck:
            await self._gone(handle)
        return await asyncio.to_thread(self._steps.ending, handle)

    async def _gone(self, handle: Handle) -> None:
        """Return when no process runs it: VirtualBox calls a machine ended some moments before its process is."""
        process = await asyncio.to_thread(process_of, handle.uid, files.pid_of(handle))
        if process is not None:
            with process:
                if not await process.ended_within(_LEFT_WITHIN):
                    await process.kill()

    def console(self, folder: Path) -> Path:
        """VirtualBox writes it as the machine speaks."""
        return folder / files.CONSOLE

    async def pause(self, handle: Handle) -> None:
        """Stop its virtual processors; nothing is done if they stand still."""
        await self._switch(handle, "pause", "paused")

    async def resume(self, handle: Handle) -> None:
        """Let its virtual processors go on; nothing is done if they run."""
        await self._switch(handle, "resume", "running")

    async def screenshot(self, handle: Handle, to: Path) -> None:
        """Write what its screen shows to `to`, as PNG.

        Raises:
            HostError: `hypervisor.failed`, also if it has ended; `storage.failed`.
        """
        await to_the_end(self._steps.picture, handle, to)

    async def snapshot(self, handle: Handle, name: str) -> None:
        """Save the machine's memory and disk as `name`, and let it go on. It stands still meanwhile.

        Raises:
            UserError: `input.invalid`, if the name can't be one or is taken.
            HostError: `hypervisor.failed`, also if it has ended; `storage.full`.
        """
        await to_the_end(self._steps.save, handle, name)

    async def restore(self, spec: MachineSpec, name: str) -> Handle:
        """Let the machine go on from where it was when `name` was saved. One that runs is ended first.

        Its console begins anew.

        Raises:
            UserError: `input.invalid`, if the name can't be one.
            HostError: `hypervisor.failed`, also if there is no such snapshot.
        """
        await to_the_end(self._steps.check_snapshot, spec, name)
        process = await asyncio.to_thread(process_of, spec.uid, 0)
        if process is not None:
            with process:
                await self._power_off(spec.uid, process)
        with self._known.doubting():
            return await to_the_end(self._steps.load, spec, name)

    async def stop(self, handle: Handle, grace: float) -> None:
        """Press the power button; then have VirtualBox end it; then kill it."""
        folder = folder_of(handle)
        process = await asyncio.to_thread(process_of, handle.uid, files.pid_of(handle))
        if process is None:
            await to_the_end(self._steps.power_off, handle.uid)  # nearly always it has ended: nothing is done
            return
        with process:
            await asyncio.to_thread(files.note_asked, folder)
            pressed = grace > 0 and await self._control(handle.uid, "acpipowerbutton")
            if not (pressed and await process.ended_within(grace)):
                await self._power_off(handle.uid, process)
        with contextlib.suppress(BitDewError):  # its process has ended, whatever VirtualBox says of it or does not
            await to_the_end(self._manage.settled, handle.uid)

    async def destroy(self, spec: MachineSpec, handle: Handle | None) -> None:
        """End it if it runs, make VirtualBox forget it, remove the folder."""
        await self._remove(spec.uid, spec.folder, files.pid_of(handle) if handle is not None else 0)

    async def sweep(self, folder: Path, known: set[Uid]) -> list[Uid]:
        """By what VirtualBox has, by the folders with a descriptor, and by the processes with our home."""
        unknown = sorted(await asyncio.to_thread(self._steps.machines_in, folder) - known)
        for uid in unknown:
            await self._remove(uid, folder / uid, 0)
        return unknown

    async def close(self) -> None:
        """End the process that has the bindings, if any. VirtualBox keeps the machines."""
        await to_the_end(self._manage.close)

    async def _view(self, handle: Handle) -> command.View | None:
        folder_of(handle)
        return await asyncio.to_thread(self._steps.view, handle)

    async def _control(self, uid: Uid, *words: str) -> bool:
        """Whether VirtualBox does this with the machine."""
        try:
            code, _ = await to_the_end(self._manage.ask, "controlvm", command.identity(uid), *words, within=SOON)
        except BitDewError:
            return False
        return code == 0

    async def _switch(self, handle: Handle, word: str, wanted: str) -> None:
        """Have it paused or resumed.

        Raises:
            HostError: `hypervisor.failed`, also if it has ended.
        """
        folder_of(handle)
        if await self._control(handle.uid, word):  # refused, if it is so already
            return
        view = await self._view(handle)
        if view is None or view.state != wanted:
            why = f"it is {view.state}" if view is not None and view.state else "it is not there any more"
            raise error("hypervisor.failed", f"VirtualBox did not {word} machine {handle.uid}", why=why, uid=handle.uid)

    async def _power_off(self, uid: Uid, process: MachineProcess) -> None:
        told = await self._control(uid, "poweroff")
        if not (told and await process.ended_within(_ENDED_WITHIN)):
            await process.kill()

    async def _remove(self, uid: Uid, folder: Path, hint: int) -> None:
        process = await asyncio.to_thread(process_of, uid, hint)
        if process is not None:
            with process:
                await asyncio.to_thread(files.note_asked, folder)
                await self._power_off(uid, process)
        await to_the_end(self._steps.forget, uid, folder)
