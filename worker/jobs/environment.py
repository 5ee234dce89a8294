"""The environment in which a job's command begins: nothing of the worker's own, and what its submitter gives it.

Owns what a submitter may give, and what every command finds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bitdew.core.errors import error

VARIABLES: Final = 128
"""Variables of one job at most."""
VALUE_BYTES: Final = 32 * 1024
ALL_BYTES: Final = 128 * 1024
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_TAKEN: Final = frozenset(
    {"HOME", "TMPDIR", "PATH", "PWD", "OLDPWD", "SHELL", "USER", "LOGNAME", "IFS", "ENV", "BASH_ENV"}
)
_KINDS_TAKEN: Final = ("LD_", "DYLD_", "BITDEW_", "GLIBC_", "MALLOC_", "BASH_FUNC_")
"""What steers the loader and the allocator of every program; and our own."""
SYSTEM_PATH: Final = ("/usr/local/bin", "/usr/bin", "/bin")


def checked_environment(given: Mapping[str, str]) -> Mapping[str, str]:
    """`given`, if a submitter may give that.

    Raises:
        UserError: `input.invalid`.
    """
    if len(given) > VARIABLES:
        raise error("input.invalid", f"A job has {VARIABLES} variables at most", field="env")
    total = 0
    for name, value in given.items():
        if not _NAME.fullmatch(name):
            raise error("input.invalid", f"{name[:80]!r} can't be the name of a variable", field="env")
        if name in _TAKEN or name.startswith(_KINDS_TAKEN):
            raise error(
                "input.invalid", f"The variable {name} can't be given", why="the host says what it is", field="env"
            )
        size = len(value.encode("utf-8", "surrogateescape"))
        total += len(name) + size + 2
        if "\0" in value or size > VALUE_BYTES or total > ALL_BYTES:
            raise error("input.invalid", f"The variable {name} is too long or has a zero byte", field="env")
    return given


def environment_of(program: Path, given: Mapping[str, str], cpus: int) -> dict[str, str]:
    """All that a command finds, but for where its folder is (HOME, TMPDIR, PWD), which its warden adds.

    The path leads to the program's own folder first, and to the system's: programs that are scripts need their tools.
    """
    own = [str(program.parent)] if program.is_absolute() else []
    folders = dict.fromkeys([*own, *SYSTEM_PATH])
    return {
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(cpus),
        "USER": "job",
        "LOGNAME": "job",
        **checked_environment(given),
        "PATH": ":".join(folders),
    }
