"""What the demo does: a service, workers, a disk that is placed on them, and a machine that boots from it.

Owns the story and its time limits. Everything is done with what any user has: commands and the public API.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bitdew.bootdisk import write_boot_disk
from bitdew.client.grid import BitDew
from bitdew.core.attribute import Attribute
from bitdew.core.errors import error
from bitdew.core.requirement import Requirement
from bitdew.core.states import HostState, PlacementState

from .output import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from bitdew.core.errors import BitDewError
    from bitdew.wire.models import DiskView, HostView, PlacementView, WhereReply

    from .demo_processes import Children

DISK: Final = "demo"
HYPERVISORS: Final = ("qemu", "virtualbox")
INSTALL: Final = "Install QEMU (Debian: apt install qemu-system-x86 qemu-utils), and run the demo again to see it boot."
JOIN_SECONDS: Final = 60.0
STALL_SECONDS: Final = 120.0
"""Seconds without any progress of a copy after which placing counts as failed."""
CONSOLE_SECONDS: Final = 240.0
"""Seconds until the machine has said something: 5 to 15 without hardware virtualisation, more where much else runs."""
LOOK_AGAIN: Final = 0.2
KEPT_TEXT: Final = 4000
"""Characters of the console that stand in the result."""


@dataclass(frozen=True)
class Wishes:
    """What was asked of the demo. Sizes in bytes."""

    workers: int
    replicas: int
    size: int
    disk: Path | None
    folder: Path


@dataclass
class Story:
    """What has happened so far. `as_dict` is what `--json` prints."""

    wishes: Wishes
    url: str = ""
    held: int = 0
    verified: int = 0
    booted: bool = False
    hypervisor: str = ""
    machine_host: str = ""
    console: str = ""
    line: str = ""
    placed_seconds: float = 0.0
    boot_seconds: float = 0.0
    egress: int = 0
    size: int = 0
    sha256: str = ""
    hosts: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def egress_ratio(self) -> float:
        """Bytes that left the repository, by the file's size: 1 is the least there can be."""
        return round(self.egress / self.size, 3) if self.size else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The story as one JSON object."""
        wishes = self.wishes
        return {
            "held": self.held,
            "verified": self.verified,
            "booted": self.booted,
            "hypervisor": self.hypervisor,
            "machine_host": self.machine_host,
            "line": self.line,
            "console": self.console[-KEPT_TEXT:],
            "placed_seconds": round(self.placed_seconds, 2),
            "boot_seconds": round(self.boot_seconds, 2),
            "workers": wishes.workers,
            "replicas": wishes.replicas,
            "size": self.size,
            "sha256": self.sha256,
            "egress": self.egress,
            "egress_ratio": self.egress_ratio,
            "hosts": self.hosts,
            "remarks": self.remarks,
        }


class Watcher:
    """Who is told how the demo gets on. This one says nothing."""

    def step(self, text: str) -> None:
        """A new step begins."""

    def bytes(self, what: str, done: int, total: int) -> None:
        """A step of so many bytes is so far."""

    def placements(self, reply: WhereReply) -> None:
        """Something changed about the disk's copies."""

    def console(self, text: str) -> None:
        """The machine wrote something."""


class Demo:
    """One run of the demo in its folder."""

    def __init__(self, wishes: Wishes, children: Children, watcher: Watcher) -> None:
        self.story = Story(wishes)
        self._wishes = wishes
        self._children = children
        self._watcher = watcher
        self._verified: set[str] = set()

    async def run(self) -> None:
        """The whole story; `story` says what came of it, also when it ended early.

        Raises:
            BitDewError: the step's that failed.
        """
        profile = await self._start_service()
        async with BitDew.connect(profile) as grid:
            hosts = await self._start_workers(grid)
            shared = sorted({s.name for host in hosts for s in host.sharings} & set(HYPERVISORS))
            source = await self._source()
            disk = await self._add(grid, source, shared)
            placed = await self._place(grid)
            await self._verify(disk, placed, source)
            # Asked again: the last bytes are counted a moment after the last copy is held.
            self._note(await grid.where(DISK))
            if shared:
                await self._boot(grid)
            else:
                self.story.remarks.append(f"No hypervisor is on this machine, so nothing was booted. {INSTALL}")

    async def _start_service(self) -> Path:
        self._watcher.step("Starting a service")
        home = self._wishes.folder / "home"
        arguments = ("--home", str(home / "service"), "--host", "127.0.0.1", "--port", "0", "--name", "demo")
        ready = await (await self._children.start("service", "serve", *arguments)).ready()
        self.story.url = str(ready["url"])
        return Path(ready["profile"])

    async def _start_workers(self, grid: BitDew) -> list[HostView]:
        count = self._wishes.workers
        self._watcher.step(f"Starting {count} workers")
        token = (await grid.create_token("worker", uses=count, note="demo")).token
        async with asyncio.TaskGroup() as group:
            for number in range(1, count + 1):
                group.create_task(self._start_worker(number, str(token)))
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                while True:
                    hosts = await grid.hosts()
                    if sum(host.state is HostState.ALIVE for host in hosts) >= count:
                        return hosts
                    await asyncio.sleep(LOOK_AGAIN)
        except TimeoutError:
            why = f"the workers did not all report within {JOIN_SECONDS:g} s"
            raise error("service.unreachable", "The demo's workers did not join", why=why) from None

    async def _start_worker(self, number: int, token: str) -> None:
        name = f"host-{number}"
        home = self._wishes.folder / name
        arguments = ("--name", name, "--home", str(home), "--listen", loopback(number))
        # Not on the command line, which every user of this machine may read.
        child = await self._children.start(name, "worker", "join", self.story.url, *arguments, BITDEW_TOKEN=token)
        await child.ready()

    async def _source(self) -> Path:
        if self._wishes.disk is not None:
            return self._wishes.disk
        path = self._wishes.folder / "demo.raw"
        self.story.line = f"bitdew-demo-{secrets.token_hex(8)}"
        self._watcher.step("Making a disk that boots and says a line")
        total = self._wishes.size

        def work(report: Callable[[int], None]) -> None:
            write_boot_disk(path, line=self.story.line, size=total, progress=report)

        await _in_thread(work, lambda done: self._watcher.bytes("Making the disk", done, total))
        return path

    async def _add(self, grid: BitDew, source: Path, shared: list[str]) -> DiskView:
        self._watcher.step("Adding the disk to the repository")
        requires = Requirement(" or ".join(f"sharing={name}" for name in HYPERVISORS) if shared else "")
        attribute = Attribute(replica=self._wishes.replicas, requires=requires)
        disk = await grid.add_disk(
            source, DISK, attribute, progress=lambda done, total: self._watcher.bytes("Adding the disk", done, total)
        )
        self.story.size = disk.size
        return disk

    async def _place(self, grid: BitDew) -> list[PlacementView]:
        self._watcher.step(f"Placing {self._wishes.replicas} copies")
        started = time.monotonic()
        seen: object = None
        try:
            async with asyncio.timeout(STALL_SECONDS) as limit:
                async for reply in grid.watch(DISK):
                    self._watcher.placements(reply)
                    self._note(reply)
                    if reply.data.held >= self._wishes.replicas:
                        self.story.placed_seconds = time.monotonic() - started
                        return [one for one in reply.placements if one.state is PlacementState.HELD]
                    if (now := [(one.host, one.state, one.done) for one in reply.placements]) != seen:
                        seen = now
                        limit.reschedule(asyncio.get_running_loop().time() + STALL_SECONDS)
        except TimeoutError:
            explained = await grid.explain(DISK)
            why = f"nothing moved for {STALL_SECONDS:g} s; {' '.join(explained.next) or 'no reason is known'}"
            raise error("swarm.stalled", "The demo's disk was not placed", why=why) from None
        raise AssertionError("a watch has no end")

    def _note(self, reply: WhereReply) -> None:
        self.story.held = reply.data.held
        # Two counts of the same, at its two ends; either may lag behind by a sample.
        self.story.egress = max(reply.data.egress, sum(one.from_repository for one in reply.placements))
        self.story.hosts = [
            {
                "host": one.host_name,
                "state": str(one.state),
                "seconds": one.seconds,
                "from_repository": one.from_repository,
                "from_peers": one.from_peers,
                "verified": one.host in self._verified,
            }
            for one in reply.placements
        ]

    async def _verify(self, disk: DiskView, placed: list[PlacementView], source: Path) -> None:
        """Compare each copy with the source, by its bytes: what the hosts say of themselves is not asked."""
        self._watcher.step("Comparing each copy with the original")
        total = disk.size * (len(placed) + 1)
        done = 0

        def report(count: int) -> None:
            nonlocal done
            done += count
            self._watcher.bytes("Comparing", done, total)

        self.story.sha256 = wanted = await _in_thread(partial(_sha256, source), report)
        for one in placed:
            copy = self._wishes.folder / one.host_name / "copies" / disk.root
            found = await _in_thread(partial(_sha256, copy), report)
            if found != wanted:
                why = f"SHA-256 {found[:16]}… instead of {wanted[:16]}…"
                raise error("internal", f"The copy on {one.host_name} is not the original", why=why)
            self._verified.add(one.host)
            self.story.verified += 1

    async def _boot(self, grid: BitDew) -> None:
        self._watcher.step("Booting a machine from one of the copies")
        started = time.monotonic()
        made = await grid.deploy(DISK)
        uid = made.machines[0].uid
        text = ""
        try:
            async with asyncio.timeout(CONSOLE_SECONDS):
                async for part in grid.follow_console(uid):
                    text += part.text
                    self.story.console = printable(text)
                    self._watcher.console(part.text)
                    if self._said(text):
                        break
        except TimeoutError:
            machine = await grid.machine(uid)
            reason = machine.reason.message if machine.reason else f"it is {machine.state}"
            why = f"{CONSOLE_SECONDS:g} s passed; {reason}; its console: {printable(text)[-300:]!r}"
            raise self._silent("The machine did not", why) from None
        machine = await grid.machine(uid)
        self.story.boot_seconds = time.monotonic() - started
        self.story.hypervisor, self.story.machine_host = machine.hypervisor, machine.host_name
        self.story.booted = self._said(text)
        if not self.story.booted:
            reason = machine.reason.message if machine.reason else f"it is {machine.state}"
            why = f"{reason}; its console: {printable(text)[-300:]!r}"
            raise self._silent("The machine ended and did not", why)

    def _said(self, text: str) -> bool:
        """Whether the console's `text` shows a boot: our own disk's line, or anything of a disk of the user's."""
        return self.story.line in text if self.story.line else bool(printable(text).strip())

    def _silent(self, start: str, why: str) -> BitDewError:
        if self.story.line:
            return error("hypervisor.failed", f"{start} say its line", why=why)
        do = "Give a disk whose system writes on its first serial port (Linux: console=ttyS0)."
        return error("hypervisor.failed", f"{start} write anything on its serial console", why=why, do=do)


def loopback(number: int) -> str:
    """Where the swarm of worker `number` listens: on Linux each has an address, as on a LAN; else one has all."""
    address = f"127.0.0.{10 + number}" if sys.platform == "linux" else "127.0.0.1"
    return f"{address}:0"


async def _in_thread(work: Callable[[Callable[[int], None]], Any], report: Callable[[int], None]) -> Any:
    """Run `work` in a thread; a cancellation makes its next progress call fail, and is done when it has ended."""
    loop = asyncio.get_running_loop()
    ended = threading.Event()

    def tell(figure: int) -> None:
        if ended.is_set():
            raise InterruptedError("the demo was interrupted")
        loop.call_soon_threadsafe(report, figure)

    task = asyncio.ensure_future(asyncio.to_thread(work, tell))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        ended.set()
        await asyncio.wait({task})
        task.exception()
        raise


def _sha256(path: Path, report: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(4 * 1024 * 1024):
            digest.update(chunk)
            report(len(chunk))
    return digest.hexdigest()
