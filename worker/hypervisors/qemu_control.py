"""What a running QEMU is asked for by its monitor: to pause, to picture its screen, to save its state.

Owns the conversation. Whether the machine runs at all, and who may ask, is the driver's to know: a QEMU that is gone is
told from one that refuses by the error's reason alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from qemu.qmp import QMPClient, QMPError
from qemu.qmp.events import EventListener

from bitdew.core.errors import BitDewError, error
from bitdew.hypervisor import Handle

from . import machine_folder as files
from .qemu_command import DISK_NODE, snapshot_tag
from .qemu_monitor import monitor
from .threads import to_the_end

_ANSWER: Final = 10.0  # seconds; QEMU answers in milliseconds, and a loaded PC in seconds
_GLANCE: Final = 2.0  # seconds for what is only looked at
_SAVED: Final = 600.0  # seconds for a machine's memory to be written to a slow disk
_MOST_PICTURE: Final = 64 * 1024 * 1024  # bytes; a screen of 4096 x 4096 points, not compressed at all


async def pause(handle: Handle) -> None:
    """Stop its processors. QEMU answers when what they were writing is on the disk."""
    async with _asking(handle, "pause", _ANSWER) as client:
        await client.execute("stop")


async def resume(handle: Handle) -> None:
    """Let its processors go on."""
    async with _asking(handle, "resume", _ANSWER) as client:
        await client.execute("cont")


async def is_paused(handle: Handle) -> bool:
    """Whether its processors stand still because they were told to. One that does not answer is not paused."""
    try:
        async with _asking(handle, "ask", _GLANCE) as client:
            found = await client.execute("query-status")
    except BitDewError:
        return False
    return isinstance(found, dict) and found.get("status") == "paused"


async def picture(handle: Handle, to: Path) -> None:
    """Have QEMU write its screen into the machine's folder, and bring that to `to`."""
    made = files.folder_of(handle) / f"screen.{secrets.token_hex(4)}.png"
    try:
        async with _asking(handle, "picture", _ANSWER) as client:
            await client.execute("screendump", {"filename": made.name, "format": "png"})
        await to_the_end(_bring, made, to)
    finally:
        await to_the_end(_forget, made)


async def save(handle: Handle, name: str) -> None:
    """Save memory and disk as an internal snapshot of the machine's qcow2 file.

    A worker that is killed meanwhile leaves QEMU at it: the snapshot appears whole, or not at all.
    """
    job = f"save-{secrets.token_hex(4)}"
    async with _asking(handle, "save", _SAVED) as client:
        if snapshot_tag(name) in await _snapshots(client):
            raise error(
                "input.invalid", f"Machine {handle.uid} has a snapshot {name} already", uid=handle.uid, name=name
            )
        with client.listener("JOB_STATUS_CHANGE") as listener:
            request = {"job-id": job, "tag": snapshot_tag(name), "vmstate": DISK_NODE, "devices": [DISK_NODE]}
            await client.execute("snapshot-save", request)
            await _concluded(listener, job)
        jobs: Any = await client.execute("query-jobs")
        await client.execute("job-dismiss", {"id": job})
    why = next((str(found.get("error", "")) for found in jobs if found.get("id") == job), "it lost the job")
    if why:
        raise _refusal(handle, "save", why)


async def _concluded(listener: EventListener, job: str) -> None:
    async for event in listener:
        data = event.get("data")
        if isinstance(data, dict) and data.get("id") == job and data.get("status") == "concluded":
            return


async def _snapshots(client: QMPClient) -> set[str]:
    nodes: Any = await client.execute("query-named-block-nodes", {"flat": True})
    disk: dict[str, Any] = next((node for node in nodes if node.get("node-name") == DISK_NODE), {})
    return {str(found.get("name")) for found in disk.get("image", {}).get("snapshots", [])}


@asynccontextmanager
async def _asking(handle: Handle, what: str, within: float) -> AsyncIterator[QMPClient]:
    """A connection to the machine's QEMU; whatever goes wrong with it is the machine's failure.

    Raises:
        HostError: `hypervisor.failed`; `storage.full`.
    """
    try:
        async with asyncio.timeout(within), monitor(files.folder_of(handle)) as client:
            yield client
    except TimeoutError as problem:
        raise _refusal(handle, what, f"it did not answer within {within:g} s") from problem
    except (FileNotFoundError, ConnectionError, EOFError) as problem:
        raise _refusal(handle, what, "it has ended") from problem
    except (OSError, QMPError) as problem:
        raise _refusal(handle, what, str(problem)) from problem


def _refusal(handle: Handle, what: str, why: str) -> BitDewError:
    key = "storage.full" if "No space left" in why or "Disk quota" in why else "hypervisor.failed"
    return error(key, f"QEMU did not {what} machine {handle.uid}", why=why[-300:], uid=handle.uid)


def _bring(made: Path, to: Path) -> None:
    """Put the picture where it is wanted, whole or not at all; on another file system too."""
    unfinished = to.with_name(f".{to.name}.{secrets.token_hex(4)}.part")
    try:
        if made.stat().st_size > _MOST_PICTURE:
            raise error(
                "hypervisor.failed", "The picture of the screen is too large", why=f"over {_MOST_PICTURE} bytes"
            )
        shutil.copyfile(made, unfinished)
        Path(unfinished).replace(to)
    except OSError as problem:
        raise error(
            "storage.failed",
            f"The picture could not be written to {to}",
            why=problem.strerror or str(problem),
            do="Choose a file in a folder that exists and may be written to.",
            path=str(to),
        ) from problem
    finally:
        _forget(unfinished)


def _forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
