"""The disk that the case boots, built once: as long as its recipe and this BitDew are the same, it is found again.

    python examples/root-hep/disk.py [--light] [--cache FOLDER]

Prints where it is.
"""

from __future__ import annotations

import argparse
import hashlib
from importlib import metadata
from pathlib import Path

from platformdirs import user_cache_path

from bitdew.core.errors import BitDewError
from bitdew.disks.build import build_disk
from bitdew.disks.recipe import read_recipe
from bitdew.disks.wheels import pinned_needs

CACHE = user_cache_path("bitdew") / "disks"
RECIPES = Path(__file__).parent.parent / "disks"


def disk(recipe: Path, cache: Path) -> Path:
    """The disk of a recipe, in `cache`: found there, or built. Disks of the same recipe that are out of date go."""
    content = hashlib.sha256(recipe.read_bytes())
    # The installed BitDew goes into it; where it is installed does not matter.
    for line in (metadata.distribution("bitdew").read_text("RECORD") or "").splitlines():
        if line.startswith("bitdew/") and ".pyc" not in line:
            content.update(line.encode() + b"\n")
    content.update("\n".join(pinned_needs()).encode())
    path = cache / "built" / f"{recipe.stem}-{content.hexdigest()[:16]}.raw"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        build_disk(read_recipe(recipe), path, cache=cache, overwrite=True)
        for old in path.parent.glob(f"{recipe.stem}-*.raw"):
            if old != path:
                old.unlink(missing_ok=True)
    return path


def main() -> None:
    """Build what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--light", action="store_true", help="the disk with uproot in place of ROOT")
    parser.add_argument("--cache", type=Path, default=CACHE, help="the folder of what is kept")
    chosen = parser.parse_args()
    try:
        print(disk(RECIPES / ("hep.toml" if chosen.light else "root.toml"), chosen.cache.absolute()))
    except BitDewError as fault:
        raise SystemExit(f"the disk can't be built: {fault}\n{fault.why} {fault.do}".strip()) from None


if __name__ == "__main__":
    main()
