"""Models of data and disks as people ask for them and see them: what is wanted, where copies are, and why."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel

from bitdew.core.data import Kind
from bitdew.core.states import PlacementState

from . import limits
from .attributes import Choice
from .content import RecordModel
from .model import EndpointText, ErrorView, Model, NameText, RootText, Size, UidText


class DatumRequest(Model):
    """A datum that is described before its bytes come."""

    name: NameText
    root: RootText
    size: Size
    kind: Kind = Kind.FILE
    attribute: Choice = Field(default_factory=dict)


class DataRequest(Model):
    """Data to create: all of them, or none."""

    data: Annotated[list[DatumRequest], Field(min_length=1, max_length=limits.BATCH)]


class DataCreated(Model):
    """The uids of what was created, in the order of the request."""

    uids: list[UidText]


class DiskRequest(Model):
    """A disk: the bytes of an upload, a signed record and wishes."""

    upload: UidText
    record: RecordModel
    attribute: Choice = Field(default_factory=dict)


class DataView(Model):
    """A datum as people see it."""

    uid: UidText
    name: str
    root: RootText
    info_hash: RootText
    size: int
    created: datetime
    owner: str
    kind: Kind = Kind.FILE
    """Whether it is a file, or a folder that travels as its archive."""
    alive: bool = True
    died: datetime | None = None
    died_because: str = ""
    ends: datetime | None = None
    """When its life ends by a date or a duration."""
    awaited: bool = False
    """Whether its bytes have not come yet: nothing is placed before."""
    damaged: bool = False
    """Whether the repository's own copy is bad."""
    damage: ErrorView | None = None
    """Why it is, where the service that was asked knows."""
    seeded: bool = False
    """Whether its publisher offers its bytes, or did, in the repository's place."""
    origin: EndpointText | None = None
    """Where the publisher offers it now; None while it does not."""
    is_disk: bool = False
    attribute: dict[str, Any]
    """Its wishes."""
    attribute_name: str | None = None
    wanted: int
    """Verified copies wanted; -1 for everywhere."""
    held: int
    intended: int
    egress: int
    """Bytes that the repository has sent of it since the service started."""


class DiskView(DataView):
    """A disk as people see it: a datum with its publisher's record."""

    is_disk: bool = True
    format: str
    os: str
    arch: str
    version: str
    publisher: str
    expires: datetime
    deprecated: str = ""
    """Why no more machines are to run from it."""


class DeprecationRequest(Model):
    """Say that no more machines are to run from a disk."""

    why: Annotated[str, Field(min_length=1, max_length=1000)] = "a newer one took its place"


class AnyDatum(RootModel[DiskView | DataView]):
    """A datum, with its record if it is a disk."""

    model_config = ConfigDict(frozen=True)


class DataList(Model):
    """A page of the living data, by name."""

    data: list[DataView]
    next: str | None = None
    """What to hand as `after` for the next page; None on the last one."""


class DiskList(Model):
    """A page of the living disks, by name."""

    disks: list[DiskView]
    next: str | None = None
    """What to hand as `after` for the next page; None on the last one."""


class PlacementView(Model):
    """One datum on one host, as users see it."""

    host: UidText
    host_name: str
    state: PlacementState
    since: datetime
    done: int
    size: int
    seconds: float | None = None
    """From the order to the verified copy."""
    from_repository: int
    from_peers: int
    reused: int = 0
    """Bytes of it that were on the host already, in other copies; known when the copy is held, or has failed."""
    freed: int = 0
    """Bytes that the host had back by dropping the copy."""
    reason: ErrorView | None = None
    retry_at: datetime | None = None
    cause: str
    history: list[str] = Field(default_factory=list)


class WhereReply(Model):
    """Where a datum is. `version` grows with every change; hand it back as `since` to wait for the next."""

    version: int
    data: DiskView | DataView
    placements: list[PlacementView]


class HostVerdict(Model):
    """What the scheduler thinks of one host for one datum.

    `displaced`: it holds a copy where the datum may no longer be; that does not count, and goes once others are held.
    """

    host: UidText
    host_name: str
    verdict: Literal["holds", "intended", "chosen", "eligible", "refused", "displaced"]
    reason: str


class ExplainReply(Model):
    """Why things are as they are, and what happens next."""

    data: DiskView | DataView
    wanted: int
    held: int
    intended: int
    missing: int
    attribute: list[str] = Field(default_factory=list)
    """What each wish amounts to here, a sentence each."""
    lifetime: str = ""
    """When and why its life ends; empty if nothing ends it."""
    hosts: list[HostVerdict]
    next: list[str]
    """What happens next, a sentence each."""
    when: datetime | None = None
    """When it is looked at again without anything else happening."""
