"""Which value of a setting holds, and where it comes from.

Owns the order: what a command said goes first (it is kept in `worker.json`), then the environment, then the file, then
the sharings that a machine's disk declares, then the defaults. Tables are put together name by name. It blocks.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import checked_name
from bitdew.meant import path_meant

from ..settings import FILE as SAID
from ..settings import WorkerSettings
from . import keys
from .keys import Tree, check_keys, leaves, merged
from .reading import file_of, read_environment, read_file, read_toml


class Source(StrEnum):
    """Where a value comes from."""

    COMMAND = "command"
    ENVIRONMENT = "environment"
    FILE = "file"
    DISK = "disk"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Layer:
    """What one place says.

    Attributes:
        source: What kind of place it is.
        place: The file's path; "" for the environment.
        values: The settings that it gives.
    """

    source: Source
    place: str
    values: Tree

    def where(self, path: keys.Path) -> str:
        """Where it gives `path`, for people."""
        return self.place or keys.variable(path if path[0] == keys.ACTIVITY else path[:1])


@dataclass(frozen=True, slots=True)
class Layers:
    """All places, of one worker.

    Attributes:
        home: The worker's home.
        said: What commands said, and `worker.json` keeps.
        lower: The other places, the one that goes first first.
    """

    home: Path
    said: Layer
    lower: tuple[Layer, ...]

    @classmethod
    def read(cls, home: Path, environment: Mapping[str, str] | None = None, *, joined: bool = True) -> Layers:
        """What holds for the worker in `home`.

        Args:
            home: The worker's home.
            environment: This process's by default.
            joined: Whether it has to have joined a service; otherwise nothing may have been said yet.

        Raises:
            UserError: `profile.missing`, if it has not; `input.invalid`, if what is written somewhere can't be read, or
                is no setting.
            HostError: `storage.failed`.
        """
        around = os.environ if environment is None else environment
        said = Layer(Source.COMMAND, str(home / SAID), _said(home, joined=joined))
        lower = [Layer(Source.ENVIRONMENT, "", read_environment(around))]
        if (file := file_of(home, around)) is not None:
            lower.append(Layer(Source.FILE, str(file), read_file(file)))
        made = cls(home, said, tuple(lower))
        declared = made.merged.get("sharings_file")
        if isinstance(declared, str) and declared:
            path = path_meant(declared)
            found = {"sharings": read_toml(path)}
            check_keys(found, str(path))
            made = replace(made, lower=(*lower, Layer(Source.DISK, str(path), found)))
        return made

    @classmethod
    def kept(cls, home: Path, otherwise: WorkerSettings | None) -> Layers:
        """As `read`; if nothing is kept in `home`, what was given of `otherwise` counts as said.

        Raises:
            UserError, HostError: as `read`.
        """
        try:
            return cls.read(home)
        except BitDewError as fault:
            if fault.key != "profile.missing" or otherwise is None:
                raise
            return cls.read(home, joined=False).saying(otherwise.said())

    @property
    def merged(self) -> Tree:
        """What all places together say."""
        lowest_first = [layer.values for layer in reversed((self.said, *self.lower))]
        return functools.reduce(merged, lowest_first, {})

    def saying(self, said: Tree) -> Layers:
        """The same with something else said by commands."""
        return replace(self, said=replace(self.said, values=said))

    def origin(self, path: keys.Path) -> Layer | None:
        """The place that gives `path`; None if it is a default."""
        for layer in (self.said, *self.lower):
            if any(found[: len(path)] == path or path[: len(found)] == found for found, _ in leaves(layer.values)):
                return layer
        return None

    def settings(self) -> WorkerSettings:
        """The settings that come of it.

        Raises:
            UserError: `input.invalid`, with the place of an impossible value.
        """
        try:
            found = WorkerSettings.model_validate({**self.merged, "home": self.home})
        except ValidationError as cause:
            raise self._impossible(cause) from None
        checked_name(found.name, "host name")
        return found

    def _impossible(self, cause: ValidationError) -> BitDewError:
        first = cause.errors(include_url=False)[0]
        path = tuple(map(str, first["loc"]))
        place = ".".join(path)
        layer = self.origin(path[:2] if path[0] == keys.ACTIVITY or path[0] in keys.NAMED else path[:1])
        where = layer.where(path[:2]) if layer else str(self.home / SAID)
        why = first["msg"].removeprefix("Value error, ")
        return error("input.invalid", f"{place} in {where} is impossible", why=why, field=place)


def _said(home: Path, *, joined: bool) -> Tree:
    """What `worker.json` keeps."""
    path = home / SAID
    try:
        stored: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not joined:
            return {}
        do = "Join a service first: bitdew worker join URL --token T"
        raise error("profile.missing", f"No worker has joined with the home {home}", do=do) from None
    except OSError as cause:
        raise error("storage.failed", f"{path} can't be read", why=str(cause.strerror)) from cause
    except (ValueError, RecursionError) as cause:
        raise error("input.invalid", f"{path} can't be read", why=str(cause)) from None
    if not isinstance(stored, dict):
        raise error("input.invalid", f"{path} can't be read", why="it is not a table of settings")
    check_keys(stored, str(path))
    return stored
