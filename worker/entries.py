"""What the journal keeps, as the worker uses it, and how it is read back from text.

Owns the entries' shapes. A text that is no entry is said to be spoilt; what to do then is the journal's matter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter, ValidationError

from bitdew.core.states import MachineState, PlacementState
from bitdew.hypervisor import Handle
from bitdew.wire.models import EndpointText, ErrorView, LaunchOrder, Order, PlaceOrder, PortModel, SnapshotModel

from .plugins.contract import Replica


@dataclass(slots=True)
class PlacementEntry:
    """One datum on this host.

    Attributes:
        uid: The datum.
        generation: That of the last order applied to it.
        order: What is to be held; the peers in it grow as more become known.
        state: Where it stands.
        started: When the first order to hold it was applied, UTC.
        seconds: From then to the verified copy; None before.
        done: Bytes in verified pieces.
        from_repository: Bytes that came from the service's repository.
        from_peers: Bytes that came from everybody else.
        corrupt: Pieces that arrived wrong.
        reused: Bytes that were taken from other copies on this host.
        freed: Bytes that its files took on the disk right before they were removed; 0 as long as they are there, and
            where another datum needs them.
        reason: Why it is as it is, if something went wrong.
    """

    uid: str
    generation: int
    order: PlaceOrder
    state: PlacementState
    started: datetime
    seconds: float | None = None
    done: int = 0
    from_repository: int = 0
    from_peers: int = 0
    corrupt: int = 0
    reused: int = 0
    freed: int = 0
    reason: ErrorView | None = None


@dataclass(slots=True)
class MachineEntry:
    """One machine on this host.

    Attributes:
        uid: The machine.
        generation: That of the last order applied to it.
        order: What it is made of.
        state: Where it stands.
        hypervisor: The name of the driver that runs it; "" before one was chosen.
        handle: The driver's handle; None before the machine was started.
        reason: Why it ended, if not by itself.
        halting: An order to halt it was applied.
        console_bytes: How much of the console file the service has confirmed.
        console_characters: The same in characters.
        held: Its user paused it.
        body: The machine of which this one has the disk, and under whose uid its driver knows it; "" if it is its own.
        snapshots: What of it was saved, oldest first.
        ports: The ports of this host that lead to it.
    """

    uid: str
    generation: int
    order: LaunchOrder
    state: MachineState
    hypervisor: str = ""
    handle: Handle | None = None
    reason: ErrorView | None = None
    halting: bool = False
    console_bytes: int = 0
    console_characters: int = 0
    held: bool = False
    body: str = ""
    snapshots: list[SnapshotModel] = field(default_factory=list)
    ports: list[PortModel] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HeldCopy:
    """A file that was verified, as it was then: an equal size and time of change stand for equal bytes.

    Attributes:
        size: Bytes.
        mtime: Nanoseconds since the epoch.
    """

    size: int
    mtime: int


@dataclass(frozen=True, slots=True)
class Scrub:
    """How far a held copy was read back. Instants are seconds since the epoch; 0 is never.

    Attributes:
        piece: The next one to be read.
        whole: When the last one of all was read.
        read: When any was read last.
    """

    piece: int = 0
    whole: float = 0.0
    read: float = 0.0


@dataclass(slots=True)
class Recollection:
    """Everything that the journal has, read at the start of a worker.

    Attributes:
        generation: Up to it everything was received.
        generations: That of the last order on each subject, also where nothing is left to do of it.
        orders: The last order on each subject, where it is not done with.
        placements: What is known of each datum.
        machines: What is known of each machine.
        copies: The files that were verified, by root.
        scrubs: How far each of them was read back.
        told: What each plug-in and bridge knows to be held, by its name and the data's uids.
    """

    generation: int = 0
    generations: dict[str, int] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    placements: list[PlacementEntry] = field(default_factory=list)
    machines: list[MachineEntry] = field(default_factory=list)
    copies: dict[str, HeldCopy] = field(default_factory=dict)
    scrubs: dict[str, Scrub] = field(default_factory=dict)
    told: dict[str, dict[str, Replica]] = field(default_factory=dict)


PLACEMENT: Final = TypeAdapter(PlacementEntry)
MACHINE_ENTRY: Final = TypeAdapter(MachineEntry)
TOLD: Final = TypeAdapter(Replica)
_ADDRESS: Final[TypeAdapter[str]] = TypeAdapter(EndpointText)


class Spoilt(Exception):  # noqa: N818 - caught where it is raised
    """What is in the file is no journal."""


def machine_from(body: str) -> MachineEntry:
    """The machine that `body` tells of.

    Raises:
        ValidationError: if it is none.
    """
    return MACHINE_ENTRY.validate_json(body)


def order_from(body: str) -> Order:
    """The order that `body` tells of.

    Raises:
        ValidationError, Spoilt: if it is none.
    """
    try:
        return Order.model_validate_json(body)
    except ValidationError:
        repaired, repository = _without_bad_addresses(body, "place")
        order = Order.model_validate_json(repaired)
        return order.model_copy(update={"place": order.place and order.place.model_copy(update=repository)})


def placement_from(body: str) -> PlacementEntry:
    """The datum on this host that `body` tells of.

    Raises:
        ValidationError, Spoilt: if it is none.
    """
    try:
        return PLACEMENT.validate_json(body)
    except ValidationError:
        repaired, repository = _without_bad_addresses(body, "order")
        entry = PLACEMENT.validate_json(repaired)
        entry.order = entry.order.model_copy(update=repository)
        return entry


def _without_bad_addresses(body: str, name: str) -> tuple[str, dict[str, str]]:
    """`body` with acceptable addresses in its order `name`, and the repository's as it was, to be put back.

    Earlier releases accepted addresses that the wire refuses now. The one datum that has such a repository fails with
    that reason; the journal must not be lost for it. What is spoilt otherwise stays so.
    """
    try:
        known = json.loads(body)
        wish = known[name]
        repository = wish["repository"]
        wish["peers"] = [peer for peer in wish["peers"] if _is_address(peer)]
        if not _is_address(repository):
            wish["repository"] = "127.0.0.1:1"
        return json.dumps(known), {"repository": str(repository)}
    except (ValueError, LookupError, TypeError) as cause:
        raise Spoilt(f"{body[:80]!r} is no entry of a journal") from cause


def _is_address(text: object) -> bool:
    try:
        _ADDRESS.validate_python(text)
    except ValidationError:
        return False
    return True
