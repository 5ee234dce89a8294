"""`bitdew worker settings`: each setting of this host's worker, and where its value comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitdew.core.units import format_size

from .options import Home, Json, worker_home
from .output import Output, table
from .running import run

if TYPE_CHECKING:
    from bitdew.worker.configuration.desk import SettingLine, SettingsView

_SIZES = {"quota", "memory", "upload", "download"}


def add_to(app: typer.Typer) -> None:
    """Make it a command of `app`."""
    app.command("settings", epilog="Example: bitdew worker settings --forget quota")(settings)


def settings(
    home: Home = None,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out what has its default.")] = False,
    forget: Annotated[
        list[str] | None,
        typer.Option(
            "--forget", metavar="KEY", help="Take back what a command said: quota, activity.when; repeatable."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every setting, its value, and where that comes from.

    What a command said goes first (`worker join`, `limits`, `rules` and `share` keep it in worker.json), then the
    environment (BITDEW_WORKER_QUOTA=50GB), then the file (worker.toml in the worker's folder, or in bitdew's folder of
    your configuration, or the one that BITDEW_WORKER_CONFIG names), then the defaults.
    """
    folder, output = worker_home(home), Output(as_json=as_json)
    view = run(_asked(folder, forget or []))
    if changed:
        view = view.model_copy(update={"settings": [one for one in view.settings if one.source != "default"]})
    output.document(view, lambda: _shown(view))


async def _asked(folder: Any, forget: list[str]) -> SettingsView:
    from bitdew.worker.adjusting import change_limits
    from bitdew.worker.configuration.desk import show_settings
    from bitdew.worker.limits import LimitsChange

    if forget:
        await change_limits(folder, LimitsChange(forget=[key[:300] for key in forget[:100]]))
    return await show_settings(folder)


def _shown(view: SettingsView) -> Iterator[Any]:
    yield f"{view.name} {'runs' if view.running else 'does not run'}. Its file of settings: {view.file}"
    rows = table("SETTING", "VALUE", "FROM", "WHERE")
    for one in view.settings:
        rows.add_row(one.key, _value(one) + (" (from its next start on)" if one.pending else ""), one.source, one.where)
    yield rows
    if view.left_out:
        yield f"{view.left_out} more settings have no room here."


def _value(one: SettingLine) -> str:
    if one.key.rpartition(".")[2] in _SIZES and isinstance(one.value, int):
        return format_size(one.value)
    return one.value if isinstance(one.value, str) and one.value else json.dumps(one.value, ensure_ascii=False)
