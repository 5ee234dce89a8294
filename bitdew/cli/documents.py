"""What commands print with `--json` beyond what the service itself says: the shapes of these documents.

Owns the shapes, no values. A document's schema is the name of its class and its version, 1 unless the class says
another one (`SHAPE: ClassVar = 2`): whoever takes a key away, or changes what it means, counts that up. `shapes` says
which command prints which.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from bitdew.wire.model import ErrorView, Model
from bitdew.wire.models import (
    AttributeView,
    DataView,
    DiskView,
    MachineView,
    PlacementView,
    SnapshotModel,
    SummaryReply,
    SwarmSummary,
    TokenView,
    WhereReply,
)


class Removed(Model):
    """Something is gone."""

    removed: str
    """What was named."""


# Data and disks -------------------------------------------------------------------------------------------------------


class AttributeShown(AttributeView):
    """An attribute, with its wishes in other spellings."""

    options: str
    """As options of a command."""
    line: str
    """In the language of one line."""
    toml: str


class AttributeChosen(Model):
    """A datum has another attribute."""

    datum: str
    attribute: AttributeView


class DataPut(DataView):
    """A datum that was put."""

    placements: list[PlacementView] | None = None
    """Where its copies are, if they were waited for."""


class DiskAdded(DiskView):
    """A disk that was added."""

    placements: list[PlacementView] | None = None
    """Where its copies are, if they were waited for."""


def put_document(datum: DataView, where: WhereReply | None) -> DataPut | DiskAdded:
    """What is told of a datum that was put, or of a disk, and of its copies if they were waited for."""
    view = datum if where is None else where.data
    placements = None if where is None else where.placements
    if isinstance(view, DiskView):
        return DiskAdded(**dict(view), placements=placements)
    return DataPut(**dict(view), placements=placements)


class DataGot(Model):
    """A datum came back."""

    path: str
    fetched: int
    """Bytes that came; the rest was there, or is zeros."""
    from_hosts: int = 0
    """How many of these hosts, or its publisher, were to give rather than the repository."""
    because: ErrorView | None = None
    """Why, where the repository should have had them all."""
    data: DiskView | DataView


class DataEvent(Model):
    """Something happened to a datum or to a copy: a line of `data watch`."""

    cursor: str
    kind: str
    data: str
    name: str
    at: datetime
    host: str | None
    host_name: str
    size: int
    why: str
    again: bool
    """Whether it is told because it is so, and may have been told before."""


class Offered(Model):
    """A datum is offered from here: the first line of a command with `--seed`."""

    event: Literal["offered"] = "offered"
    ready: Literal[True] = True
    name: str
    root: str
    size: int
    swarm: str


class CopyMoved(PlacementView):
    """A copy of what is offered got on: a line for each step, and for each quarter of it."""

    event: Literal["copy"] = "copy"


class OfferHeld(WhereReply):
    """Hosts hold what was offered: the last line."""

    event: Literal["held"] = "held"
    sent: int
    """Bytes that went out from here."""


class DiskMade(Model):
    """A tiny disk was written."""

    file: str
    size: int
    line: str
    stays: bool


class DiskBuilt(Model):
    """A disk was built by a recipe."""

    file: str
    size: int
    sha256: str
    kernel: str
    packages: int


# Jobs and machines ----------------------------------------------------------------------------------------------------


class ResultFetched(Model):
    """One result of a job is here."""

    job: str
    path: str
    size: int


class ResultsFetched(Model):
    """Results of a job, or of an array's jobs, are here."""

    results: list[ResultFetched]


class MachinesDrained(Model):
    """Machines that end once their jobs are done."""

    machines: list[MachineView]


class ScreenPictured(Model):
    """The picture of a machine's screen is here."""

    machine: str
    path: str
    bytes: int


class SnapshotsSaved(Model):
    """What was saved of a machine."""

    machine: str
    snapshots: list[SnapshotModel]


# People and services --------------------------------------------------------------------------------------------------


class HostRevoked(Model):
    """A host is shut out."""

    revoked: str
    name: str


class TokenMade(TokenView):
    """A join token, and the command that joins with it."""

    command: str


class TokenRevoked(Model):
    """A token can't be used any more."""

    revoked: str


class ProfileView(Model):
    """Who one is by a profile, to which service."""

    profile: str
    url: str
    name: str
    role: str
    subject_id: str
    fingerprint: str
    expires: datetime | None
    folder: str
    signs: bool
    """Whether disks can be signed with it."""


class ProfileShown(ProfileView):
    """A profile."""

    current: bool


class ProfileLine(ProfileShown):
    """A profile in a list."""

    damage: str = ""
    """Why it can't be read, if it can't: then only its name is known."""


class ProfileList(Model):
    """The profiles of this user."""

    current: str
    chosen_by: str
    profiles: list[ProfileLine]


class ProfileUsed(Model):
    """The profile that is used where none is named."""

    current: str
    chosen_by: str


class ProfileRemoved(Model):
    """A profile is gone."""

    removed: str
    folder: str


class SwarmPicture(SwarmSummary):
    """A swarm that fills, and how fast."""

    rate: float | None = None
    """Bytes a second that hosts get of it together; null until there were two looks."""
    left: float | None = None
    """Seconds until the copies on their way are there, at that rate."""


class GridPicture(SummaryReply):
    """The grid at one moment, and how fast what moves does."""

    swarms: list[SwarmPicture]  # type: ignore[assignment]  # each is a SwarmSummary, and nobody adds to them
    repository_rate: float | None = None
    """Bytes a second that leave the repository."""
    jobs_per_minute: float | None = None
    """Jobs that become done in a minute."""


class GridAway(Model):
    """The service did not answer; it is asked again."""

    why: str


class ServiceHealth(Model):
    """A service is well. What is not well is an error."""

    well: Literal[True] = True
    leads: bool
    """Whether it is the one that plans."""
    name: str
    version: str


class ServiceReady(Model):
    """A service runs: the only line of `serve`."""

    ready: Literal[True] = True
    url: str
    swarm: str
    name: str
    home: str
    fingerprint: str
    profile: str
    profile_name: str
    pid: int


class BackupMade(Model):
    """A service's catalog and CA are in a file."""

    file: str
    files: int
    size: int
    repository: bool
    """Whether the repository's files are in it."""


class BackupRestored(Model):
    """A service is as it was."""

    home: str
    made: str
    files: int
    repository: bool
    aside: str | None
    """Where what was there before is now."""


class OutputLeftOut(Model):
    """Lines were left out here: nobody read them in time."""

    event: Literal["output left out"] = "output left out"
    lines: int


# The demo -------------------------------------------------------------------------------------------------------------


class DemoReport(Model):
    """How the demo went, and that it left nothing behind."""

    held: int
    verified: int
    booted: bool
    hypervisor: str
    machine_host: str
    line: str
    console: str
    placed_seconds: float
    boot_seconds: float
    workers: int
    replicas: int
    size: int
    sha256: str
    egress: int
    egress_ratio: float
    hosts: list[dict[str, Any]]
    remarks: list[str]
    seconds: float
    clean: bool
    left: list[str]
    forced: list[str]
    folder: str | None
    error: ErrorView | None = None
