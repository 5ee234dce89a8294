"""Which settings there are, as paths: `quota`, `activity.when`, `labels.site`; and the variable that each one has.

Owns the names alone, read off the settings' own model, so that a setting that is added is known here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from bitdew.core.errors import BitDewError, error

from ..activity.rules import Rules
from ..plugins.selection import PluginWish
from ..settings import DatumCaps, WorkerSettings
from ..sharings.declaration import Declaration
from .spelling import near

Path = tuple[str, ...]
Tree = dict[str, Any]

PREFIX: Final = "BITDEW_WORKER_"
FILE_VARIABLE: Final = "BITDEW_WORKER_CONFIG"
"""Names the file of settings; it is no setting itself."""
ACTIVITY: Final = "activity"
NAMED: Final[dict[str, type[BaseModel] | None]] = {
    "labels": None,
    "data": DatumCaps,
    "sharings": Declaration,
    "plugins": PluginWish,
    "bridges": None,
}
"""Settings that are tables with names of the volunteer's own, and what stands under a name; None for a text, or for one
of several kinds."""
KEYS: Final = tuple(key for key in WorkerSettings.model_fields if key != "home")


def paths() -> Iterator[Path]:
    """Every setting that can be given as a whole."""
    for key in KEYS:
        if key == ACTIVITY:
            yield from ((key, rule) for rule in Rules.model_fields)
        else:
            yield (key,)


def variable(path: Path) -> str:
    """The environment variable of a setting."""
    return PREFIX + "_".join(path).upper()


VARIABLES: Final = {variable(path): path for path in paths()}


def check_keys(values: Mapping[str, Any], place: str) -> None:
    """Refuse what is no setting, with the nearest that is one.

    Args:
        values: Settings as they are written at `place`.
        place: Where that is, for people.

    Raises:
        UserError: `input.invalid`.
    """
    _check(values, KEYS, place, "")
    if isinstance(rules := values.get(ACTIVITY), dict):
        _check(rules, Rules.model_fields, place, f"{ACTIVITY}.")
    for key, kind in NAMED.items():
        table = values.get(key)
        if kind is None or not isinstance(table, dict):
            continue
        for name, inside in table.items():
            if isinstance(inside, dict):
                _check(inside, kind.model_fields, place, f"{key}.{name}.")


def _check(values: Mapping[str, Any], known: Any, place: str, before: str) -> None:
    for key in values:
        if key not in known:
            raise unknown(f"{before}{key}", place, f"{before}{meant}" if (meant := near(key, known)) else "")


def unknown(key: str, place: str, meant: str) -> BitDewError:
    """The error for what is no setting."""
    do = f"Did you mean {meant}?" if meant else "See all: bitdew worker settings"
    return error("input.invalid", f"{place} has {key[:200]!r}, which is no setting", do=do, field=key[:200])


def leaves(values: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Each value in `values` with its path. Of a sharing, and of a datum's caps, the whole is one value."""
    for key, value in values.items():
        if (key == ACTIVITY or key in NAMED) and isinstance(value, dict):
            yield from (((key, name), inside) for name, inside in value.items())
        else:
            yield (key,), value


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> Tree:
    """`low` with `high` over it: tables name by name, a datum's caps one by one, everything else whole."""
    found = dict(low)
    for key, value in high.items():
        below = found.get(key)
        if (key == ACTIVITY or key in NAMED) and isinstance(value, dict) and isinstance(below, dict):
            caps = key == "data"
            found[key] = {
                **below,
                **{name: _over(below.get(name), one) if caps else one for name, one in value.items()},
            }
        else:
            found[key] = value
    return found


def _over(below: Any, value: Any) -> Any:
    return {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
