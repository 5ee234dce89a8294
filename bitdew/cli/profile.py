"""`bitdew profile`: the identities of this machine's user, and which of them is used where none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from bitdew.core.errors import BitDewError, error

from . import names
from .options import Json
from .output import Output, table
from .user import about, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bitdew.trust.identity import Identity

    from .documents import ProfileLine

app = typer.Typer(
    help="Profiles: who you are to which service. The option --profile comes first, then BITDEW_PROFILE, then what "
    "`bitdew profile use` said, then `default`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
ProfileName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The profile's name.", show_default=False, autocompletion=names.profiles),
]
BECAUSE: Final = {
    "environment": "BITDEW_PROFILE says so",
    "file": "bitdew profile use said so",
    "default": "nothing says otherwise",
}


@app.command("ls", epilog="Example: bitdew profile ls")
def ls(as_json: Json = False) -> None:
    """List the profiles, with a star at the current one. No service is asked."""
    from bitdew.client.profiles import current_profile, profile_names

    from .documents import ProfileList

    current, chooser = current_profile()
    found = [_row(name, current=name == current) for name in profile_names()]

    def shown() -> Iterator[object]:
        rows = table("", "NAME", "YOU ARE", "ROLE", "SERVICE", "UNTIL (UTC)")
        for one in found:
            star, until = "*" if one.current else "", one.expires
            ends = f"{until:%Y-%m-%d}" if until else ""
            rows.add_row(star, one.profile, one.name, one.role, one.url or one.damage, ends)
        yield rows if found else "There is no profile. Make one: bitdew user join URL --token TOKEN"
        if found and not any(one.current for one in found):
            yield f"The current one, {current} ({BECAUSE[chooser]}), is not there. Choose: bitdew profile use NAME"
        elif chooser == "environment":
            yield f"{current} is the current one, because {BECAUSE[chooser]}."

    document = ProfileList(current=current, chosen_by=chooser, profiles=found)
    Output(as_json=as_json).document(document, shown)


@app.command("use", epilog="Example: bitdew profile use lab")
def use(name: ProfileName, as_json: Json = False) -> None:
    """Make a profile the current one: for all commands and programs that name none, from now on."""
    from bitdew.client.profiles import current_profile, use_profile

    from .documents import ProfileUsed

    use_profile(name)
    current, chooser = current_profile()
    output = Output(as_json=as_json)
    output.document(ProfileUsed(current=current, chosen_by=chooser), lambda: [f"{name} is the current profile."])
    if current != name:
        output.remark(f"While BITDEW_PROFILE is set, it is {current} all the same.")


@app.command("show", epilog="Example: bitdew profile show lab")
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="The profile's name; the current one by default.",
            show_default=False,
            autocompletion=names.profiles,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one profile: who you are by it, to which service, and until when. No service is asked."""
    from bitdew.client.profiles import current_profile

    from .documents import ProfileShown

    current, _ = current_profile()
    chosen = name or current
    identity = _loaded(chosen)
    document = ProfileShown(**about(identity, chosen), current=chosen == current)
    Output(as_json=as_json).document(document, lambda: told(identity, chosen))


@app.command("rm", epilog="Example: bitdew profile rm lab --yes")
def rm(
    name: ProfileName,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it indeed: its keys can't be had back.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a profile from this machine, keys and certificates with it. The service is not told."""
    from bitdew.client.profiles import profile_folder, profile_names, remove_profile

    from .documents import ProfileRemoved

    if not yes and name in profile_names():
        why = "its keys can't be had back, and only a new token lets you join again"
        do = f"Say it once more: bitdew profile rm {name} --yes"
        raise error("input.invalid", f"The profile {name} is kept", why=why, do=do)
    remove_profile(name)
    document = ProfileRemoved(removed=name, folder=str(profile_folder(name)))
    Output(as_json=as_json).document(document, lambda: [f"The profile {name} is removed."])


def _loaded(name: str) -> Identity:
    from bitdew.client.profiles import missing_profile, profile_folder
    from bitdew.trust.identity import IdentityFolder

    folder = IdentityFolder(profile_folder(name))
    if not folder.exists():
        raise missing_profile(folder.folder)
    return folder.load()


def _row(name: str, *, current: bool) -> ProfileLine:
    """What a list says of a profile; one that can't be read is no reason to leave out the others."""
    from .documents import ProfileLine

    try:
        return ProfileLine(**about(_loaded(name), name), current=current)
    except BitDewError as fault:
        known = dict.fromkeys(("url", "name", "role", "subject_id", "fingerprint", "folder"), "")
        damage = f"damaged: {fault.why or fault.message}"
        return ProfileLine(**known, profile=name, expires=None, signs=False, current=current, damage=damage)
