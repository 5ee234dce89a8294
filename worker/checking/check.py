"""All checks of a host, put together: for one that has joined, that runs, or that is about to join.

Owns what is looked at, and in which order it is told. A check that breaks is a problem of its own and stops no other.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bitdew.clock import SystemClock
from bitdew.core.errors import BitDewError
from bitdew.wire.model import Nothing
from bitdew.wire.transport import service_url

from ..configuration.layers import Layers
from ..control import ask
from ..enrol import identity_folder
from ..hypervisors import QemuHypervisor, VirtualBoxHypervisor, probe
from ..jobs.running import Runner
from ..settings import WorkerSettings
from ..sharings.desk import SharingsView, show_sharings
from ..status import StatusView
from . import disk, host, network
from .findings import CheckView, Finding, fine, problem, told, warning

if TYPE_CHECKING:
    from bitdew.core.clock import Clock
    from bitdew.hypervisor import Hypervisor
    from bitdew.trust.identity import Identity

_PORT: Final = "swarm.port"
Step = Callable[[], Awaitable[list[Finding]]]


async def check(home: Path, url: str = "", clock: Clock | None = None) -> CheckView:
    """Look over this host for the worker in `home`.

    Args:
        home: The worker's home; nothing has to be there yet, and nothing is made.
        url: The service to ask, before this host has joined one; its own by default.
        clock: The system's by default.

    Raises:
        UserError: `input.invalid`, if `url` is none.
    """
    clock = clock or SystemClock()
    asked = str(service_url(url)).rstrip("/") if url else ""
    findings: list[Finding] = []
    settings, identity = await _known(home, findings)
    running = await _runs(home, findings)
    where = await asyncio.to_thread(_listening, home) if running else ""
    asked = asked or (identity.url if identity is not None else "")
    steps: dict[str, Step] = {
        "service": partial(_all, network.service(asked, identity, clock)) if asked else _no_service,
        "certificates": partial(_in_thread, lambda: _certificates(identity, clock, running=running)),
        "swarm's port": partial(_all, network.port(settings, asked, listening=where)),
        "folder": partial(_in_thread, lambda: disk.closed(settings)),
        "disk": partial(_in_thread, lambda: disk.room(settings)),
        "disk speed": partial(_in_thread, lambda: disk.speed(settings)),
        "memory": partial(_in_thread, lambda: host.memory(settings)),
        "open files": partial(_in_thread, lambda: host.open_files(settings, *_file_limits())),
        "KVM": partial(_in_thread, host.kvm),
        "hypervisors": partial(_hypervisors, settings),
        "rules": partial(_in_thread, lambda: host.activity(settings)),
        "sharings": partial(_sharings, home, settings),
        "jobs": _jobs,
    }
    for found in await asyncio.gather(*(_safely(what, step) for what, step in steps.items())):
        findings += found
    ready = not any(one.state == "problem" for one in findings)
    return CheckView(ready=ready, running=running, home=str(home), url=asked, findings=findings)


async def _known(home: Path, findings: list[Finding]) -> tuple[WorkerSettings, Identity | None]:
    """The settings, or the defaults if they can't be read; and who this host is, if it has joined."""
    settings = WorkerSettings(home=home)
    try:
        layers = await asyncio.to_thread(partial(Layers.read, home, joined=False))
        settings = layers.settings()
        findings.append(fine("settings", "can be read"))
    except BitDewError as fault:
        findings.append(told("settings", fault))
    folder = identity_folder(home)
    try:
        if await asyncio.to_thread(folder.exists):
            return settings, await asyncio.to_thread(folder.load)
    except BitDewError as fault:
        findings.append(told("identity", fault))
    return settings, None


async def _runs(home: Path, findings: list[Finding]) -> bool:
    try:
        running = await ask(home, "status", Nothing(), StatusView) is not None
    except BitDewError as fault:
        findings.append(told("worker", fault))
        return True
    findings.append(fine("worker", "runs" if running else "does not run"))
    return running


async def _safely(what: str, step: Step) -> list[Finding]:
    try:
        return await step()
    except BitDewError as fault:
        return [told(what, fault)]
    except Exception as fault:  # noqa: BLE001 (what a foreign system does can't be foreseen, and the rest is wanted)
        return [problem(what, f"could not be checked: {type(fault).__name__}: {fault}"[:1000], "Please report it.")]


async def _all(found: AsyncIterator[Finding]) -> list[Finding]:
    return [one async for one in found]


async def _in_thread(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    return await asyncio.to_thread(lambda: list(look()))


async def _no_service() -> list[Finding]:
    do = "Join one, or name its URL: bitdew worker check https://grid.example.org:8440"
    return [warning("service", "this host has not joined any", do)]


def _certificates(identity: Identity | None, clock: Clock, *, running: bool) -> Iterator[Finding]:
    if identity is not None:
        yield from network.certificates(identity, clock.now(), running=running)


def _listening(home: Path) -> str:
    try:
        return f"port {(home / _PORT).read_text(encoding='ascii').strip()[:10]}"
    except (OSError, ValueError):
        return "a port of its own"


def _file_limits() -> tuple[int, int]:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)


async def _hypervisors(settings: WorkerSettings) -> list[Finding]:
    """Each is tried. VirtualBox gets a home for it that goes again, so that a worker's is left alone."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="bitdew-check-"))
    box = VirtualBoxHypervisor(folder, extra_modifyvm=settings.extra_modifyvm, python=settings.virtualbox_python)
    drivers: list[Hypervisor] = [QemuHypervisor(), box]
    try:
        return list(host.hypervisors(await probe(drivers), settings.hypervisors))
    finally:
        for driver in drivers:
            await driver.close()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _jobs() -> list[Finding]:
    """Whether this host can be kept safe from jobs: tried, where nothing of the worker is."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="bitdew-check-"))
    try:
        return list(host.jobs(await Runner().isolation(folder)))
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _sharings(home: Path, settings: WorkerSettings) -> list[Finding]:
    view: SharingsView = await show_sharings(home, settings=settings)
    return [
        fine(f"sharing: {one.name}", f"{one.version} is offered")
        if one.offered
        else warning(
            f"sharing: {one.name}", one.why, f"Install it, or share it no more: bitdew worker share rm {one.name}"
        )
        for one in view.sharings
        if one.kind != "hypervisor"
    ]
