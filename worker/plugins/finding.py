"""Finds the plug-ins that are installed beside the worker, and makes them.

Owns the entry points, and what counts as a plug-in. Code of others is loaded on the plug-in's own thread, never here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import checked_name
from bitdew.wire import limits

from .contract import CALL_SECONDS, GROUP, Plugin

log = structlog.get_logger(__name__)

LONGEST_CALL_SECONDS: Final = 600.0
"""How long a call may take, whatever the plug-in says."""
_NUMBERS: Final = ("seconds", "again_seconds")


def installed(found: Iterable[EntryPoint] | None = None) -> dict[str, Callable[[], Any]]:
    """What makes each plug-in that is installed, by its entry point's name. Blocks.

    A name that is none, or that two packages claim, is left out, and so are more than a host may have.
    """
    makers: dict[str, Callable[[], Any]] = {}
    claimed: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP) if found is None else found, key=lambda p: (p.name, p.value)):
        try:
            name = checked_name(point.name, "plug-in's name")
        except BitDewError as fault:
            log.warning("a plug-in is left out", key=fault.key, why=str(fault))
            continue
        if name in claimed:
            if claimed[name] != point.value:  # the same one may be seen twice
                log.warning("a second plug-in has this name", key="plugin.failed", plugin=name, value=point.value[:200])
            continue
        if len(makers) == limits.PLUGINS:
            log.warning("there are more plug-ins than a host may have", key="plugin.failed", plugin=name)
            break
        claimed[name] = point.value
        makers[name] = _maker(point)
    return makers


def _maker(point: EntryPoint) -> Callable[[], Any]:
    def make() -> Any:
        return point.load()()

    return make


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plug-in, and what it said of itself when it was made: only its own thread asks it anything.

    Attributes:
        plugin: The plug-in.
        seconds: How long one call may take.
        again: After how many seconds it is told everything again; 0 for never.
        whole: Whether it is told by `started` alone.
    """

    plugin: Plugin
    seconds: float
    again: float
    whole: bool


def load(name: str, make: Callable[[], Any]) -> Loaded:
    """The plug-in that `make` makes. Blocks, and runs code of others.

    Raises:
        HostError: `plugin.failed`, if it is none.
        Exception: what its code raises.
    """
    made = make()
    if not isinstance(made, Plugin):
        why = f"its entry point makes a {type(made).__name__}"
        raise error("plugin.failed", f"{name} is no plug-in", why=why, plugin=name)
    for what in _NUMBERS:
        value = getattr(made, what)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise error(
                "plugin.failed", f"{name} is no plug-in", why=f"its {what} is no number of seconds", plugin=name
            )
    return Loaded(made, min(made.seconds, LONGEST_CALL_SECONDS) or CALL_SECONDS, made.again_seconds, bool(made.whole))
