"""What a volunteer lends, and under which conditions.

Owns the settings, their bounds and defaults, and writing `<home>/worker.json`, which keeps what commands said of them.
Where else they come from is `configuration`. It must not measure what the machine has beyond the defaults: that is the
sharings' matter.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import psutil
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bitdew.core.errors import error
from bitdew.core.host import Endpoint
from bitdew.core.job import JobsAllowed
from bitdew.swarm.settings import LARGEST_CONNECTIONS, SwarmLimits, TransferLimits
from bitdew.wire import limits
from bitdew.wire.model import LOOPBACK, AddressText
from bitdew.wire.models import NameText

from .activity.rules import Rules
from .bridges.settings import Bridge
from .configuration.spelling import Bytes
from .plugins.selection import PluginWish
from .sharings.declaration import MOST, Declaration, checked

FILE: Final = "worker.json"


def _default_name() -> str:
    """This machine's name, in the alphabet of names."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in socket.gethostname())
    return kept.strip("._-")[:64].strip("._-") or "host"


Rate = Annotated[Bytes, Field(ge=0, le=2**63 - 1)]
"""Bytes per second; 0 stands for no limit."""


class DatumCaps(BaseModel):
    """What one datum may use of this host's network. 0 stands for no cap of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload: Rate = 0
    """Bytes per second sent at most."""
    download: Rate = 0
    """Bytes per second received at most."""
    connections: Annotated[int, Field(ge=0, le=LARGEST_CONNECTIONS)] = 0
    """Peers that it is connected to at most."""

    @property
    def limits(self) -> TransferLimits:
        """As the swarm wants them."""
        return TransferLimits(upload=self.upload, download=self.download, connections=self.connections)


class WorkerSettings(BaseModel):
    """What one host lends. Sizes in bytes, rates in bytes per second; 0 stands for no limit of a rate."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    home: Annotated[Path, Field(exclude=True)]
    """The folder of everything that this worker has."""
    name: NameText = Field(default_factory=_default_name)
    """What the host is called; the machine's own name by default. It is fixed at joining."""
    listen: str = "0.0.0.0:0"
    """Where the swarm listens. Port 0 takes a free one; an unspecified address announces the one that leads to the
    service."""
    quota: Annotated[Bytes, Field(ge=0, le=2**53)] = 20 * 2**30
    """Bytes of copies that the host holds at most."""
    memory: Annotated[Bytes, Field(ge=0)] = Field(default_factory=lambda: int(psutil.virtual_memory().total) // 2)
    """Bytes of memory that all machines together may have; half of what there is by default."""
    cpus: Annotated[int, Field(ge=1)] = Field(default_factory=lambda: max(1, (os.cpu_count() or 1) // 2))
    """Processors that one machine may have; half of what there is by default."""
    machines: Annotated[int, Field(ge=0, le=limits.MACHINES)] = 0
    """Machines that run at a time at most; 0 for no cap of their number."""
    all_cpus: Annotated[int, Field(ge=0, le=65536)] = 0
    """Processors that all machines together may have; 0 for as many as they ask for."""
    activity: Rules = Field(default_factory=Rules)
    """When machines run here, and what swarms may do meanwhile."""
    scrub_days: Annotated[float, Field(ge=0, le=3650, allow_inf_nan=False)] = 7.0
    """Days within which every held byte is read back once; 0 for never."""
    upload: Rate = 0
    """Bytes per second sent at most, on a LAN too; 0 for no cap."""
    download: Rate = 0
    """Bytes per second received at most, on a LAN too; 0 for no cap."""
    connections: Annotated[int, Field(ge=1, le=LARGEST_CONNECTIONS)] = 500
    """Peers that the host is connected to at most, over all data."""
    data: dict[NameText, DatumCaps] = Field(default_factory=dict, max_length=limits.DATA_CAPS)
    """Caps of single data, by name or uid."""
    labels: dict[NameText, Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=limits.LABELS
    )
    """What requirements can ask for: `site=orsay`. Hosts of one `site` fetch from each other first."""
    sharings: Annotated[dict[NameText, Declaration], Field(max_length=MOST)] = Field(default_factory=dict)
    """Applications and libraries that the host offers, by name, and how each is tried."""
    sharings_file: Annotated[str, Field(max_length=4096)] = ""
    """A TOML file with further sharings, a table for each name: a machine's disk declares in it what it has."""
    jobs: JobsAllowed = JobsAllowed.SHARED
    """What jobs may run here. `anything` is for machines of the grid alone."""
    jobs_at_once: Annotated[int, Field(ge=0, le=limits.JOBS_AT_ONCE)] = 0
    """Jobs that run at a time at most; 0 for as many as the processors and the memory that are lent allow."""
    hypervisors: tuple[str, ...] | None = None
    """The names of the hypervisors that may be used; None for every one that is found."""
    ports_address: AddressText = LOOPBACK
    """The address of this host at which ports of machines can be reached: this host alone by default, `0.0.0.0` for
    everybody who reaches any of its addresses. It holds for machines that begin from then on."""
    extra_modifyvm: tuple[Annotated[str, Field(max_length=200)], ...] = Field(default=(), max_length=32)
    """Further words for `VBoxManage modifyvm`, for each machine in VirtualBox."""
    virtualbox_python: Annotated[str, Field(max_length=4096)] = ""
    """The Python with VirtualBox's bindings (`vboxapi`), by which machines are then looked after; empty for VBoxManage
    alone."""
    plugins: dict[NameText, PluginWish] = Field(default_factory=dict, max_length=limits.PLUGINS)
    """Which plug-ins that are installed are told of copies, and of which, by name; those not named are told of all."""
    bridges: dict[NameText, Bridge] = Field(default_factory=dict, max_length=limits.BRIDGES)
    """Other systems that are told of copies, by the names that the owner gave them."""
    publishers_allow: tuple[str, ...] = ()
    """The publishers whose disks may be booted; none named means all."""
    publishers_deny: tuple[str, ...] = ()
    """The publishers whose disks are never booted, whatever else is said."""

    @field_validator("listen")
    @classmethod
    def _endpoint(cls, text: str) -> str:
        return str(Endpoint.parse(text))

    @field_validator("sharings")
    @classmethod
    def _can_be_tried(cls, declared: dict[str, Declaration]) -> dict[str, Declaration]:
        checked(declared)
        return declared

    @property
    def endpoint(self) -> Endpoint:
        """Where the swarm listens."""
        return Endpoint.parse(self.listen)

    @property
    def swarm_limits(self) -> SwarmLimits:
        """The caps of the whole swarm."""
        return SwarmLimits(upload=self.upload, download=self.download, connections=self.connections)

    @property
    def data_limits(self) -> dict[str, TransferLimits]:
        """The caps of single data, by name or uid."""
        return {key: caps.limits for key, caps in self.data.items()}

    def check_publisher(self, publisher: str) -> None:
        """Let `publisher`'s disks be booted here, or not.

        Raises:
            UserError: `certificate.role`, if this host's policy refuses the publisher.
        """
        refused = publisher in self.publishers_deny
        if refused or (self.publishers_allow and publisher not in self.publishers_allow):
            why = "the host denies this publisher" if refused else "the host allows other publishers only"
            raise error(
                "certificate.role",
                f"The disks of {publisher} are not booted on {self.name}",
                why=why,
                do="Ask the volunteer to allow the publisher, or run the machine on another host.",
                publisher=publisher,
            )

    def said(self) -> dict[str, Any]:
        """What was given of them, as `worker.json` keeps it: defaults are left out, but the name."""
        given = self.model_dump(mode="json", include=self.model_fields_set)
        if "activity" in given:
            given["activity"] = self.activity.model_dump(mode="json", exclude_unset=True)
        return {"name": self.name, **given}

    def save(self) -> None:
        """Keep what was given of the settings. Blocks.

        Raises:
            HostError: `storage.failed`.
        """
        save_said(self.home, self.said())

    @classmethod
    def load(cls, home: Path) -> WorkerSettings:
        """The settings of the worker in `home`, from everywhere that they are given. Blocks.

        Raises:
            UserError: `profile.missing`, if no worker has joined there; `input.invalid`, if a value is impossible.
            HostError: `storage.failed`.
        """
        from .configuration.layers import Layers

        return Layers.read(home).settings()


def save_said(home: Path, said: dict[str, Any]) -> None:
    """Keep what was `said` of the settings, so that a crash leaves the old words or these. Blocks.

    Raises:
        HostError: `storage.failed`.
    """
    path, temporary = home / FILE, None
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=home, prefix=".worker.", delete=False) as file:
            temporary = Path(file.name)
            file.write(json.dumps(said, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as cause:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise error("storage.failed", f"{path} can't be written", why=str(cause.strerror)) from cause
