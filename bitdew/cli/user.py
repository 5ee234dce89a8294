"""`bitdew user`: this machine's user, and the service that each profile belongs to."""

from __future__ import annotations

import getpass
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json, Profile, Token
from .output import Output
from .running import run

if TYPE_CHECKING:
    from bitdew.trust.identity import Identity

app = typer.Typer(help="Users: join a service, see who you are.", no_args_is_help=True, rich_markup_mode=None)


@app.command("join", epilog="Example: bitdew user join https://grid.example.org:8440 --token bitdew-join-…")
def join(
    url: Annotated[str, typer.Argument(metavar="URL", help="The service's URL.", show_default=False)],
    token: Token,
    name: Annotated[str | None, typer.Option("--name", help="What to be called; your login name by default.")] = None,
    profile: Profile = "default",
    as_json: Json = False,
) -> None:
    """Join a service as a user, publisher or operator: the token decides which."""

    async def work() -> Identity:
        from bitdew.client.enrolment import enrol
        from bitdew.client.profiles import profile_folder
        from bitdew.trust.identity import IdentityFolder
        from bitdew.trust.roles import Role

        people = {Role.USER, Role.PUBLISHER, Role.OPERATOR}
        return await enrol(url, token, name or _login(), IdentityFolder(profile_folder(profile)), people)

    _show(run(work()), profile, Output(as_json=as_json))


@app.command("show", epilog="Example: bitdew user show --profile lab")
def show(profile: Profile = "default", as_json: Json = False) -> None:
    """Show who you are, to which service, and until when."""
    from bitdew.client.profiles import missing_profile, profile_folder
    from bitdew.trust.identity import IdentityFolder

    folder = IdentityFolder(profile_folder(profile))
    if not folder.exists():
        raise missing_profile(folder.folder)
    _show(folder.load(), profile, Output(as_json=as_json))


def _show(identity: Identity, profile: str, output: Output) -> None:
    from .documents import ProfileView

    output.document(ProfileView(**about(identity, profile)), lambda: told(identity, profile))


def about(identity: Identity, profile: str) -> dict[str, Any]:
    """What programs are told of a profile."""
    subject = identity.subject
    return {
        "profile": profile,
        "url": identity.url,
        "name": subject.name,
        "role": str(subject.role),
        "subject_id": subject.subject_id,
        "fingerprint": identity.fingerprint,
        "expires": subject.expires,
        "folder": str(identity.folder),
        "signs": identity.signing is not None,
    }


def told(identity: Identity, profile: str) -> list[str]:
    """What people are told of a profile."""
    subject = identity.subject
    until = f" until {subject.expires:%Y-%m-%d}" if subject.expires else ""
    return [
        f"You are {subject.name}, {subject.role} of {identity.url}{until}.",
        f"  profile      {profile} ({identity.folder})",
        f"  fingerprint  {identity.fingerprint}",
    ]


def _login() -> str:
    """The login name, in the alphabet of names."""
    try:
        login = getpass.getuser()
    except (OSError, KeyError):  # no such entry: a container's arbitrary uid
        login = ""
    return re.sub(r"[^A-Za-z0-9._-]", "-", login)[:64].strip("._-") or "user"
