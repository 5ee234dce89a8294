"""What a volunteer lends, and under which conditions: chosen at joining, read again at each start.

Owns `<home>/worker.json`. It must not measure what the machine has beyond the defaults: that is the sharings' matter.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Annotated, Final

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bitdew.core.errors import error
from bitdew.core.host import Endpoint
from bitdew.core.ids import checked_name
from bitdew.wire import limits
from bitdew.wire.models import NameText

FILE: Final = "worker.json"


def _default_name() -> str:
    """This machine's name, in the alphabet of names."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in socket.gethostname())
    return kept.strip("._-")[:64].strip("._-") or "host"


class WorkerSettings(BaseModel):
    """What one host lends. Sizes in bytes, rates in bytes per second; 0 stands for no limit of a rate."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    home: Annotated[Path, Field(exclude=True)]
    """The folder of everything that this worker has."""
    name: NameText = Field(default_factory=_default_name)
    listen: str = "0.0.0.0:0"
    """Where the swarm listens. Port 0 takes a free one; an unspecified address announces the one that leads to the
    service."""
    quota: Annotated[int, Field(ge=0)] = 20 * 2**30
    """Bytes of copies that the host holds at most."""
    memory: Annotated[int, Field(ge=0)] = Field(default_factory=lambda: int(psutil.virtual_memory().total) // 2)
    """Bytes of memory that all machines together may have; half of what there is by default."""
    cpus: Annotated[int, Field(ge=1)] = Field(default_factory=lambda: max(1, (os.cpu_count() or 1) // 2))
    """Processors that one machine may have; half of what there is by default."""
    upload: Annotated[int, Field(ge=0)] = 0
    download: Annotated[int, Field(ge=0)] = 0
    labels: dict[NameText, Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=limits.LABELS
    )
    hypervisors: tuple[str, ...] | None = None
    """The names of the hypervisors that may be used; None for every one that is found."""
    publishers_allow: tuple[str, ...] = ()
    """The publishers whose disks may be booted; none named means all."""
    publishers_deny: tuple[str, ...] = ()
    """The publishers whose disks are never booted, whatever else is said."""

    @field_validator("listen")
    @classmethod
    def _endpoint(cls, text: str) -> str:
        return str(Endpoint.parse(text))

    @property
    def endpoint(self) -> Endpoint:
        """Where the swarm listens."""
        return Endpoint.parse(self.listen)

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

    def save(self) -> None:
        """Keep the settings in their home, so that a crash leaves the old ones or these. Blocks.

        Raises:
            HostError: `storage.failed`.
        """
        path = self.home / FILE
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.home, prefix=".worker.", delete=False) as file:
                file.write(self.model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError as cause:
            raise error("storage.failed", f"{path} can't be written", why=str(cause.strerror)) from cause

    @classmethod
    def load(cls, home: Path) -> WorkerSettings:
        """The settings that were kept in `home`. Blocks.

        Raises:
            UserError: `profile.missing`, if there are none; `input.invalid`, if a value is impossible.
            HostError: `storage.failed`.
        """
        path = home / FILE
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            found = cls.model_validate({**stored, "home": home})
        except FileNotFoundError:
            do = "Join a service first: bitdew worker join URL --token T"
            raise error("profile.missing", f"No worker has joined with the home {home}", do=do) from None
        except OSError as cause:
            raise error("storage.failed", f"{path} can't be read", why=str(cause.strerror)) from cause
        except ValidationError as cause:
            first = cause.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise error("input.invalid", f"{place} in {path} is impossible", why=first["msg"], field=place) from None
        except (ValueError, TypeError) as cause:
            raise error("input.invalid", f"{path} can't be read", why=str(cause)) from cause
        checked_name(found.name, "host name")
        return found
