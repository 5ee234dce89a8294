"""A job in a developer's words: options, inputs of every shape, and how they become what the service is asked.

Owns that asking leaves nothing behind: whoever is cancelled while he asks has no job that he does not know of.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, TypedDict

from bitdew.core.errors import BitDewError
from bitdew.core.job import Caps, JobSpec
from bitdew.core.units import parse_duration, parse_size

from .datum import Datum
from .memory import BytesSource

if TYPE_CHECKING:
    from bitdew.core.attribute import Attribute
    from bitdew.wire import models as m

    from .grid import BitDew

Input = Datum | Path | str | bytes
"""What a job reads: a datum, or its name; a file, or bytes, that are put first."""
TAKE_BACK: Final = 10.0
"""Seconds that whoever is cancelled while he asks for jobs waits, at most, to give them up again."""


class JobOptions(TypedDict, total=False):
    """What may be said of a job. All of it is optional.

    Attributes:
        name: For people; the program's by default.
        needs: Applications and libraries, with versions: `"root>=6.30"`, or several of them.
        requires: What else must be true of a host: `"site = orsay"`.
        inputs: Data, names of data, and paths of files, which are put first, once for their bytes, and go with the jobs
            that read them. In a mapping each has its path in the job's folder, and may be bytes too.
        outputs: Patterns of the files in the job's folder that are its results.
        env: Variables that are set for it.
        runtime: How long it may run: seconds, `"90s"`, `"2h"` or a timedelta. An hour by default.
        memory: How much memory it may take: bytes or `"2GB"`. 1 GiB by default.
        cpus: How many processors it may take; 1 by default.
        output: How much it may leave in its folder: bytes or `"2GB"`. 1 GiB by default.
        caps: All its limits at once; what is said beside it counts more.
        attempts: How often it is tried at most; 3 by default.
        priority: Which of one's own jobs goes first: the higher.
        replicas: On how many hosts it runs; what most of them agree on is its result.
        keep: What should be true of its results, or an attribute's name; by default they stay in the repository.
        provision: A disk: where no host can run it, machines boot from it for it.
        machines: How many such machines at most.
    """

    name: str
    needs: str | Sequence[str]
    requires: str
    inputs: Sequence[Datum | Path | str] | Mapping[str, Input]
    outputs: str | Sequence[str]
    env: Mapping[str, str]
    runtime: float | str | timedelta
    memory: int | str
    cpus: int
    output: int | str
    caps: Caps
    attempts: int
    priority: int
    replicas: int
    keep: Attribute | str
    provision: str
    machines: int


async def submitted(
    grid: BitDew, command: Sequence[str | os.PathLike[str]], options: JobOptions, values: Sequence[str] = ()
) -> list[m.JobView]:
    """The jobs that the service made of these words.

    Raises:
        BitDewError: as `BitDew.submit`; as `BitDew.put`, for inputs that are put first.
    """
    spec = spec_of(command, options)  # what is wrong with it is told before anything is put
    inputs = await staged(grid, options)
    asking = asyncio.create_task(
        grid.submit(
            spec,
            name=options.get("name"),
            inputs=inputs,
            values=values,
            results=options.get("keep"),
            provision=options.get("provision"),
            machines=options.get("machines", 1),
        ),
        name="submit",
    )
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        await _taken_back(grid, asking)
        raise


async def staged(grid: BitDew, options: JobOptions) -> list[tuple[str, str]]:
    """The data that jobs read, and where each stands in a job's folder. Raises what `BitDew.put` does."""
    return [await _staged(grid, source, path) for path, source in _named(options.get("inputs", ()))]


def spec_of(command: Sequence[str | os.PathLike[str]], options: JobOptions) -> JobSpec:
    """The command and what it needs, checked.

    Raises:
        UserError: `input.invalid`, `attribute.requires`.
    """
    return JobSpec(
        command=tuple(os.fspath(word) for word in command),
        needs=_several(options.get("needs", ())),
        requires=options.get("requires", ""),
        outputs=_several(options.get("outputs", ())),
        environment=dict(options.get("env", {})),
        caps=_caps(options),
        attempts=options.get("attempts", 3),
        priority=options.get("priority", 0),
        replicas=options.get("replicas", 1),
    )


async def put_bytes(grid: BitDew, raw: bytes, label: str) -> str:
    """Put bytes for jobs of one's own to read, once; the uid of their datum. Raises what `BitDew.put_input` does."""
    return await grid.put_input(BytesSource(raw), label=label)


# Inside ---------------------------------------------------------------------------------------------------------------


def _named(inputs: Sequence[Datum | Path | str] | Mapping[str, Input]) -> Iterable[tuple[str, Input]]:
    return inputs.items() if isinstance(inputs, Mapping) else (("", source) for source in inputs)


async def _staged(grid: BitDew, source: Input, path: str) -> tuple[str, str]:
    """The datum that `source` is or becomes, and where it stands in the job's folder."""
    if isinstance(source, Datum):
        return source.uid, path or source.name
    if isinstance(source, bytes):
        return await put_bytes(grid, source, PurePosixPath(path).name), path
    if isinstance(source, str):
        try:
            await grid.datum(source)
        except BitDewError as fault:
            if fault.key not in {"data.not-found", "input.invalid"} or not await asyncio.to_thread(
                os.path.isfile, source
            ):
                raise
        else:
            return source, path
    file = Path(source)
    return await grid.put_input(file), path or file.name


async def _taken_back(grid: BitDew, asking: asyncio.Task[list[m.JobView]]) -> None:
    """Give up what is being asked for, whether it was made already or not."""
    try:
        async with asyncio.timeout(TAKE_BACK):
            jobs = await asking
            await grid.cancel_job(jobs[0].array)
    except (TimeoutError, BitDewError):  # it was refused, or nobody answers: nothing more can be done from here
        asking.cancel()


def _caps(options: JobOptions) -> Caps:
    caps = options.get("caps", Caps())
    if (runtime := options.get("runtime")) is not None:
        span = parse_duration(runtime) if isinstance(runtime, str) else runtime
        caps = replace(caps, runtime=max(1, round(span.total_seconds() if isinstance(span, timedelta) else span)))
    if (memory := options.get("memory")) is not None:
        caps = replace(caps, memory=_size(memory))
    if (output := options.get("output")) is not None:
        caps = replace(caps, output=_size(output))
    return replace(caps, cpus=options.get("cpus", caps.cpus))


def _size(said: int | str) -> int:
    return parse_size(said) if isinstance(said, str) else said


def _several(said: str | Sequence[str]) -> tuple[str, ...]:
    return (said,) if isinstance(said, str) else tuple(said)
