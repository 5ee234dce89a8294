"""What a simulated host has: what it lends, its copies and machines, and what it said.

Owns these records alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bitdew.core.ids import Uid
from bitdew.core.states import MachineState, PlacementState
from bitdew.wire.models import ErrorView, SyncRequest

GB: Final = 2**30
MBIT: Final = 1_000_000 / 8


@dataclass(slots=True)
class Lent:
    """What a host lends. Sizes in bytes, rates in bytes a second."""

    cpus: int = 4
    memory: int = 8 * GB
    quota: int = 100 * GB
    disk: int = 200 * GB
    """What its file system could hold of copies and of everything else."""
    others: int = 0
    """What everything else takes of that."""
    labels: dict[str, str] = field(default_factory=dict)
    sharings: dict[str, str] = field(default_factory=lambda: {"qemu": "8.0"})
    down: float = 100 * MBIT
    up: float = 20 * MBIT


@dataclass(slots=True)
class Copy:
    """A datum on the disk, or on its way there."""

    uid: Uid
    root: str
    size: int
    state: PlacementState
    generation: int
    done: float = 0.0
    freed: int = 0
    reason: ErrorView | None = None


@dataclass(slots=True)
class SimulatedMachine:
    """A machine on the host."""

    uid: Uid
    data: Uid
    state: MachineState
    generation: int
    reason: ErrorView | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a request says, so that it can be confirmed."""

    boot: str
    request: SyncRequest
    copies: dict[Uid, int]
    machines: dict[Uid, int]
