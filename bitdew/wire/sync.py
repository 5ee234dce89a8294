"""Models of the sync between a host and the scheduler: reports one way, orders the other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bitdew.core.orders import OrderKind
from bitdew.core.states import MachineState, PlacementState

from . import limits
from .content import RecordModel
from .errands import ErrandOrder, SnapshotModel
from .hosts import HostReport
from .jobs import RunOrder
from .machines import PortModel
from .model import Count, EndpointText, ErrorView, Instant, Model, NameText, RootText, Sentence, Size, UidText


class PlacementReport(Model):
    """One copy, as the host that has it says. Figures in bytes and seconds."""

    uid: UidText
    root: RootText
    state: PlacementState
    generation: Count
    """The generation of the last order that the host applied to this datum."""
    done: Size = 0
    size: Size = 0
    seconds: Annotated[float, Field(ge=0, le=2**53)] | None = None
    from_repository: Count = 0
    from_peers: Count = 0
    corrupt: Count = 0
    reused: Count = 0
    """Bytes that were taken from other copies on the host."""
    seeks: bool = False
    """Whether it is a member of its swarm by now, or about to be, and lacks pieces."""
    freed: Count = 0
    """Bytes that dropping the copy gave back."""
    reason: ErrorView | None = None


class ConsoleChunk(Model):
    """A part of a machine's serial console."""

    offset: Count
    """Characters before this part."""
    text: Annotated[str, Field(max_length=limits.CONSOLE_CHUNK)]


class MachineReport(Model):
    """One machine, as its host says."""

    uid: UidText
    state: MachineState
    generation: Count
    hypervisor: Annotated[str, Field(max_length=32, pattern=r"^[^\x00]*$")] = ""
    reason: ErrorView | None = None
    console: ConsoleChunk | None = None
    ports: list[PortModel] = Field(default_factory=list, max_length=limits.PORTS)
    snapshots: list[SnapshotModel] = Field(default_factory=list, max_length=limits.SNAPSHOTS)


class SyncRequest(Model):
    """What a host has, and the question what it should do."""

    boot: UidText
    """New at each start of the worker."""
    generation: Count
    """The highest generation whose orders the host has persisted."""
    wait: Annotated[float, Field(ge=0, le=limits.LONGEST_POLL)] = 0
    """Seconds that the reply may be held open while there is no order."""
    full: bool = False
    """Whether `placements` and `machines` are all that there are, or only what changed."""
    host: HostReport | None = None
    placements: list[PlacementReport] = Field(default_factory=list, max_length=limits.PLACEMENTS)
    machines: list[MachineReport] = Field(default_factory=list, max_length=limits.MACHINES)


class PlaceOrder(Model):
    """Hold this content."""

    name: str
    root: RootText
    size: Size
    info_hash: RootText
    repository: EndpointText
    protocol: Literal["auto", "bittorrent", "http"] = "auto"
    peers: list[EndpointText] = Field(default_factory=list, max_length=limits.PEERS)
    """Others who hold it or are to: those at the host's own site first."""
    copies: Count = 0
    """How many hosts hold it or are to, this one among them, as far as the service counted; 0 if it does not say."""
    attribute: Annotated[str, Field(max_length=limits.NAME)] = ""
    """The name of its attribute now, for whoever on the host chooses by it; "" if that has none."""
    priority: int = 0
    """Where a host can't fetch everything at once, the higher comes first."""


class LaunchOrder(Model):
    """Boot a machine from this disk."""

    data: UidText
    root: RootText
    record: RecordModel
    memory: Count
    cpus: Annotated[int, Field(ge=1, le=256)]
    network: Literal["none", "user"] = "none"
    seeded: bool = False
    """Whether it is told something: `POST /v1/machines/{uid}/seed` says what."""
    continues: UidText | None = None
    """A machine that ended on this host: this one goes on from its snapshot."""
    snapshot: NameText | None = None
    ports: list[PortModel] = Field(default_factory=list, max_length=limits.PORTS)
    ends: Instant | None = None
    """When the host ends it, whatever became of the service."""


class Order(Model):
    """One instruction to one host. Applying it twice is the same as applying it once.

    An order whose generation is not above the last one applied to the same subject is stale: the host keeps what it
    has.
    """

    uid: UidText
    generation: Count
    kind: OrderKind
    subject: UidText
    """The datum's uid for place and drop, the machine's for launch and halt, the run's for run and cancel, the errand's
    own for errand."""
    cause: Sentence
    place: PlaceOrder | None = None
    launch: LaunchOrder | None = None
    errand: ErrandOrder | None = None
    run: RunOrder | None = None


class CallView(Model):
    """What another host fetches from its swarm: a copy of it that was kept away from there is to join."""

    root: RootText
    peer: EndpointText | None = None
    """Where whoever fetches it listens."""


class SyncReply(Model):
    """What the host should do."""

    generation: Count
    """The highest generation in `orders`, or of what the host has already."""
    orders: list[Order] = Field(default_factory=list, max_length=limits.ORDERS)
    full: bool = False
    """Whether the next sync should carry everything."""
    period: float
    """Seconds: the longest silence before the host is suspect."""
    doubted: list[RootText] = Field(default_factory=list, max_length=limits.DOUBTS)
    """Contents of which a peer got wrong pieces from this host: it is to read its copies. Said again for a while."""

    calls: list[CallView] = Field(default_factory=list, max_length=limits.CALLS)


class SoughtReply(Model):
    """What others fetch now of that which the host holds."""

    roots: list[RootText] = Field(max_length=limits.SOUGHT)
