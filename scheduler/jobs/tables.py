"""The tables of jobs. Rows never leave the store."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from ...catalog.database import Base, UtcDateTime

_PROVIDED: Final = text("provision IS NOT NULL")


class JobRow(Base):
    """One command that somebody wants to be run."""

    __tablename__ = "jobs"
    # What waits is looked for by its shape, and within it in the order in which it is served.
    __table_args__ = (
        Index("ix_jobs_queue", "state", "shape", text("priority DESC"), "created", "array", "place"),
        Index("ix_jobs_provision", "provision", "state", sqlite_where=_PROVIDED, postgresql_where=_PROVIDED),
        Index("ix_jobs_created", "created", "array", "place"),
        Index("ix_jobs_array_state", "array", "state"),
        Index("ix_jobs_state_since", "state", "since"),
    )

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    array: Mapped[str] = mapped_column(String(32), index=True)
    place: Mapped[int]
    """Among the jobs that were submitted together."""
    name: Mapped[str] = mapped_column(String(128))
    owner: Mapped[str] = mapped_column(String(128))
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    results: Mapped[Any] = mapped_column(JSON)
    priority: Mapped[int] = mapped_column(default=0)
    shape: Mapped[str] = mapped_column(String(64))
    """The same for jobs of one user that ask the same of a host."""
    state: Mapped[str] = mapped_column(String(16))
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    reason: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    kept: Mapped[str | None] = mapped_column(String(32))
    provision: Mapped[str | None] = mapped_column(ForeignKey("data.uid"))
    """The disk that machines are deployed from for it."""
    machines: Mapped[int] = mapped_column(default=1)
    datum: Mapped[str | None] = mapped_column(String(128))
    """The name of the datum that a standing job made it for."""


class JobInputRow(Base):
    """A datum that a job reads."""

    __tablename__ = "job_inputs"

    job: Mapped[str] = mapped_column(ForeignKey("jobs.uid"), primary_key=True)
    path: Mapped[str] = mapped_column(String(1024), primary_key=True)
    data: Mapped[str] = mapped_column(ForeignKey("data.uid"), index=True)


class RunRow(Base):
    """One attempt of a job on one host."""

    __tablename__ = "job_runs"
    __table_args__ = (Index("ix_job_runs_state_host", "state", "host"),)

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.uid"), index=True)
    number: Mapped[int]
    host: Mapped[str] = mapped_column(ForeignKey("hosts.uid"))
    state: Mapped[str] = mapped_column(String(16))
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    started: Mapped[datetime] = mapped_column(UtcDateTime)
    heard: Mapped[datetime] = mapped_column(UtcDateTime)
    generation: Mapped[int] = mapped_column(BigInteger, default=0)
    cause: Mapped[str] = mapped_column(Text, default="")
    reason: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    exit_code: Mapped[int | None]
    wall: Mapped[float | None] = mapped_column(Double)
    cpu: Mapped[float | None] = mapped_column(Double)
    memory: Mapped[int | None] = mapped_column(BigInteger)
    outputs: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    digest: Mapped[str] = mapped_column(String(64), default="")
    log: Mapped[str] = mapped_column(Text, default="", deferred=True)
    """The last characters of its log; read only where it is asked for."""
    log_end: Mapped[int] = mapped_column(BigInteger, default=0)
    """Characters that the log has in all."""


class ResultRow(Base):
    """A file that a run left, as a datum."""

    __tablename__ = "job_results"

    run: Mapped[str] = mapped_column(ForeignKey("job_runs.uid"), primary_key=True)
    path: Mapped[str] = mapped_column(String(1024), primary_key=True)
    data: Mapped[str] = mapped_column(ForeignKey("data.uid"))
    root: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)


class ProvisionRow(Base):
    """Machines that were deployed for a user's jobs."""

    __tablename__ = "job_provisions"

    owner: Mapped[str] = mapped_column(String(128), primary_key=True)
    disk: Mapped[str] = mapped_column(ForeignKey("data.uid"), primary_key=True)
    deployment: Mapped[str] = mapped_column(String(32))
    count: Mapped[int]
    idle_since: Mapped[datetime | None] = mapped_column(UtcDateTime)


class StandingRow(Base):
    """A template from which a job is made for each datum that has an attribute."""

    __tablename__ = "standing_jobs"
    __table_args__ = (Index("ix_standing_jobs_ended_owner", "ended", "owner"),)

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(128))
    owner: Mapped[str] = mapped_column(String(128))
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    attribute: Mapped[str] = mapped_column(String(128))
    """By its name: one that is removed and defined again counts."""
    path: Mapped[str] = mapped_column(String(1024))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    results: Mapped[Any] = mapped_column(JSON)
    inputs: Mapped[list[Any]] = mapped_column(JSON)
    provision: Mapped[str | None] = mapped_column(ForeignKey("data.uid"))
    machines: Mapped[int]
    at_once: Mapped[int]
    made: Mapped[int] = mapped_column(default=0)
    ended: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_by: Mapped[str] = mapped_column(String(128), default="")


class StandingMatchRow(Base):
    """A datum that a standing job has looked at. By the primary key there is one job per datum, whatever happens."""

    __tablename__ = "standing_matches"
    __table_args__ = (Index("ix_standing_matches_standing_at", "standing", "at"),)

    standing: Mapped[str] = mapped_column(ForeignKey("standing_jobs.uid"), primary_key=True)
    data: Mapped[str] = mapped_column(ForeignKey("data.uid"), primary_key=True)
    job: Mapped[str | None] = mapped_column(String(32))
    """No foreign key: the match outlives the job."""
    at: Mapped[datetime] = mapped_column(UtcDateTime)
