"""Building a disk from a recipe, from the first package to the last byte."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.units import format_size

from .image import Boot, pack_root, write_image
from .initrd import make_initrd, module_order
from .packages import Packages, fetch_packages
from .programs import check_tools, failed, run_tool
from .recipe import MODULES, Recipe
from .tree import guest_script, lay_out

_ADDRESS: Final = re.compile(r"https?://[A-Za-z0-9._~:/%@+-]{1,300}")
SPACE: Final = 1024**3
"""Bytes that must be free where a disk is built, at the least."""


@dataclass(frozen=True, slots=True)
class Built:
    """A disk that was built.

    Attributes:
        path: Its file.
        size: Its bytes.
        sha256: Of its bytes: equal inputs give equal disks.
        kernel: The kernel's package, with its version.
        packages: How many of Debian's packages are in it.
    """

    path: Path
    size: int
    sha256: str
    kernel: str
    packages: int


def build_disk(
    recipe: Recipe,
    path: Path,
    *,
    cache: Path,
    mirror: str | None = None,
    refresh: bool = False,
    overwrite: bool = False,
    step: Callable[[str], None] = lambda _what: None,
) -> Built:
    """Build `recipe` as a raw disk at `path`, where it appears whole or not at all. Blocks, for a minute or so.

    Args:
        recipe: What it is to contain.
        path: The file to make.
        cache: The folder of what was fetched before.
        mirror: The address of a mirror of Debian, instead of this machine's own. Only `http` and `https` are spoken.
        refresh: Whether to fetch anew what may have newer versions.
        overwrite: Whether a file that is there may be replaced.
        step: Called with what is done next, for people.

    Raises:
        UserError: `disk.recipe`; `input.invalid` for a file that is there already, or a mirror that is no address.
        HostError: `disk.tool-missing`, `disk.build-failed`, `storage.full`, `storage.failed`.
    """
    if path.exists() and not overwrite:
        raise error("input.invalid", f"{path} exists already", do="Choose another path, or allow overwriting.")
    if mirror is not None and not _ADDRESS.fullmatch(mirror):
        raise error("input.invalid", f"{mirror[:80]!r} is not a mirror's address", do="It begins with https://.")
    check_tools()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _check_space(path.absolute().parent)
        with tempfile.TemporaryDirectory(prefix="bitdew-disk-") as work:
            _check_space(Path(work))
            step("Fetching packages")
            packages = fetch_packages(recipe, cache, mirror=mirror, refresh=refresh)
            return _build(recipe, packages, path, Path(work), cache, step)
    except OSError as fault:
        why = f"{fault.filename or ''}: {fault.strerror or fault}".lstrip(": ")
        raise error(
            "storage.failed", f"{path} could not be built", why=why, do="Check space and permissions."
        ) from fault


def _build(
    recipe: Recipe, packages: Packages, path: Path, work: Path, cache: Path, step: Callable[[str], None]
) -> Built:
    step(f"Laying out {len(packages.archives)} packages")
    root = work / "root"
    busybox = lay_out(recipe, packages, root, cache)
    boot = _boot(recipe, packages, busybox, work / "kernel")
    step("Packing the guest's files")
    squashed = work / "root.squashfs"
    pack_root(root, squashed)
    step(f"Writing {path}")
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        size = write_image(unfinished, boot, squashed, work)
        if size > recipe.size:
            raise _too_large(recipe, size)
        with unfinished.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return Built(path, size, sha256, packages.kernel.stem, len(packages.archives))


def _boot(recipe: Recipe, packages: Packages, busybox: Path, folder: Path) -> Boot:
    folder.mkdir()
    run_tool(["dpkg-deb", "--extract", packages.kernel, folder], doing="Unpacking the kernel")
    kernels = sorted((folder / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise failed("Unpacking the kernel", f"{packages.kernel.name} has {len(kernels)} kernels, not one")
    modules = module_order(folder, (*MODULES, *recipe.modules))
    return Boot(kernels[0], make_initrd(busybox, guest_script("initrd.sh"), modules))


def _check_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < SPACE:
        raise error(
            "storage.full",
            f"A disk can't be built in {folder}",
            why=f"{format_size(free)} are free, {format_size(SPACE)} are needed",
            path=str(folder),
        )


def _too_large(recipe: Recipe, size: int) -> BitDewError:
    return error(
        "disk.recipe",
        f"The disk {recipe.name} has {format_size(size)}",
        why=f"its recipe allows {format_size(recipe.size)}",
        do="Allow more with 'size', or take packages out.",
    )
