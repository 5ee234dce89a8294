"""BitDew: place whole VM disks on volunteers' PCs by BitTorrent swarm, and boot them there.

The names here are the developer's API; each is imported at its first use, so that `import bitdew` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bitdew.client.grid import BitDew as BitDew
    from bitdew.core.attribute import Attribute as Attribute
    from bitdew.core.errors import BitDewError as BitDewError
    from bitdew.core.errors import HostError as HostError
    from bitdew.core.errors import PeerError as PeerError
    from bitdew.core.errors import ServiceError as ServiceError
    from bitdew.core.errors import UserError as UserError
    from bitdew.core.requirement import Requirement as Requirement

_HOMES: Final = {
    "Attribute": "bitdew.core.attribute",
    "BitDew": "bitdew.client.grid",
    "BitDewError": "bitdew.core.errors",
    "HostError": "bitdew.core.errors",
    "PeerError": "bitdew.core.errors",
    "Requirement": "bitdew.core.requirement",
    "ServiceError": "bitdew.core.errors",
    "UserError": "bitdew.core.errors",
}
__all__ = ["Attribute", "BitDew", "BitDewError", "HostError", "PeerError", "Requirement", "ServiceError", "UserError"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("bitdew")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bitdew' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
