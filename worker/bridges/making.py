"""Makes the plug-in of each bridge that a host's owner asked for.

Owns which kind is told by what.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..plugins.listener import Listener
from .command import Command
from .settings import CommandBridge, XwhepBridge
from .webhook import Webhook
from .xwhep import XwhepDoor

if TYPE_CHECKING:
    from ..plugins.contract import Plugin
    from ..settings import WorkerSettings
    from .settings import Bridge

BRIDGE = "bridge"
"""The kind of listener that bridges are."""


def bridges_of(settings: WorkerSettings) -> Iterator[Listener]:
    """Who is to be told by the bridges in `settings`."""
    for name, bridge in settings.bridges.items():
        yield Listener(
            BRIDGE,
            name,
            (bridge, settings.name),
            bridge.only,
            lambda bridge=bridge: plugin_of(bridge, settings.name),  # type: ignore[misc]
        )


def plugin_of(bridge: Bridge, host: str) -> Plugin:
    """The plug-in that tells whom `bridge` leads to, on the host that is called `host`."""
    if isinstance(bridge, XwhepBridge):
        return XwhepDoor(bridge)
    if isinstance(bridge, CommandBridge):
        return Command(bridge, host)
    return Webhook(bridge, host)
