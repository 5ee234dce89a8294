"""`bitdew token`: who may join."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bitdew.core.units import parse_duration

from . import names
from .options import Json, Profile, Url
from .output import Output, table
from .running import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import TokenView

app = typer.Typer(help="Tokens: who may join, as what.", no_args_is_help=True, rich_markup_mode=None)


class TokenRole(StrEnum):
    """What one can join as."""

    WORKER = "worker"
    USER = "user"
    PUBLISHER = "publisher"
    OPERATOR = "operator"


@app.command("create", epilog="Example: bitdew token create --role worker --uses 20 --expires 7d")
def create(
    role: Annotated[TokenRole, typer.Option("--role", help="What the token lets join.", show_default=False)],
    uses: Annotated[int, typer.Option("--uses", min=1, max=100_000, help="How often it can be used.")] = 1,
    expires: Annotated[str, typer.Option("--expires", help="How long it can be used: 90s, 15m, 12h, 7d.")] = "24h",
    note: Annotated[str, typer.Option("--note", help="Whom it is for; shown by `token ls`.")] = "",
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make a join token. It is shown once, here."""
    output = Output(as_json=as_json)
    lifetime = parse_duration(expires)

    async def make(grid: BitDew) -> tuple[TokenView, str]:
        made = await grid.create_token(role.value, uses=uses, lifetime=lifetime, note=note)
        return made, url or grid.identity.url

    from .documents import TokenMade

    made, where = ask(profile, url, make)
    command = f"bitdew {'worker' if role is TokenRole.WORKER else 'user'} join {where} --token {made.token}"

    def shown() -> Iterator[object]:
        yield made.token
        output.err.print(
            f"A {made.role} joins with it {made.uses_left} time(s) until {made.expires:%Y-%m-%d %H:%M} UTC:"
        )
        output.err.print(f"  {command}", soft_wrap=True)

    output.document(TokenMade(**dict(made), command=command), shown)


@app.command("ls", epilog="Example: bitdew token ls --json")
def ls(profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """List the tokens that can still be used."""
    from bitdew.wire.models import TokenList

    tokens = ask(profile, url, lambda grid: grid.tokens())

    def shown() -> Iterator[object]:
        rows = table("UID", "ROLE", ">USES LEFT", "EXPIRES (UTC)", "NOTE")
        for one in tokens:
            rows.add_row(one.uid, one.role, str(one.uses_left), f"{one.expires:%Y-%m-%d %H:%M}", one.note)
        yield rows if tokens else "There is no token that can be used. Make one: bitdew token create --role worker"

    Output(as_json=as_json).document(TokenList(tokens=tokens), shown)


@app.command("revoke", epilog="Example: bitdew token revoke 0f3a9c…")
def revoke(
    uid: Annotated[
        str,
        typer.Argument(
            metavar="UID", help="The token's uid, from `token ls`.", show_default=False, autocompletion=names.tokens
        ),
    ],
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make a token useless. Who joined with it stays."""
    from .documents import TokenRevoked

    ask(profile, url, lambda grid: grid.revoke_token(uid))
    Output(as_json=as_json).document(TokenRevoked(revoked=uid), lambda: ["The token can't be used any more."])
