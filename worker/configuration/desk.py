"""The settings of a worker, told to its owner: each value, where it comes from, and what waits for the next start.

Owns the verb `settings` of the control socket, and what is said where no worker runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from bitdew.wire.model import Model, Nothing

from ..control import Verb, ask
from ..settings import WorkerSettings
from . import keys
from .layers import Layers, Source
from .reading import FILE

VERB: Final = "settings"
MOST: Final = 5000


class SettingLine(Model):
    """One setting."""

    key: str
    """`quota`, `activity.when`, `labels.site`."""
    value: Any
    """What holds, or will from the next start on."""
    source: Source
    where: str
    """The file or the variable that gives it; "" for a default."""
    variable: str
    """The environment variable that can give it; "" if none can."""
    pending: bool
    """Whether a worker that runs still goes by another value, until it is started again."""


class SettingsView(Model):
    """All settings of one worker."""

    running: bool
    name: str
    home: str
    file: str
    """The file of settings that is read, or would be if it were there."""
    settings: Annotated[list[SettingLine], Field(max_length=MOST)]
    left_out: int
    """Settings that have no room here."""


class SettingsDesk:
    """Answers the owner of a worker that runs: its environment is what counts, and not the asking command's."""

    def __init__(self, home: Path, in_force: Callable[[], WorkerSettings]) -> None:
        self._home = home
        self._in_force = in_force
        self.verbs: Final = {VERB: Verb(Nothing, self._answer)}

    async def _answer(self, _asked: Nothing) -> SettingsView:
        return await asyncio.to_thread(view, self._home, self._in_force())


async def show_settings(home: Path) -> SettingsView:
    """The settings of the worker in `home`. If it does not run, those that it would have if it were started like this.

    Raises:
        UserError: `profile.missing`, `input.invalid`.
        HostError: `worker.unreachable`, `storage.failed`.
    """
    told = await ask(home, VERB, Nothing(), SettingsView)
    return told if told is not None else await asyncio.to_thread(view, home, None)


def view(home: Path, in_force: WorkerSettings | None) -> SettingsView:
    """What is written now, and how that differs from what a running worker goes by. Blocks.

    Raises:
        UserError: `profile.missing`, `input.invalid`.
        HostError: `storage.failed`.
    """
    layers = Layers.read(home)
    stored = layers.settings()
    running = dict(_leaves(in_force)) if in_force is not None else None
    lines = [_line(layers, path, value, running) for path, value in _leaves(stored)]
    file = next((layer.place for layer in layers.lower if layer.source is Source.FILE), str(home / FILE))
    return SettingsView(
        running=in_force is not None,
        name=stored.name,
        home=str(home),
        file=file,
        settings=lines[:MOST],
        left_out=max(0, len(lines) - MOST),
    )


def _leaves(settings: WorkerSettings) -> list[tuple[keys.Path, Any]]:
    """Every setting with its value; of an empty table, the table."""
    found: list[tuple[keys.Path, Any]] = []
    for key, value in settings.model_dump(mode="json").items():
        if isinstance(value, dict) and value:
            found += (((key, name), inside) for name, inside in value.items())
        else:
            found.append(((key,), value))
    return found


def _line(layers: Layers, path: keys.Path, value: Any, running: dict[keys.Path, Any] | None) -> SettingLine:
    layer = layers.origin(path)
    variable = keys.variable(path if path[0] == keys.ACTIVITY else path[:1])
    return SettingLine(
        key=".".join(path),
        value=value,
        source=layer.source if layer is not None else Source.DEFAULT,
        where=layer.where(path) if layer is not None else "",
        variable=variable,
        pending=running is not None and (path not in running or running[path] != value),
    )
