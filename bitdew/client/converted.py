"""A disk image to publish, in whatever format it is delivered: raw as it is, others as the raw image made of them.

Owns the converted image's file, which lives as long as it is read. It must not know the service.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bitdew.core.errors import error
from bitdew.disks.convert import convert
from bitdew.disks.formats import NAMES, Format, format_of

from .image import FileSource

if TYPE_CHECKING:
    from collections.abc import Callable


class ConvertedSource(FileSource):
    """The raw image that was made of another, in place of that."""

    def __init__(self, path: Path, kind: Format, progress: Callable[[int, int], None]) -> None:
        """Convert the image at `path`, of the format `kind`. Blocks.

        Raises:
            BitDewError: `disk.format`, `disk.tool-missing`, `storage.full`, `storage.failed`; as `FileSource` does.
        """
        self._original = FileSource(path)
        self._folder = tempfile.TemporaryDirectory(prefix="bitdew-image-")
        try:
            super().__init__(convert(path, kind, Path(self._folder.name), progress))
        except BaseException:
            self._folder.cleanup()
            self._original.close()
            raise

    @property
    def label(self) -> str:
        """The original's path: nobody knows the other."""
        return self._original.label

    @property
    def fingerprint(self) -> str:
        """The original's, as the source of what is made of it: sending goes on with an image that is converted anew."""
        return hashlib.sha256(f"raw of {self._original.fingerprint}".encode()).hexdigest()

    def check_unchanged(self) -> None:
        """Look whether the original is still what was converted."""
        self._original.check_unchanged()
        super().check_unchanged()

    def close(self) -> None:
        """Close both, and remove what was made."""
        super().close()
        self._original.close()
        self._folder.cleanup()


def check_raw(path: Path) -> None:
    """Refuse an image that could be added only after it was converted. Blocks.

    Raises:
        UserError: `disk.format`, or that it can't be read.
    """
    if (kind := format_of(path)) != "raw":
        do = "Add it without --seed, or convert it first: qemu-img convert -O raw"
        raise error("disk.format", f"{path} can't be offered from where it is", why=f"it is {NAMES[kind]}", do=do)


def open_disk(path: Path, progress: Callable[[int, int], None] | None = None) -> FileSource:
    """The image at `path`, as the bytes of a disk. Blocks; `progress` is told of the bytes that are converted.

    Raises:
        BitDewError: what `FileSource` and `ConvertedSource` raise.
    """
    source = FileSource(path)
    try:
        kind = format_of(path)
    except BaseException:
        source.close()
        raise
    if kind == "raw":
        return source
    source.close()
    return ConvertedSource(path, kind, progress or (lambda _done, _total: None))
