"""Data come back: each piece verified, put where they are wanted once they are whole; over HTTP here, in ranges.

Owns these calls and their order. The service's word is taken for nothing but a datum's root: what comes is measured by
that.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import stamina

from bitdew.core.data import Kind
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import checked_name
from bitdew.tasks import to_the_end
from bitdew.wire import models as m

from .part import PartFile, in_the_way, no_room
from .ranges import RangeCalls, both, corrupt, leads_to_hosts
from .unpacking import Unpacking

if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[int, int], None]

RUN: Final = 16 * 2**20
"""Bytes that one request asks for: so many that requests cost nothing, so few that a broken one loses little."""
AT_ONCE: Final = 4
"""Requests under way at a time: one alone waits for each piece to be hashed and written."""
ATTEMPTS: Final = 8
"""Times that a range is asked for while the service does not answer: for about 20 seconds."""


@dataclass(frozen=True, slots=True)
class Got:
    """A datum that came back.

    Attributes:
        path: Where it is now.
        data: What it is.
        fetched: Bytes that came for it; the rest was there from an earlier attempt, or is zeros.
        from_hosts: How many of these hosts, or its publisher, were to give rather than the repository.
        because: Why, where the repository should have had them all.
    """

    path: Path
    data: m.DataView
    fetched: int
    from_hosts: int = 0
    because: BitDewError | None = None


class _BrokeError(Exception):
    """The repository could not give a piece. What fails on this machine is told otherwise."""

    def __init__(self, piece: int, fault: BitDewError) -> None:
        super().__init__(str(fault))
        self.piece, self.fault = piece, fault


class GetCalls(RangeCalls):
    """The part of `BitDew` by which bytes come back."""

    async def get(
        self,
        name: str,
        path: Path | None = None,
        *,
        force: bool = False,
        archive: bool = False,
        checking: Progress | None = None,
        fetching: Progress | None = None,
        unpacking: Progress | None = None,
    ) -> Got:
        """Bring the datum `name` to `path`: a file, or a folder, as it was put.

        What the repository does not have comes from the hosts that hold it, or from its publisher, by swarm. What has
        come is kept beside it, in a file that ends in `.part`, until all is there: if it breaks off, the same call goes
        on from there. Zeros are not fetched over HTTPS. Where the repository's copy turns out to be bad, or its line
        breaks again and again, what is missing then comes from hosts too; it is told of the bad copy, reads it, and
        mends it.

        Args:
            name: The datum's name or uid.
            path: Where it is to be; in the current folder under its name by default.
            force: Whether a file may take a file's place, and a folder a folder's.
            archive: Whether a folder is to come as its archive, which `tar` unpacks.
            checking: Called with the bytes of an earlier attempt that were looked at, and their total.
            fetching: Called with the bytes that came, and how many are to come.
            unpacking: Called with the bytes of the archive that were unpacked, and their total.

        Raises:
            BitDewError: `data.not-found`; `data.nowhere`, if neither the repository nor any host that is there now
                has it; `data.in-the-way`, `swarm.stalled`,
                `disk.file-missing` if there is no such folder, `storage.full` before anything is fetched,
                `storage.locked`, `storage.failed`, `swarm.corrupt`, `input.invalid` for an archive that is none.
        """
        datum = await self._living(name)
        target = await asyncio.to_thread(Path(path or checked_name(datum.name)).absolute)
        unpacks = datum.kind is Kind.FOLDER and not archive
        await asyncio.to_thread(_require_free, target, force=force, folder=unpacks)
        if datum.awaited:
            await self._who_has(datum.name)  # rather told before anything is made
        content = await self._content(datum)
        part = await asyncio.to_thread(PartFile, target.with_name(f"{target.name}.{content.root[:16]}.part"), content)
        try:
            await _look_again(part, checking)
            missing = part.missing()
            room = missing + (content.size if unpacks else 0)
            free = (await asyncio.to_thread(shutil.disk_usage, target.parent)).free
            if free < room:
                raise no_room(target, room, free)
            from_hosts, because = await self._bring(datum, part, missing, fetching) if missing else (0, None)
            if not unpacks:
                await to_the_end(asyncio.to_thread(part.become, target, force=force))
            else:
                await _unpack(Unpacking(part.read, content.size, target, unpacking), force=force)
                await asyncio.to_thread(part.remove)
            return Got(target, datum, missing, from_hosts, because)
        finally:
            part.close()

    # Inside ---------------------------------------------------------------------------------------------------------

    async def _bring(
        self, datum: m.DataView, part: PartFile, missing: int, progress: Progress | None
    ) -> tuple[int, BitDewError | None]:
        """Bring every missing piece into `part`; how many bytes hosts were to give, and why."""
        fault = self._not_there(datum)
        if fault is None:
            try:
                await self._fetch(part, missing, progress)
            except _BrokeError as broke:
                fault = broke.fault
                if not leads_to_hosts(fault):
                    raise fault from None
                await self._turn_from(datum, broke.piece, fault)
            else:
                return 0, None
        rest = part.missing()

        def came(done: int, _rest: int) -> None:
            if progress is not None:
                progress(missing - rest + done, missing)

        try:
            await self._fetch_from_hosts(datum.name, part, rest, came)
        except BitDewError as cause:
            self._avoided.pop(part.content.root, None)
            raise both(fault, cause, datum) from cause
        return rest, None if datum.awaited else fault

    async def _fetch(self, part: PartFile, missing: int, progress: Progress | None) -> None:
        """Bring every missing piece into `part` from the repository.

        Raises:
            _BrokeError: what the repository fails in; BitDewError: what this machine does.
        """
        runs, done = part.runs(RUN), 0

        def came(length: int) -> None:
            nonlocal done
            done += length
            if progress is not None:
                progress(done, missing)

        async def fetch_runs() -> None:
            for first, end in runs:  # all tasks take from the same
                await self._fetch_run(part, first, end, came)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(fetch_runs())
        except BaseExceptionGroup as faults:
            raise _first(faults) from None

    async def _fetch_run(self, part: PartFile, first: int, end: int, came: Callable[[int], None]) -> None:
        """Bring pieces into `part`, however often it breaks off; `came` is called with the bytes of each."""

        async def go_on() -> None:
            nonlocal first
            async with aclosing(self._pieces(part.content, first, end)) as pieces:
                while True:
                    try:
                        number, raw = await anext(pieces)
                    except StopAsyncIteration:
                        return
                    except BitDewError as fault:
                        raise _BrokeError(first, fault) from fault
                    if not await to_the_end(asyncio.to_thread(part.put, number, raw)):
                        raise _BrokeError(number, corrupt(part.content, number))
                    first = number + 1
                    came(len(raw))

        retrying = stamina.AsyncRetryingCaller(
            attempts=ATTEMPTS, timeout=None, wait_initial=0.2, wait_max=10.0, wait_jitter=0.2, wait_exp_base=2
        )
        await retrying(_passes, go_on)


async def _look_again(part: PartFile, progress: Progress | None) -> None:
    """Find out what is there from an earlier attempt."""
    size, length, some = part.content.size, part.content.piece_length, False
    for number in range(part.content.pieces):
        some = await to_the_end(asyncio.to_thread(part.look, number)) or some
        if progress is not None and some:
            progress(min((number + 1) * length, size), size)


async def _unpack(unpacking: Unpacking, *, force: bool) -> None:
    task = asyncio.ensure_future(asyncio.to_thread(unpacking.run, force=force))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        unpacking.stopped = True
        await asyncio.wait({task})
        raise


def _require_free(target: Path, *, force: bool, folder: bool) -> None:
    """Refuse a target that what comes could not be put at: better now than after 20 GB."""
    if not target.parent.is_dir():
        do = "Make it first, or choose another path."
        raise error("disk.file-missing", f"There is no folder {target.parent}", do=do, path=str(target.parent))
    if os.path.lexists(target):
        is_folder = target.is_dir() and not target.is_symlink()
        if not force or is_folder != folder:
            raise in_the_way(target)


def _passes(broke: Exception) -> bool:
    """Whether asking again may help."""
    if not isinstance(broke, _BrokeError):
        return False
    return broke.fault.kind.fault == "service" or broke.fault.kind.exit_code == 6


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of several failures that is this machine's, or else the repository's, or else the first."""
    mine, _others = faults.split(BitDewError)
    broke, _others = faults.split(_BrokeError)
    one: BaseException = mine or broke or faults
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one
