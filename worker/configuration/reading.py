"""Reading settings as people write them: `worker.toml`, `BITDEW_WORKER_…` variables, and a disk's `sharings.toml`.

Owns the places and the forms. What a value may be is the settings' matter; which place wins, the layers'. It blocks.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bitdew.core.errors import error
from bitdew.meant import path_meant

from .keys import FILE_VARIABLE, PREFIX, VARIABLES, Tree, check_keys, unknown
from .spelling import near

FILE: Final = "worker.toml"
LARGEST: Final = 256 * 1024
"""Bytes of a file of settings."""
_BY_SEMICOLON: Final = {("activity", "schedule"), ("extra_modifyvm",)}
"""Lists whose entries may have commas in them."""
_LISTS: Final = {*_BY_SEMICOLON, ("hypervisors",), ("publishers_allow",), ("publishers_deny",)}


def file_of(home: Path, environment: Mapping[str, str]) -> Path | None:
    """The file of settings that counts: the one that BITDEW_WORKER_CONFIG names, or else the first that is there."""
    if named := environment.get(FILE_VARIABLE):
        return path_meant(named)
    from platformdirs import user_config_path

    places = (home / FILE, user_config_path("bitdew", appauthor=False) / FILE)
    return next((path for path in places if _may_be_there(path)), None)


def _may_be_there(path: Path) -> bool:
    """Whether there is something to read; where that can't be seen, reading tells why."""
    try:
        return path.exists()
    except OSError:
        return True


def read_toml(path: Path) -> Tree:
    """What stands in the TOML file `path`.

    Raises:
        UserError: `input.invalid`, `input.too-large`.
        HostError: `storage.failed`.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise error("input.too-large", f"{path} has more than {LARGEST} bytes")
        return tomllib.loads(text.decode())
    except FileNotFoundError:
        raise error("input.invalid", f"{path} is not there", path=str(path)) from None
    except OSError as cause:
        raise error("storage.failed", f"{path} can't be read", why=str(cause.strerror)) from cause
    except (ValueError, RecursionError) as cause:
        raise error("input.invalid", f"{path} is not TOML", why=str(cause)[:200], path=str(path)) from None


def read_file(path: Path) -> Tree:
    """The settings in `path`.

    Raises:
        UserError: `input.invalid`, also for what is no setting.
        HostError: `storage.failed`.
    """
    found = read_toml(path)
    check_keys(found, str(path))
    return found


def read_environment(environment: Mapping[str, str]) -> Tree:
    """The settings in `environment`. An empty variable says nothing.

    Raises:
        UserError: `input.invalid`, also for a variable of ours that is no setting.
    """
    found: Tree = {}
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or name == FILE_VARIABLE or not text.strip():
            continue
        path = VARIABLES.get(name)
        if path is None:
            raise unknown(name, "The environment", near(name, VARIABLES))
        table = found
        for key in path[:-1]:
            table = table.setdefault(key, {})
        table[path[-1]] = _value(name, path, text.strip())
    return found


def _value(name: str, path: tuple[str, ...], text: str) -> Any:
    """A variable's value: TOML where it begins like a list or a table, and otherwise in the short form of its kind."""
    if text[0] in "[{":
        try:
            found = tomllib.loads(f"value = {text}")
        except (ValueError, RecursionError) as cause:
            raise error("input.invalid", f"{name} can't be read", why=str(cause)[:200], field=name) from None
        if found.keys() != {"value"}:
            raise error("input.invalid", f"{name} can't be read", why="something follows its value", field=name)
        return found["value"]
    if path in _LISTS:
        return _parts(text, ";" if path in _BY_SEMICOLON else ",")
    if path == ("sharings",):
        return {part: {} for part in _parts(text, ",")}
    if path == ("labels",):
        pairs = [part.partition("=") for part in _parts(text, ",")]
        if bad := next((key for key, equals, _ in pairs if not equals), None):
            raise error("input.invalid", f"{name} can't be read", why=f"{bad[:80]!r} is not key=value", field=name)
        return {key.strip(): value.strip() for key, _, value in pairs}
    return text


def _parts(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]
