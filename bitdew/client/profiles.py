"""Where this machine's user keeps things: the home folder and the profiles in it.

Owns the layout that commands and the client share. It must not open a connection.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bitdew.core.errors import error
from bitdew.core.ids import checked_name

HOME_VARIABLE: Final = "BITDEW_HOME"
PROFILE_VARIABLE: Final = "BITDEW_PROFILE"
DEFAULT_PROFILE: Final = "default"


def home_folder() -> Path:
    """`BITDEW_HOME`, or else the platform's place for a user's data (Linux: `~/.local/share/bitdew`)."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
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


def chosen_profile(profile: str | Path | None = None) -> str | Path:
    """`profile`, or else `BITDEW_PROFILE`, or else "default"."""
    return profile or os.environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE


def missing_profile(folder: Path) -> Exception:
    """The error for a profile that nobody has made yet, with the profiles that there are."""
    there = sorted(path.parent.name for path in folder.parent.glob("*/service.json")) if folder.parent.is_dir() else []
    why = f"there is none in {folder}" + (f"; there are: {', '.join(there)}" if there else "")
    return error("profile.missing", "No profile says which service to talk to", why=why, path=str(folder))
