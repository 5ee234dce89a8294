"""What a command says of the settings, as `worker.json` keeps it: that alone, and no value that came from elsewhere.

Pure: trees in, a tree out.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from bitdew.core.errors import error

from . import keys
from .keys import Tree, leaves, merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import BaseModel

    from ..limits import LimitsChange
    from .layers import Layers

_OTHERWISE = {"data", "share", "unshare", "forget"}


def said_after(layers: Layers, change: LimitsChange) -> Tree:
    """What is said when `change` is said too.

    Raises:
        UserError: `input.invalid`, if a sharing is to go that another place declares, or what is to be forgotten was
            never said.
    """
    said = copy.deepcopy(layers.said.values)
    asked = change.model_dump(mode="json", exclude=_OTHERWISE, exclude_none=True)
    said = _with_caps(layers, said, change.data, asked) if change.data else merged(said, asked)
    said = with_names(layers.saying(said), "sharings", change.share or {}, change.unshare or ())
    for key in change.forget or ():
        _forget(said, key)
    return _without_empty(said)


def with_names(layers: Layers, key: str, added: Mapping[str, BaseModel], removed: Iterable[str]) -> Tree:
    """What is said when the table `key` shall have `added`, and `removed` no more.

    Raises:
        UserError: `input.invalid`, if what is to go stands elsewhere.
    """
    said = copy.deepcopy(layers.said.values)
    for name in removed:
        for layer in layers.lower:
            if name in layer.values.get(key, {}):
                where, do = layer.where((key, name)), "Take it out there, and start the worker again."
                raise error("input.invalid", f"{name} of {key} stands in {where}", do=do, field=key)
        said.get(key, {}).pop(name, None)
    told = {name: one.model_dump(mode="json") for name, one in added.items()}
    return _without_empty(merged(said, {key: told}) if told else said)


def _without_empty(said: Tree) -> Tree:
    return {key: value for key, value in said.items() if value != {} or key not in {*keys.NAMED, keys.ACTIVITY}}


def _with_caps(layers: Layers, said: Tree, data: list[str], asked: Tree) -> Tree:
    elsewhere: set[str] = set().union(*(layer.values.get("data", {}) for layer in layers.lower))
    said = merged(said, {"data": dict.fromkeys(data, asked)})
    for name in data:
        if not any(said["data"][name].values()) and name not in elsewhere:
            del said["data"][name]
    return said


def _forget(said: Tree, key: str) -> None:
    """Take out what was said of `key`: a setting, or one in a table, like `activity.when`."""
    known: dict[str, tuple[dict[str, Any], str]] = {}
    for path, _ in leaves(said):
        known[path[0]] = said, path[0]
        if len(path) > 1:
            known[".".join(path)] = said[path[0]], path[1]
    if key not in known:
        why = f"commands said {', '.join(sorted(known))}" if known else "no command said anything"
        raise error("input.invalid", f"Nothing was said of {key[:200]}", why=why, field="forget")
    table, name = known[key]
    del table[name]
