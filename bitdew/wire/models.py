"""Request and reply models. Each is frozen and refuses unknown keys.

What a caller sends is bounded field by field; a reply is bounded as a whole, by the transport.
"""

from __future__ import annotations

import ipaddress
import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bitdew.core.data import SignedRecord
from bitdew.core.errors import ERRORS, BitDewError, error
from bitdew.core.host import Endpoint, HostFacts, Resources, Sharing
from bitdew.core.ids import HostId
from bitdew.core.orders import OrderKind
from bitdew.core.states import HostState, MachineState, PlacementState

from . import limits

UidText = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
RootText = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NameText = Annotated[str, Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$")]
Sentence = Annotated[str, Field(max_length=limits.TEXT)]
PemText = Annotated[str, Field(max_length=limits.PEM)]
Size = Annotated[int, Field(ge=0, le=limits.LARGEST_DISK)]
Count = Annotated[int, Field(ge=0, le=2**53)]


def _reachable(text: str) -> str:
    """`text`, if it is an address and port that a peer can be dialled at."""
    try:
        endpoint = Endpoint.parse(text)
    except BitDewError as fault:
        raise ValueError(fault.message) from None
    address = ipaddress.ip_address(endpoint.host)
    if endpoint.port == 0 or address.is_unspecified or address.is_multicast:
        raise ValueError(f"{text} can't be dialled")
    return text


EndpointText = Annotated[str, Field(max_length=64), AfterValidator(_reachable)]


class Model(BaseModel):
    """What every model has in common."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ser_json_bytes="base64", val_json_bytes="base64"
    )


# Errors -------------------------------------------------------------------------------------------------------------


def _json(value: Any, *, allow_nan: bool = False) -> bytes:
    """`value` as JSON; what JSON has no form for is told by its text, and half characters become question marks."""
    return json.dumps(value, default=str, ensure_ascii=False, allow_nan=allow_nan).encode(errors="replace")


def _checked_fields(fields: dict[str, Any]) -> dict[str, Any]:
    if len(_json(fields)) > limits.FIELDS:
        raise ValueError(f"they take more than {limits.FIELDS} bytes")
    return fields


class ErrorView(Model):
    """An error on the wire, in a state's reason and in `--json`."""

    key: Annotated[str, Field(max_length=64)]
    message: Sentence
    why: Sentence = ""
    do: Sentence = ""
    fields: Annotated[dict[str, Any], AfterValidator(_checked_fields)] = Field(default_factory=dict)

    @classmethod
    def of(cls, fault: BitDewError) -> ErrorView:
        """The view of `fault`, cut to its bounds: sentences at their end, fields from the first that has no room."""
        told: dict[str, Any] = {}
        for name, value in fault.fields.items():
            plain = json.loads(_json(value, allow_nan=True), parse_constant=lambda _: None)
            longer = {**told, name: plain}
            if len(_json(longer)) > limits.FIELDS:
                break
            told = longer
        message, why, do = (
            text[: limits.TEXT].encode(errors="replace").decode() for text in (fault.message, fault.why, fault.do)
        )
        return cls(key=fault.key, message=message, why=why, do=do, fields=told)

    def to_error(self) -> BitDewError:
        """The error again, on the other side. A key of a newer release becomes `internal`."""
        key = self.key if self.key in ERRORS else "internal"
        fields = {k: v for k, v in self.fields.items() if k not in {"why", "do"}}
        return error(key, self.message, why=self.why, do=self.do, **fields)


class ErrorReply(Model):
    """The body of every reply that is not a success."""

    error: ErrorView


# Identity -----------------------------------------------------------------------------------------------------------


class AuthorityReply(Model):
    """The service's CA, for whoever holds its fingerprint."""

    certificate: PemText


class ServiceReply(Model):
    """What a service says of itself."""

    name: str
    version: str
    api: int
    fingerprint: str
    subject: str
    role: str


class EnrolRequest(Model):
    """A token's secret and requests for certificates, from a key that stays where it was made."""

    secret: Annotated[str, Field(max_length=256)]
    name: NameText
    identity_csr: PemText
    swarm_csr: PemText | None = None
    signing_csr: PemText | None = None


class RenewRequest(Model):
    """Requests for certificates, authenticated by the one in force."""

    identity_csr: PemText
    swarm_csr: PemText | None = None
    signing_csr: PemText | None = None


class EnrolReply(Model):
    """The certificates that the token's role allows."""

    subject_id: UidText
    name: NameText
    role: str
    ca: PemText
    identity: PemText
    swarm: PemText | None = None
    signing: PemText | None = None


class TokenRequest(Model):
    """A wish for a join token."""

    role: Literal["worker", "user", "publisher", "operator"]
    uses: Annotated[int, Field(ge=1, le=100_000)] = 1
    seconds: Annotated[float, Field(gt=0, le=366 * 86400)] = 86400.0
    note: Annotated[str, Field(max_length=200)] = ""


class TokenView(Model):
    """A join token as the operator sees it; `token` is there only in the reply to its making."""

    uid: UidText
    role: str
    uses_left: int
    expires: datetime
    note: str
    created: datetime
    token: str | None = None


class TokenList(Model):
    """The tokens that can still be used."""

    tokens: list[TokenView]


# Data ---------------------------------------------------------------------------------------------------------------


class UploadRequest(Model):
    """The wish to upload a file's bytes for a datum of this name."""

    name: NameText
    size: Size


class UploadReply(Model):
    """Where the bytes go."""

    upload: UidText


class UploadDone(Model):
    """What the service received."""

    root: RootText
    size: Size


class RecordModel(Model):
    """A signed image record on the wire."""

    payload: Annotated[bytes, Field(max_length=limits.RECORD)]
    signature: Annotated[bytes, Field(max_length=1024)]
    certificate: PemText

    @classmethod
    def of(cls, signed: SignedRecord) -> RecordModel:
        """The model of `signed`."""
        return cls(payload=signed.payload, signature=signed.signature, certificate=signed.certificate)

    def to_signed(self) -> SignedRecord:
        """The record as the rooms use it."""
        return SignedRecord(self.payload, self.signature, self.certificate)


class DiskRequest(Model):
    """A disk: the bytes of an upload, a signed record and wishes."""

    upload: UidText
    record: RecordModel
    attribute: dict[Annotated[str, Field(max_length=64)], Any] = Field(default_factory=dict, max_length=32)


class DiskView(Model):
    """A disk as users see it."""

    uid: UidText
    name: str
    root: RootText
    info_hash: RootText
    size: int
    format: str
    os: str
    arch: str
    version: str
    publisher: str
    created: datetime
    expires: datetime
    damaged: bool
    attribute: dict[str, Any]
    wanted: int
    """Verified copies wanted; -1 for everywhere."""
    held: int
    intended: int
    egress: int
    """Bytes that the repository has sent of it since the service started."""


class DiskList(Model):
    """All disks."""

    disks: list[DiskView]


class MetainfoReply(Model):
    """The .torrent that a worker needs to join the swarm of some content."""

    metainfo: Annotated[bytes, Field(max_length=limits.BODY)]


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
    reason: ErrorView | None = None
    retry_at: datetime | None = None
    cause: str
    history: list[str] = Field(default_factory=list)


class WhereReply(Model):
    """Where a disk is. `version` grows with every change; hand it back as `since` to wait for the next."""

    version: int
    disk: DiskView
    placements: list[PlacementView]


class HostVerdict(Model):
    """What the scheduler thinks of one host for one datum."""

    host: UidText
    host_name: str
    verdict: Literal["holds", "intended", "chosen", "eligible", "refused"]
    reason: str


class ExplainReply(Model):
    """Why things are as they are, and what happens next."""

    disk: DiskView
    wanted: int
    held: int
    intended: int
    missing: int
    hosts: list[HostVerdict]
    next: list[str]


# Hosts --------------------------------------------------------------------------------------------------------------


class SharingModel(Model):
    """A sharing as announced."""

    name: NameText
    version: Annotated[str, Field(max_length=64)] = ""


class HostReport(Model):
    """What a host says of itself when it joins and when it changes."""

    name: NameText
    swarm: EndpointText
    cpus: Annotated[int, Field(ge=1, le=65536)]
    memory: Count
    quota: Count
    used: Count
    free: Count
    labels: dict[NameText, Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=limits.LABELS
    )
    sharings: list[SharingModel] = Field(default_factory=list, max_length=limits.LABELS)

    def to_facts(self, host_id: HostId) -> HostFacts:
        """The report as the planner sees it."""
        return HostFacts(
            host_id,
            self.name,
            Resources(cpus=self.cpus, memory=self.memory, quota=self.quota, used=self.used, free=self.free),
            dict(self.labels),
            tuple(sorted(Sharing(s.name, s.version) for s in self.sharings)),
        )

    def to_endpoint(self) -> Endpoint:
        """Where its swarm listens."""
        return Endpoint.parse(self.swarm)


class HostView(Model):
    """A host as users see it."""

    host: UidText
    name: str
    state: HostState
    last_seen: datetime | None
    swarm: str
    cpus: int
    memory: int
    quota: int
    used: int
    free: int
    labels: dict[str, str]
    sharings: list[SharingModel]
    held: int
    machines: int
    unknown: list[str] = Field(default_factory=list)
    """Uids of copies that it reports and the catalog does not know: kept until the operator decides."""


class HostList(Model):
    """All hosts."""

    hosts: list[HostView]


# Sync ---------------------------------------------------------------------------------------------------------------


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
    hypervisor: Annotated[str, Field(max_length=32)] = ""
    reason: ErrorView | None = None
    console: ConsoleChunk | None = None


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
    peers: list[EndpointText] = Field(default_factory=list, max_length=limits.PEERS)


class LaunchOrder(Model):
    """Boot a machine from this disk."""

    data: UidText
    root: RootText
    record: RecordModel
    memory: Count
    cpus: Annotated[int, Field(ge=1, le=256)]


class Order(Model):
    """One instruction to one host. Applying it twice is the same as applying it once.

    An order whose generation is not above the last one applied to the same subject is stale: the host keeps what it
    has.
    """

    uid: UidText
    generation: Count
    kind: OrderKind
    subject: UidText
    """The datum's uid for place and drop, the machine's for launch and halt."""
    cause: Sentence
    place: PlaceOrder | None = None
    launch: LaunchOrder | None = None


class SyncReply(Model):
    """What the host should do."""

    generation: Count
    """The highest generation in `orders`, or of what the host has already."""
    orders: list[Order] = Field(default_factory=list, max_length=limits.ORDERS)
    full: bool = False
    """Whether the next sync should carry everything."""
    period: float
    """Seconds: the longest silence before the host is suspect."""


class AnnounceRequest(Model):
    """Who else has, or is fetching, this content?"""

    root: RootText


class AnnounceReply(Model):
    """Peers: those who hold it first, the repository last."""

    peers: list[EndpointText] = Field(max_length=limits.PEERS)


# Machines -----------------------------------------------------------------------------------------------------------


class DeployRequest(Model):
    """Run machines from a disk."""

    disk: NameText
    count: Annotated[int, Field(ge=1, le=limits.MACHINES_PER_DEPLOYMENT)] = 1
    memory: Annotated[int, Field(ge=16 * 2**20, le=2**40)] = 256 * 2**20
    cpus: Annotated[int, Field(ge=1, le=256)] = 1


class MachineView(Model):
    """A machine as users see it."""

    uid: UidText
    deployment: UidText
    disk: str
    host: UidText | None
    host_name: str
    state: MachineState
    since: datetime
    hypervisor: str
    reason: ErrorView | None = None
    cause: str = ""
    console: int = 0
    """Characters that its console has written."""


class DeploymentView(Model):
    """A deployment as users see it."""

    uid: UidText
    disk: str
    count: int
    created: datetime
    machines: list[MachineView]


class MachineList(Model):
    """Machines."""

    machines: list[MachineView]


class ConsoleReply(Model):
    """A part of a machine's console, from `offset` on."""

    offset: int
    text: str
    end: int
    """Characters written so far: the offset to ask for next."""
    state: MachineState


class Nothing(Model):
    """An empty body."""
