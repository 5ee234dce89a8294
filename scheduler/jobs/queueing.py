"""What of a job's runs matters for its turn: whether it may be tried now, and what it asks of a host. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import RunState

from .matching import HostOffer, Waiting
from .settling import Case

FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(minutes=5)
_CLAIMED: Final = frozenset({RunState.STORING, RunState.DONE})


def again_at(case: Case) -> datetime:
    """When a job may be tried again: a failure of its own is waited out, for longer each time; a lost host is not."""
    failed = [run for run in case.runs.values() if run.state is RunState.FAILED]
    if not failed:
        return case.job.created
    pause = min(FIRST_PAUSE * (1 << min(len(failed) - 1, 16)), LONGEST_PAUSE)
    return max(run.since for run in failed) + pause


def waits(case: Case, missing: int, sizes: Mapping[Uid, int]) -> Waiting:
    """What a job that misses so many runs asks; `sizes` are the bytes of its inputs."""
    job, runs = case.job, case.runs.values()
    return Waiting(
        uid=job.uid,
        owner=job.owner,
        priority=job.spec.priority,
        created=job.created,
        program=job.spec.command[0],
        needs=job.spec.requirements(),
        cpus=job.spec.caps.cpus,
        memory=job.spec.caps.memory,
        missing=missing,
        since=job.since or job.created,
        taken=frozenset(run.host for run in runs if not run.ended or run.state in _CLAIMED),
        failed=frozenset(run.host for run in runs if run.state in {RunState.FAILED, RunState.LOST}),
        inputs={one.data: sizes[one.data] for one in job.inputs},
        index=job.index,
    )


def most_that_begin(offers: Mapping[HostId, HostOffer]) -> int:
    """How many runs could begin now at most: each takes a processor."""
    room = 0
    for offer in offers.values():
        if not offer.refuses and offer.cpus > 0:
            room += offer.cpus if offer.slots is None else max(0, min(offer.cpus, offer.slots))
    return room
