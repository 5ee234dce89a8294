"""The last word to everybody who is told of copies, when a host leaves for good: nothing is held here any more.

Owns that word, said once and within a bounded time. For when no worker runs in the home, and before its copies go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from bitdew.core.errors import BitDewError

from ..settings import WorkerSettings
from .audience import listeners_of
from .contract import Plugin
from .finding import installed, load
from .listener import Listener
from .thread import PluginThread

log = structlog.get_logger(__name__)

SECONDS: Final = 10.0
"""How long one of them may take. They are told at the same time."""


async def farewell(settings: WorkerSettings, plugins: Mapping[str, Callable[[], Any]] | None = None) -> list[str]:
    """Tell everybody that nothing is held; the kinds and names of those who could not be told.

    `plugins` makes each plug-in; those that are installed by default.
    """
    found = await asyncio.to_thread(installed) if plugins is None else plugins
    listeners = list(listeners_of(settings, found))
    told = await asyncio.gather(*(_tell(listener) for listener in listeners))
    return sorted(listener.key for listener, taken in zip(listeners, told, strict=True) if not taken)


async def _tell(listener: Listener) -> bool:
    thread = PluginThread(listener.key)
    try:
        loaded = await thread.call(load, listener.key, listener.make, seconds=SECONDS)
        seconds = min(SECONDS, loaded.seconds)
        await thread.call(_nothing, loaded.plugin, seconds=seconds)
        await thread.call(_ended, loaded.plugin, seconds=seconds)
    except BitDewError as fault:
        log.warning("one could not be told that nothing is held", listener=listener.key, key=fault.key, why=str(fault))
        return False
    finally:
        await thread.close()
    return True


def _nothing(plugin: Plugin) -> Any:
    return plugin.started([])


def _ended(plugin: Plugin) -> Any:
    return plugin.ended()
