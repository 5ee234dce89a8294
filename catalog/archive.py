"""The file that a backup is: a tar whose last member tells the digests of all others.

Owns the format. A file that is cut short, changed or somebody else's is told before anything of it is used. Everything
here blocks; callers run it in a thread.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast

from bitdew.core.errors import BitDewError, error

FORMAT: Final = 1
ABOUT: Final = "about.json"
DIGESTS: Final = "digests.json"
LARGEST_TABLE: Final = 64 * 2**20
"""Bytes of the two members that are read into memory: digests of half a million files."""
_NAME: Final = re.compile(r"(?:catalog\.[a-z0-9]+|(?:authority|repository)(?:/(?!\.)[A-Za-z0-9._-]{1,200}){1,4})")
_BLOCK: Final = 2**20

Progress = Callable[[int], None]
"""Called with the bytes of file content that were just written or read."""


@dataclass(frozen=True, slots=True)
class About:
    """What a backup says of itself.

    Attributes:
        made: When, as ISO 8601 in UTC.
        version: BitDew's.
        database: `sqlite` or `postgresql`: what the catalog's copy is for.
        repository: Whether the repository's files are in it.
    """

    made: str
    version: str
    database: str
    repository: bool


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        self._progress(len(block))
        return block


class ArchiveWriter:
    """Writes a backup into `path`, which must not be there yet, readable by its owner alone. A context manager."""

    def __init__(self, path: Path, about: About, progress: Progress) -> None:
        self._path = path
        self._about = about
        self._progress = progress
        self._digests: dict[str, str] = {}

    def __enter__(self) -> Self:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)
        about = {"format": FORMAT, **{name: getattr(self._about, name) for name in About.__slots__}}
        self._add_json(ABOUT, about)
        return self

    def add(self, name: str, path: Path) -> None:
        """Add a file; one that went away since it was listed is left out."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            hashed = _Hashed(file, self._progress)
            state = os.fstat(file.fileno())
            self._tar.addfile(_member(name, state.st_size, state.st_mtime), cast("BinaryIO", hashed))
            self._digests[name] = hashed.digest.hexdigest()

    def _add_json(self, name: str, content: Mapping[str, Any]) -> None:
        data = json.dumps(content, indent=1).encode()
        self._tar.addfile(_member(name, len(data), 0), io.BytesIO(data))

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._add_json(DIGESTS, self._digests)
                self._tar.close()
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()


def _member(name: str, size: int, modified: float) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(modified)
    return member


def unpack(path: Path, folder: Path, progress: Progress) -> tuple[About, list[str]]:
    """Put the files of a backup into `folder`, which is empty, and verify them all; the names of what is there then.

    Raises:
        UserError: `backup.damaged`, if it is cut short, was changed, or is none of ours.
    """
    digests: dict[str, str] = {}
    about: About | None = None
    told: Mapping[str, str] | None = None
    try:
        with tarfile.open(path, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or told is not None:
                    raise _damaged(path, f"it contains {member.name!r} where that does not belong")
                with content:
                    if about is None:
                        about = _about(path, member, _json(path, member, content))
                    elif member.name == DIGESTS:
                        told = _json(path, member, content)
                    elif _NAME.fullmatch(member.name) and member.name not in digests:
                        digests[member.name] = _copy(content, folder / member.name, progress)
                    else:
                        raise _damaged(path, f"it contains {member.name!r}, which is no part of a backup")
    except (tarfile.TarError, EOFError) as fault:
        raise _damaged(path, str(fault)) from None
    if about is None or told is None:
        raise _damaged(path, "its end is missing")
    if wrong := sorted(name for name in {*told, *digests} if told.get(name) != digests.get(name)):
        raise _damaged(path, f"{_some(wrong)} is not what was backed up")
    return about, sorted(digests)


def _copy(content: Any, target: Path, progress: Progress) -> str:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while block := content.read(_BLOCK):
            digest.update(block)
            file.write(block)
            progress(len(block))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _json(path: Path, member: tarfile.TarInfo, content: Any) -> Any:
    if member.size > LARGEST_TABLE:
        raise _damaged(path, f"{member.name!r} is too large")
    try:
        found = json.loads(content.read())
    except ValueError:
        raise _damaged(path, f"{member.name!r} can't be read") from None
    if not isinstance(found, dict):
        raise _damaged(path, f"{member.name!r} can't be read")
    return found


def _about(path: Path, member: tarfile.TarInfo, found: Mapping[str, Any]) -> About:
    if member.name != ABOUT or found.get("database") not in {"sqlite", "postgresql"}:
        raise _damaged(path, "it is no backup of a BitDew service")
    if found.get("format") != FORMAT:
        raise _damaged(path, f"it has the format {found.get('format')!r} of another release")
    return About(
        str(found.get("made")), str(found.get("version")), found["database"], repository=found.get("repository") is True
    )


def _some(names: Iterable[str]) -> str:
    first, *rest = names
    return f"{first!r} (and {len(rest)} more)" if rest else repr(first)


def _damaged(path: Path, why: str) -> BitDewError:
    return error("backup.damaged", f"{path} can't be restored", why=why, path=str(path))
