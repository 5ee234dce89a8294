"""`bitdew attr`: attributes, the named wishes that data can be given."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitdew.core.errors import error
from bitdew.core.ids import checked_name

from . import names
from .data_views import moment, wishes_of
from .options import AttrName, Json, Profile, Url
from .output import Output, table
from .running import ask
from .wishes import Wished, with_wishes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bitdew.client.grid import BitDew
    from bitdew.core.attribute import Attribute
    from bitdew.wire.models import AttributeView

app = typer.Typer(help="Attributes: named wishes that data are given.", no_args_is_help=True, rich_markup_mode=None)


class Spelling(StrEnum):
    """How wishes are written."""

    LINE = "line"
    TOML = "toml"
    OPTIONS = "options"
    JSON = "json"


@app.command("set", epilog="Example: bitdew attr set 'attr root = { replica = 3, ft = true, lifetime = 7d }'")
@with_wishes(named=False)
def define(
    wished: Wished,
    said: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME | LINE",
            help="A name, with options; or a line.",
            show_default=False,
            autocompletion=names.attributes,
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A TOML file with a table [attr.NAME] for each.", show_default=False)
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Refuse a name that is taken, instead of changing it.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Define attributes, or change them for all data that have them: what is given replaces all that was wished."""
    wanted = _said(said, file, wished)

    async def work(grid: BitDew) -> list[AttributeView]:
        return [await grid.define(name, attribute, replace=not new) for name, attribute in wanted.items()]

    from bitdew.wire.models import AttributeList

    views = ask(profile, url, work)

    def shown() -> Iterator[object]:
        for one in views:
            data = f"; {_having(one)}" if one.data else ""
            yield f"{one.name} is {'defined' if one.version == 1 else 'changed'}: {_wishes(one)}{data}"

    Output(as_json=as_json).document(AttributeList(attributes=views), shown)


@app.command("ls", epilog="Example: bitdew attr ls")
def ls(profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """List the attributes, with how many data have each."""
    from bitdew.wire.models import AttributeList

    views = ask(profile, url, lambda grid: grid.attributes())

    def shown() -> Iterator[object]:
        rows = table("NAME", ">DATA", "CHANGED (UTC)", "WISHES")
        for one in views:
            rows.add_row(one.name, str(one.data), moment(one.changed), _wishes(one))
        yield rows if views else "There is no attribute. Define one: bitdew attr set NAME --replica 3"

    Output(as_json=as_json).document(AttributeList(attributes=views), shown)


@app.command("show", epilog="Example: bitdew attr show root --as toml")
def show(
    name: AttrName,
    spelling: Annotated[
        Spelling | None, typer.Option("--as", help="Print the wishes alone, spelt like this.", show_default=False)
    ] = None,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show one attribute: its wishes, what the names in them were found to be, and how many data have it."""
    from .documents import AttributeShown

    view = ask(profile, url, lambda grid: grid.attribute(name))
    output = Output(as_json=as_json)
    document = AttributeShown(
        **dict(view),
        line=_spelt(view, Spelling.LINE),
        toml=_spelt(view, Spelling.TOML),
        options=_spelt(view, Spelling.OPTIONS),
    )

    def shown() -> Iterator[object]:
        if spelling is not None:
            yield _spelt(view, spelling)
            return
        rows = table("name", "value")
        for key, value in _about(view):
            if value:
                rows.add_row(key, value)
        yield rows

    output.document(document, shown)


@app.command("rm", epilog="Example: bitdew attr rm root")
def rm(name: AttrName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Remove an attribute that no living datum has any more."""
    from .documents import Removed

    ask(profile, url, lambda grid: grid.forget(name))
    Output(as_json=as_json).document(Removed(removed=name), lambda: [f"The attribute {name} is removed."])


def _said(said: str | None, file: Path | None, wished: Wished) -> dict[str, Attribute]:
    """The attributes that a command's words define: by a name and options, by a line, or by a file."""
    from bitdew.core.attribute_text import parse_line
    from bitdew.core.attribute_toml import parse_toml

    by_line = said is not None and any(sign in said for sign in " ={")
    if file is not None and said is None and not wished.given:
        return parse_toml(_text_of(file))
    if file is None and said is not None and by_line and not wished.given:
        name, attribute = parse_line(said)
        return {name: attribute}
    if file is None and said is not None and not by_line:
        return {checked_name(said, "name of an attribute"): wished.attribute()}
    do = "Give a name with options, or one line in quotes, or --file: bitdew attr set --help"
    raise error("input.invalid", "It is not clear what is to be defined", do=do)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error("disk.file-missing", f"{file} does not exist", path=str(file)) from None
    except (OSError, UnicodeDecodeError) as fault:
        why = fault.strerror or str(fault) if isinstance(fault, OSError) else "it is not text in UTF-8"
        raise error("disk.file-unreadable", f"{file} can't be read", why=why, path=str(file)) from None


def _spelt(view: AttributeView, spelling: Spelling) -> str:
    import json
    import shlex

    from bitdew.core.attribute import Attribute
    from bitdew.core.attribute_options import to_options
    from bitdew.core.attribute_text import write_line
    from bitdew.core.attribute_toml import write_toml

    name, attribute = view.name or view.uid, Attribute.from_dict(view.wishes)
    match spelling:
        case Spelling.LINE:
            return write_line(name, attribute)
        case Spelling.TOML:
            return write_toml({name: attribute}).rstrip()
        case Spelling.OPTIONS:
            return shlex.join(to_options(attribute))
        case Spelling.JSON:
            return json.dumps(attribute.to_dict(), ensure_ascii=False)


def _about(view: AttributeView) -> Iterator[tuple[str, str]]:
    yield "name", view.name or ""
    yield "uid", view.uid
    yield "wishes", _wishes(view)
    yield "affinity to", _target(view.affinity_data, "the datum") or _target(view.affinity_attribute, "the attribute")
    yield "ends with", _target(view.lifetime_data, "the datum")
    yield "pinned to", ", ".join(view.pins)
    yield "data", _having(view)
    yield "owner", view.owner
    yield "defined", f"{moment(view.created)} UTC"
    yield "changed", f"{moment(view.changed)} UTC, version {view.version}" if view.version > 1 else ""


def _having(view: AttributeView) -> str:
    return "1 datum has it" if view.data == 1 else f"{view.data} data have it"


def _target(uid: str | None, what: str) -> str:
    return f"{what} {uid}" if uid else ""


def _wishes(view: AttributeView) -> Any:
    return wishes_of(view.wishes) or "none: one copy"
