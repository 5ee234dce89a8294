"""Models of hosts that are to be emptied: the wish, and how far that is."""

from __future__ import annotations

from pydantic import Field

from bitdew.core.draining import Drain

from .hosts import HostView
from .model import Model


class DrainRequest(Model):
    """Have a host emptied."""

    machines: Drain = Drain.KEEP


class LeftCopy(Model):
    """A copy that is still on a host."""

    uid: str
    name: str
    size: int
    state: str
    only_here: bool
    """Whether its bytes are whole nowhere else: not in the repository, and on no other living host."""
    moving: bool
    """Whether another copy is on its way elsewhere, or about to be: leaving now would cut it off."""
    reason: str
    """Why it is there still."""


class LeftMachine(Model):
    """A machine that is still on a host."""

    uid: str
    disk: str
    state: str
    moving: bool
    """Whether another takes its place, and it ends once that runs."""
    reason: str


class DrainView(Model):
    """What is still on a host, the first hundred copies and machines of it by name."""

    host: HostView
    copies: int
    """Copies there, verified or not."""
    size: int
    """Bytes of them."""
    only_here: int
    """How many of them are whole nowhere else."""
    moving: int
    """For how many of those that are told another copy is on its way."""
    machines: int
    empty: bool
    """Whether neither a copy nor a machine is left."""
    left: list[LeftCopy] = Field(default_factory=list)
    left_machines: list[LeftMachine] = Field(default_factory=list)
