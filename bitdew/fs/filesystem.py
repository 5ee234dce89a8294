"""The file system of fsspec over a service's data: flat, by names; read in ranges on demand, written as a whole.

Owns how data look as files. Every range is verified before it is given; ranges are read ahead and kept by fsspec's own
caches. A folder is the file of its archive: `tar://inner/file::bitdew://name` reads in it.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from bitdew.blocking.dew import BlockingDatum, BlockingDew, connect
from bitdew.core.errors import BitDewError

from .writing import WrittenFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

BLOCK: Final = 4 * 2**20
"""Bytes that are fetched at a time if less is asked for: the largest piece of most data."""
MOST: Final = 64 * 2**20
"""Bytes of one call to the service."""


class BitDewFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """`bitdew://name`, by the identity of a profile.

    Connected at its first use. It ends with `close`, or with the last reference to it.
    """

    protocol = "bitdew"
    root_marker = ""

    def __init__(self, profile: str | Path | None = None, url: str | None = None, **options: Any) -> None:
        """As `bitdew.connect`; `options` are fsspec's."""
        super().__init__(profile=profile, url=url, **options)
        self._profile, self._url = profile, url
        self._dew: BlockingDew | None = None
        self._end: weakref.finalize[Any, Any] | None = None

    @property
    def dew(self) -> BlockingDew:
        """The connection. Raises what `bitdew.connect` raises when it is entered."""
        if self._dew is None:
            self._dew = connect(self._profile, url=self._url).__enter__()
            self._end = weakref.finalize(self, self._dew.__exit__, None, None, None)
        return self._dew

    def close(self) -> None:
        """End the connection; the next use makes another."""
        end, self._end, self._dew = self._end, None, None
        if end is not None:
            end()

    # Looking --------------------------------------------------------------------------------------------------------

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        """What is known of a datum. Raises FileNotFoundError."""
        name = self._strip_protocol(path)
        if not name:
            return {"name": "", "size": 0, "type": "directory"}
        return _info(self._find(name))

    def ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:
        """All data, where `path` names none; or that one."""
        name = self._strip_protocol(path)
        found = [self.info(name)] if name else [_info(one) for one in self.dew.search()]
        return found if detail else [one["name"] for one in found]

    def created(self, path: str) -> datetime:
        """When the datum was made, UTC."""
        made: datetime = self.info(path)["created"]
        return made

    modified = created  # a datum never changes

    def ukey(self, path: str) -> str:
        """The identity of the datum's content: what caches compare."""
        return str(self.info(path)["root"])

    # Reading and writing --------------------------------------------------------------------------------------------

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        """The bytes of a datum, or a range of them; what is negative counts from its end."""
        datum = self._find(self._strip_protocol(path))
        first, stop, _step = slice(start, end).indices(datum.size)
        return _read(datum, first, max(first, stop))

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> Any:
        name = self._strip_protocol(path)
        if mode == "rb":
            return BitDewFile(self, self._find(name), block_size or BLOCK, **options)
        if mode in {"wb", "xb"}:
            return WrittenFile(self.dew, name, options.get("attribute"))
        raise NotImplementedError(f"data are read ('rb') or made ('wb'): {mode!r} is neither")

    def rm_file(self, path: str) -> None:
        """End a datum's life. Raises FileNotFoundError."""
        name = self._strip_protocol(path)
        with _told(name):
            self.dew.delete(name)

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def put_file(self, lpath: str, rpath: str, callback: Any = None, **options: Any) -> None:  # noqa: ARG002
        """Make a file or folder of this machine a datum; `attribute` says what should be true of it."""
        self.dew.put(lpath, options.get("attribute"), name=self._strip_protocol(rpath))

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Names have no folders: nothing is to be done."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Names have no folders: nothing is to be done."""

    def _find(self, name: str) -> BlockingDatum:
        with _told(name):
            datum = self.dew.find(name)
            if datum.view.alive:
                return datum
        raise FileNotFoundError(name)


class BitDewFile(AbstractBufferedFile):  # type: ignore[misc]
    """A datum that is read. What fsspec asks for is fetched then, and verified."""

    def __init__(self, fs: BitDewFileSystem, datum: BlockingDatum, block_size: int, **options: Any) -> None:
        """`options` are those of fsspec's own file, as `cache_type`."""
        self._datum = datum
        known = {key: value for key, value in options.items() if key in {"autocommit", "cache_type", "cache_options"}}
        super().__init__(fs, datum.name, "rb", block_size=block_size, size=datum.size, **known)
        self._dew: BlockingDew = fs.dew
        self._dew.portal.soon(self._dew.twin.grid.keep_open, datum.root)

    def close(self) -> None:
        """Close the file; with the last one of a content, what reads it from hosts ends."""
        if not self.closed and self._dew.portal.is_open:  # else the connection's end has ended all
            # Not waited for: files are closed by the garbage collector too, in whatever thread.
            self._dew.portal.soon(self._dew.twin.grid.let_go, self._datum.root)
        super().close()

    def _fetch_range(self, start: int, end: int) -> bytes:
        return _read(self._datum, max(0, start), min(end, self._datum.size))


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turns "there is no such datum" into what readers of files expect."""
    try:
        yield
    except BitDewError as fault:
        if fault.key in {"data.not-found", "input.invalid"}:
            raise FileNotFoundError(f"bitdew://{name}: {fault}") from fault
        raise


def _info(datum: BlockingDatum) -> dict[str, Any]:
    return {
        "name": datum.name,
        "size": datum.size,
        "type": "file",
        "uid": datum.uid,
        "root": datum.root,
        "created": datum.view.created,
        "is_folder": datum.is_folder,
    }


def _read(datum: BlockingDatum, start: int, end: int) -> bytes:
    return b"".join(datum.read(at, min(end, at + MOST)) for at in range(start, end, MOST))
