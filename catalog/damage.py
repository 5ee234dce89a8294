"""What is said of the repository's own copy of some content when it is bad.

Owns that error's words alone.
"""

from __future__ import annotations

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot

_SHOWN = 100


def damage(root: ContentRoot, why: str, bad: list[int] | None = None) -> BitDewError:
    """The fault of the copy of `root`; `bad` are the pieces that are known not to be what was published."""
    return error(
        "storage.rotten",
        f"The repository's copy of {root[:16]}… changed on the disk",
        why=why,
        do="Nothing, if a host holds it: what changed is fetched from there. Otherwise whoever published it can mend "
        "it: add the same file again, under the same name. If it happens again, check the disk.",
        root=str(root),
        **({} if bad is None else {"pieces": bad[:_SHOWN], "bad": len(bad)}),
    )
