"""Where this machine's user keeps things: the home folder, the profiles in it, and which of them is the current one.

Owns the layout that commands and the client share. It must not open a connection, nor look into what a profile holds.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import checked_name
from bitdew.meant import path_meant

HOME_VARIABLE: Final = "BITDEW_HOME"
PROFILE_VARIABLE: Final = "BITDEW_PROFILE"
DEFAULT_PROFILE: Final = "default"
_CHOICE: Final = "current-profile"
_LONGEST: Final = 4096
"""Bytes that are read of the file that names the current profile."""
MOST_NAMED: Final = 20
"""Profiles that an error names."""

Chooser = Literal["environment", "file", "default"]
"""What makes a profile the current one: `BITDEW_PROFILE`, `bitdew profile use`, or nothing at all."""


def home_folder() -> Path:
    """`BITDEW_HOME`, or else the platform's place for a user's data (Linux: `~/.local/share/bitdew`)."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return path_meant(chosen)
    from platformdirs import user_data_path

    return user_data_path("bitdew", appauthor=False)


def profile_folder(profile: str | Path) -> Path:
    """The folder of a profile: a name stands for `<home>/profiles/<name>`, a `Path` for itself.

    Raises:
        UserError: `input.invalid`, for what can't name a profile.
    """
    if isinstance(profile, Path):
        return profile
    return home_folder() / "profiles" / checked_name(profile, "profile")


def current_profile() -> tuple[str, Chooser]:
    """The profile that is used where none is named, and why it is that one."""
    if named := os.environ.get(PROFILE_VARIABLE):
        return named, "environment"
    if kept := _kept():
        return kept, "file"
    return DEFAULT_PROFILE, "default"


def chosen_profile(profile: str | Path | None = None) -> str | Path:
    """`profile`, or else the current one."""
    return profile or current_profile()[0]


def profile_names() -> list[str]:
    """The profiles that there are, by name."""
    return sorted(path.parent.name for path in (home_folder() / "profiles").glob("*/service.json"))


def use_profile(name: str) -> None:
    """Make a profile the current one: for every command and program that names none, from now on.

    Raises:
        UserError: `profile.missing`, `input.invalid`.
        HostError: `storage.failed`.
    """
    _require(profile_folder(name))
    path = home_folder() / _CHOICE
    try:
        descriptor, part = tempfile.mkstemp(prefix=f".{_CHOICE}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{name}\n")
        Path(part).replace(path)
    except OSError as cause:
        raise error("storage.failed", f"{path} can't be written", why=cause.strerror or str(cause)) from cause


def remove_profile(name: str) -> None:
    """Remove a profile with its keys. If it was made the current one, none is from now on.

    Raises:
        UserError: `profile.missing`, `input.invalid`.
        HostError: `storage.failed`.
    """
    folder = profile_folder(name)
    _require(folder)
    try:
        # What is half removed is no profile any more.
        (folder / "service.json").unlink()
        shutil.rmtree(folder)
        if _kept() == name:
            (home_folder() / _CHOICE).unlink(missing_ok=True)
    except OSError as cause:
        raise error("storage.failed", f"{folder} can't be removed", why=cause.strerror or str(cause)) from cause


def missing_profile(folder: Path) -> BitDewError:
    """The error for a profile that nobody has made yet, with the profiles that there are."""
    there = sorted(path.parent.name for path in folder.parent.glob("*/service.json")) if folder.parent.is_dir() else []
    why = f"there is none in {folder}" + (f"; there are: {', '.join(there)}" if there else "")
    return error("profile.missing", "No profile says which service to talk to", why=why, path=str(folder))


def _require(folder: Path) -> None:
    """Raises UserError `profile.missing`, with the name that was meant, if one is near, and those that there are."""
    if (folder / "service.json").is_file():
        return
    names, name = profile_names(), folder.name
    near = next(iter(get_close_matches(name, names, n=1)), None)
    meant = f"Did you mean {near}?" if near else "List them: bitdew profile ls" if names else ""
    why = f"there are: {', '.join(names[:MOST_NAMED])}{', …' if names[MOST_NAMED:] else ''}" if names else ""
    raise error("profile.missing", f"There is no profile {name!r}", why=why, do=meant, path=str(folder))


def _kept() -> str | None:
    """What `use_profile` wrote; None where it is no name of a profile: then nobody chose one."""
    try:
        with (home_folder() / _CHOICE).open("rb") as file:
            return checked_name(file.read(_LONGEST).decode().strip(), "profile")
    except (OSError, UnicodeDecodeError, BitDewError):
        return None
