"""What a standing job is, and the job that it makes for a datum. Pure: when, and for which data, is not said here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid, new_uid
from bitdew.core.job import JobSpec
from bitdew.core.job_path import checked_path
from bitdew.core.states import JobState
from bitdew.wire import limits
from bitdew.wire.models import ErrorView

from .records import JobInput, JobRecord
from .submitting import PLACEHOLDER, checked_outputs, laid_out, name_of, put_in

_LONGEST: Final = "x" * limits.NAME
"""No datum's name is longer, and none has other characters than may stand in a path."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A template from which a job is made for each datum that has an attribute.

    Attributes:
        uid: The standing job, and the array of the jobs that it makes.
        name: What these are called; the program's name if nothing else was said.
        owner: Whose they are.
        created: When it was submitted.
        attribute: The name of the attribute that a datum must have.
        path: Where the datum's bytes stand in its job's directory.
        spec: The command, with placeholders.
        results: What should be true of what its jobs leave.
        inputs: What each of them reads beside.
        provision: The disk that machines are deployed from.
        machines: How many such machines at most.
        at_once: How many of its jobs may be under way.
        made: How many it has made.
        ended: When it was cancelled.
        ended_by: By whom.
    """

    uid: Uid
    name: str | None
    owner: str
    created: datetime
    attribute: str
    path: str
    spec: JobSpec
    results: Any = field(hash=False, default_factory=dict)
    inputs: tuple[JobInput, ...] = ()
    provision: Uid | None = None
    machines: int = 1
    at_once: int = 100
    made: int = 0
    ended: datetime | None = None
    ended_by: str = ""


def checked(standing: Standing) -> Standing:
    """`standing`, if a job can be made of it for a datum of any name.

    Raises:
        UserError: `input.invalid`.
    """
    spec = checked_outputs(put_in(standing.spec, _LONGEST))
    checked_path(standing.path.replace(PLACEHOLDER, _LONGEST))
    if PLACEHOLDER not in standing.path:  # else it depends on the datum: see `job_for`
        laid_out([*standing.inputs, JobInput(standing.uid, standing.path)])
    name_of(spec)
    return standing


def job_for(standing: Standing, data: Uid, name: str, index: int, now: datetime) -> JobRecord:
    """The job for the datum `data`, called `name`.

    One whose datum would stand where another input does is made as well, and has failed: so that it is told of.
    """
    spec, state, reason = put_in(standing.spec, name), JobState.QUEUED, None
    inputs = standing.inputs
    try:
        inputs = laid_out([*inputs, JobInput(data, standing.path.replace(PLACEHOLDER, name))])
    except BitDewError as fault:
        state, reason = JobState.FAILED, ErrorView.of(fault).model_dump(mode="json")
    return JobRecord(
        uid=new_uid(),
        array=standing.uid,
        index=index,
        name=standing.name or name_of(spec),
        owner=standing.owner,
        created=now,
        spec=spec,
        results=standing.results,
        inputs=inputs,
        state=state,
        since=now,
        reason=reason,
        provision=standing.provision,
        machines=standing.machines,
        datum=name,
    )
