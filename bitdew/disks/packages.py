"""Debian packages for a guest, fetched by apt into a cache.

apt works on a state of its own, in which nothing is installed: it neither knows nor touches this machine's packages,
needs no root, and resolves for the guest's release, whatever runs here. It checks signatures and hashes as always.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bitdew.core.errors import error

from .programs import KEYRING, failed, run_tool
from .recipe import Recipe

_PARTS: Final = ("", "-updates", "-security")
_KERNEL: Final = re.compile(r"Depends: (linux-image-[0-9][a-z0-9.+-]*)")
_LISTED: Final = "packages.json"
_LISTING: Final = "Reading Debian's lists of packages"


@dataclass(frozen=True, slots=True)
class Packages:
    """What was fetched.

    Attributes:
        archives: The guest's packages, in the order of their names.
        kernel: The kernel's package.
    """

    archives: tuple[Path, ...]
    kernel: Path


def fetch_packages(recipe: Recipe, cache: Path, *, mirror: str | None = None, refresh: bool = False) -> Packages:
    """Fetch what `recipe` names and what that depends on, or find it in `cache`. Blocks.

    What was fetched once for the same names is used again, so that a disk can be built anew as it was; `refresh` asks
    Debian for what is newest. Without a `mirror`, Debian is asked where this machine's own apt asks.

    Raises:
        HostError: `disk.build-failed`, with apt's own words. OSError.
    """
    wanted = [recipe.suite, recipe.kernel, *sorted(recipe.packages)]
    folder = cache / "packages" / hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
    if refresh or not (folder / _LISTED).exists():
        _fetch(recipe, folder, _mirrors(recipe.suite) if mirror is None else [(mirror, recipe.suite)])
    listed = json.loads((folder / _LISTED).read_text())
    names = [name for name in listed["archives"] if name.partition("_")[0] not in recipe.without]
    return Packages(tuple(folder / "archives" / name for name in names), folder / "kernel" / listed["kernel"])


def _mirrors(suite: str) -> list[tuple[str, str]]:
    """Where this machine's apt gets its own Debian, as addresses with the release of `suite` that stands there."""
    try:
        here = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        here = ""
    told = run_tool(
        ["apt-get", "indextargets", "--format", "$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)"], doing=_LISTING
    )
    found: dict[tuple[str, str], None] = {}
    for line in told.splitlines():
        words = line.split()
        if len(words) == 4 and (words[0], words[3]) == ("Packages", "main") and words[2].startswith(here):
            part = words[2].removeprefix(here)
            if part in _PARTS:
                found[words[1], suite + part] = None
    if not here or not found:
        raise error(
            "disk.build-failed",
            f"{_LISTING} failed",
            why="this machine's apt names no mirror of Debian",
            do="Name one: --mirror URL",
        )
    return list(found)


def _fetch(recipe: Recipe, folder: Path, mirrors: list[tuple[str, str]]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for inner in ("lists/partial", "archives/partial", "kernel"):
        (folder / inner).mkdir(parents=True)
    (folder / "status").touch()
    sources = [f"deb [signed-by={KEYRING}] {url} {release} main\n" for url, release in mirrors]
    (folder / "sources.list").write_text("".join(sources))
    settings = _settings(folder)
    run_tool(["apt-get", *settings, "-qq", "update"], doing=_LISTING)
    getting = ["apt-get", *settings, "-qq", "--yes", "--no-install-recommends", "--download-only", "install"]
    run_tool([*getting, *recipe.packages], doing="Fetching Debian's packages")
    about = run_tool(["apt-cache", *settings, "depends", recipe.kernel], doing="Looking for the kernel")
    found = _KERNEL.search(about)
    kernel = found[1] if found else recipe.kernel
    run_tool(["apt-get", *settings, "-qq", "download", kernel], folder=folder / "kernel", doing="Fetching the kernel")
    archives = sorted(path.name for path in (folder / "archives").glob("*.deb"))
    kernels = sorted(path.name for path in (folder / "kernel").glob("*.deb"))
    if len(kernels) != 1:
        raise failed("Fetching the kernel", f"{recipe.kernel} led to {len(kernels)} packages, not to one")
    shutil.rmtree(folder / "lists")
    (folder / _LISTED).write_text(json.dumps({"archives": archives, "kernel": kernels[0]}))


def _settings(folder: Path) -> list[str]:
    """The options that give apt a state of its own in `folder`."""
    chosen = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Architecture": "amd64",
        "APT::Architectures::": "amd64",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
    }
    return [f"-o{name}={value}" for name, value in chosen.items()]
