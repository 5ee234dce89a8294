"""Rows of jobs and records of them, each made from the other. Rows never leave the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import JobState, RunState
from bitdew.wire.models import OutputModel, SpecModel

from .records import JobRecord, RunRecord
from .tables import JobRow


def shape_of(owner: str, spec: Mapping[str, Any]) -> str:
    """The same for jobs of one user that ask the same of a host."""
    asked = [owner, spec["command"][0], spec["needs"], spec["requires"], spec["caps"]["cpus"], spec["caps"]["memory"]]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def job_values(job: JobRecord, spec: Mapping[str, Any], shape: str) -> dict[str, Any]:
    """A new job, by column; `spec` is the job's as JSON."""
    return {
        "uid": job.uid,
        "array": job.array,
        "place": job.index,
        "name": job.name,
        "owner": job.owner,
        "created": job.created,
        "spec": spec,
        "results": job.results,
        "priority": job.spec.priority,
        "shape": shape,
        "state": job.state,
        "since": job.since or job.created,
        "reason": job.reason,
        "provision": job.provision,
        "machines": job.machines,
        "datum": job.datum or None,
    }


def run_values(run: RunRecord) -> dict[str, Any]:
    """What of a run changes, by column."""
    return {
        "state": run.state,
        "since": run.since,
        "heard": run.heard,
        "generation": run.generation,
        "reason": run.reason,
        "exit_code": run.exit_code,
        "wall": run.wall,
        "cpu": run.cpu,
        "memory": run.memory,
        "outputs": None if run.outputs is None else [one.model_dump(mode="json") for one in run.outputs],
        "digest": run.digest,
    }


def fixed_values(run: RunRecord) -> dict[str, Any]:
    """What of a run stays, by column."""
    return {
        "uid": run.uid,
        "job": run.job,
        "number": run.number,
        "host": run.host,
        "started": run.started,
        "cause": run.cause,
        "log": "",
        "log_end": 0,
    }


def job_from(row: JobRow) -> JobRecord:
    """A stored job, without its inputs."""
    return JobRecord(
        uid=Uid(row.uid),
        array=Uid(row.array),
        index=row.place,
        name=row.name,
        owner=row.owner,
        created=row.created,
        spec=SpecModel.model_validate(row.spec).to_spec(),
        results=row.results,
        state=JobState(row.state),
        since=row.since,
        reason=row.reason,
        kept=Uid(row.kept) if row.kept else None,
        provision=Uid(row.provision) if row.provision else None,
        machines=row.machines,
        datum=row.datum or "",
    )


def run_from(row: Row[Any]) -> RunRecord:
    """A stored run."""
    outputs = None if row.outputs is None else tuple(OutputModel.model_validate(one) for one in row.outputs)
    return RunRecord(
        uid=Uid(row.uid),
        job=Uid(row.job),
        number=row.number,
        host=HostId(row.host),
        state=RunState(row.state),
        since=row.since,
        started=row.started,
        heard=row.heard,
        generation=row.generation,
        cause=row.cause,
        reason=row.reason,
        exit_code=row.exit_code,
        wall=row.wall,
        cpu=row.cpu,
        memory=row.memory,
        log_end=row.log_end,
        outputs=outputs,
        digest=row.digest,
    )
