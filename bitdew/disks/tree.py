"""The guest's files, laid out in a folder: packages, wheels, our own scripts, what the recipe adds and takes away.

No package's script is run: nothing in a guest of ours needs one, and so the layout needs neither root nor a chroot.
"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import Final

from bitdew.core.errors import error

from .packages import Packages
from .programs import EPOCH, failed, run_tool
from .recipe import Recipe
from .wheels import copy_ourselves, fetch_wheels, pinned_needs, unpack_wheels

LIBRARY: Final = "opt/bitdew"
"""Where the guest keeps BitDew and all that pip would have installed, relative to its root."""

_MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FOLDERS: Final = ("dev", "etc", "opt", "proc", "root", "run", "sys", "tmp", "usr/lib/bitdew", "var/lib", "var/tmp")
_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/resolv.conf": "",
}
_SCRIPTS: Final = {"init.sh": "init", "lease.sh": "lease"}
_USELESS: Final = (
    *("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bug"),
    *("usr/share/doc-base", "usr/share/menu", "usr/share/pixmaps", "usr/share/applications", "boot", "var/cache/apt"),
)


def lay_out(recipe: Recipe, packages: Packages, root: Path, cache: Path) -> Path:
    """Make the guest's files in `root`, which must not be there; where its busybox is. Blocks.

    Raises:
        HostError: `disk.build-failed`. UserError: `disk.recipe`. OSError.
    """
    root.mkdir()
    for archive in packages.archives:
        run_tool(["dpkg-deb", "--extract", archive, root], doing=f"Unpacking {archive.name}")
    for name in _MERGED:
        _merge(root / name, root / "usr" / name)
        (root / name).symlink_to(f"usr/{name}")
    for name in _FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    busybox = _busybox(root)
    python = _python(root)
    _add_library(recipe, python, root, cache)
    _add_files(recipe, root)
    for pattern in (*_USELESS, *recipe.remove):
        _remove(root, pattern)
    if not busybox.exists():
        raise failed("Laying out the guest", "the recipe removes busybox, which starts the guest")
    _add_applets(busybox, root)
    if python and (root / python).exists():
        _compile(root, root / python)
    return busybox


def guest_script(name: str) -> bytes:
    """One of the scripts that this package brings for guests."""
    return resources.files("bitdew.disks.guest").joinpath(name).read_bytes()


def _merge(folder: Path, target: Path) -> None:
    """Move what is in `folder` into `target`, as Debian's installer does; packages still name both places."""
    target.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            _merge(path, target / path.name)
        else:
            path.replace(target / path.name)
    folder.rmdir()


def _busybox(root: Path) -> Path:
    for place in ("usr/bin/busybox", "usr/sbin/busybox"):
        if (root / place).exists():
            return root / place
    raise error(
        "disk.recipe",
        "A disk needs busybox to start",
        why="its packages bring none",
        do="Add busybox-static to the recipe's packages.",
    )


def _python(root: Path) -> str:
    """The guest's interpreter, relative to its root, or ""."""
    found = sorted(
        path for path in (root / "usr/bin").glob("python3.*") if path.name.removeprefix("python3.").isdigit()
    )
    return str(found[-1].relative_to(root)) if found else ""


def _add_library(recipe: Recipe, python: str, root: Path, cache: Path) -> None:
    if not recipe.worker and not recipe.pip:
        return
    if not python:
        raise error(
            "disk.recipe",
            "A worker and what pip brings need Python",
            why="the recipe's packages have none",
            do="Add python3 to the recipe's packages.",
        )
    needs = pinned_needs() if recipe.worker else []
    version = python.rpartition("python")[2]
    unpack_wheels(fetch_wheels(needs, recipe.pip, version, cache), root / LIBRARY)
    if recipe.worker:
        copy_ourselves(root / LIBRARY)


def _add_files(recipe: Recipe, root: Path) -> None:
    for name, text in (_FILES | {"etc/hostname": f"{recipe.name}\n"}).items():
        (root / name).write_text(text)
    for script, name in _SCRIPTS.items():
        path = root / "usr/lib/bitdew" / name
        path.write_bytes(guest_script(script))
        path.chmod(0o755)
    for one in recipe.files:
        # A link that a package brought must not lead out of the guest.
        path = root / one.path
        if not path.parent.resolve().is_relative_to(root.resolve()) or path.is_symlink() or path.is_dir():
            raise error("disk.recipe", f"{one.path} can't be a file of the guest", why="a package has something there")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.content)
        path.chmod(one.mode)


def _remove(root: Path, pattern: str) -> None:
    top = root.resolve()
    for path in sorted(root.glob(pattern)):
        if not path.parent.resolve().is_relative_to(top):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _add_applets(busybox: Path, root: Path) -> None:
    """Give the guest a shell and the usual programs, where no package brought them."""
    for name in run_tool([str(busybox), "--list"], doing="Asking busybox what it can do").split():
        link = root / "usr/bin" / name
        if not link.exists() and not link.is_symlink() and not (root / "usr/sbin" / name).exists():
            link.symlink_to(f"../{busybox.relative_to(root / 'usr')}")


def _compile(root: Path, python: Path) -> None:
    """Compile Python's sources once and for all, by the guest's own interpreter.

    The caches follow from the sources alone: they are compiled one at a time, in the order of names, since what was
    compiled before shows in how a file is written.
    """
    interpreter = python.readlink().name if python.is_symlink() else python.name
    loader = root / "lib64/ld-linux-x86-64.so.2"
    libraries = ":".join(str(root / place) for place in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"))
    command = [str(loader.resolve()), "--library-path", libraries, str(python.parent / interpreter)]
    command += ["-I", "-S", "-m", "compileall", "-q", "-f", "-j", "1", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(root), "-p", "/"]
    settings = {"PYTHONHASHSEED": "0", "PYTHONHOME": str(root / "usr"), "SOURCE_DATE_EPOCH": str(EPOCH)}
    places = [*sorted((root / "usr/lib").glob("python3*")), root / LIBRARY]
    for place in (one for one in places if one.is_dir()):
        # A file that is no Python for this release makes compileall fail; the guest never needs its cache.
        run_tool(
            ["sh", "-c", '"$@" || [ $? -eq 1 ]', "sh", *command, str(place)],
            seconds=3600,
            environment=settings,
            doing="Compiling the guest's Python",
        )
