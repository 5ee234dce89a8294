"""A folder as one content: the canonical archive, whose bytes follow from the tree alone.

Owns the form, in both directions, and touches no file. It is a POSIX pax archive that `tar xf` unpacks: entries in the
order of their names, without owners and times, their modes reduced to executable or not. Each file's bytes begin at a
multiple of 16 KiB, by a padding `comment` in its extended header, which every reader ignores: so a file that did not
change is blocks that did not change. As there is one form only, reading compares each header with the one that would
be written for what it says; whatever deviates by a byte is refused.

The headers are packed here, not by `tarfile`: its bytes changed between releases of Python, and with them a folder's
identity would. The form: POSIX.1-2017, pax (https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html).
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .content import BLOCK
from .errors import BitDewError, error

ENTRIES: Final = 500_000
"""Files, folders and links of one folder: they are described in memory, with half a gigabyte at the worst."""
DEPTH: Final = 128
"""Folders within each other: far below what recursion and paths of an operating system bear."""
PATH: Final = 4000
"""Bytes of a path, and of a link's target: with the folder it is unpacked into, within the 4096 of Linux."""
NAME: Final = 255
"""Bytes of one name in a path: what file systems allow."""
LONGEST_RECORDS: Final = BLOCK + 4 * PATH
"""Bytes of an extended header: two paths, a size and the padding."""

UNIT: Final = 512
_END: Final = bytes(2 * UNIT)
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_CHECKSUM: Final = slice(148, 156)
_OCTAL_SIZE: Final = 8**11
"""Bytes from which on a size has no room in a plain header."""
_RECORD: Final = re.compile(rb"(?P<length>[1-9][0-9]{0,6}) (?P<key>comment|linkpath|path|size)=")
_EXTENDED: Final = b"x"


class EntryKind(StrEnum):
    """What an entry is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


_TYPES: Final = {EntryKind.FILE: b"0", EntryKind.LINK: b"2", EntryKind.FOLDER: b"5"}
_KINDS: Final = {code: kind for kind, code in _TYPES.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or symbolic link of a tree.

    Attributes:
        path: Its names from the tree's top down, joined by "/".
        kind: What it is.
        size: A file's bytes.
        executable: Whether its owner may execute the file.
        target: Where a link leads, as it is written.
    """

    path: str
    kind: EntryKind
    size: int = 0
    executable: bool = False
    target: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """Its names from the top down; entries are in the order of these."""
        return tuple(self.path.split("/"))


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry in its archive.

    Attributes:
        entry: What it is.
        offset: Where its header begins, in bytes.
        start: Where its bytes begin.
    """

    entry: Entry
    offset: int
    start: int

    @property
    def stop(self) -> int:
        """Where its bytes end."""
        return self.start + self.entry.size

    @property
    def end(self) -> int:
        """Where the next entry begins."""
        return _rounded(self.stop)


def checked(entry: Entry) -> Entry:
    """`entry`, if it may stand in an archive.

    A link may lead up to the tree's top and then down, so that no chain of links leaves the tree: going up again after
    going down could, where what was passed is a link itself.

    Raises:
        UserError: `input.invalid`, `input.too-large`.
    """
    parts = entry.parts
    if len(parts) > DEPTH:
        raise _too_large(entry.path, f"it is {len(parts)} folders deep, and {DEPTH} are allowed")
    _check_text(entry.path, entry.path)
    for part in parts:
        if part in {"", ".", ".."}:
            raise _refused(entry.path, f"{part!r} is no name")
        if len(part.encode()) > NAME:
            raise _too_large(entry.path, f"a name in it has more than {NAME} bytes")
    if entry.kind is EntryKind.LINK:
        _check_target(entry)
    elif entry.target:
        raise _refused(entry.path, "only links lead elsewhere")
    if entry.size < 0 or (entry.size and entry.kind is not EntryKind.FILE):
        raise _refused(entry.path, f"it can't have {entry.size} bytes")
    if entry.executable and entry.kind is not EntryKind.FILE:
        raise _refused(entry.path, "only files are executable")
    return entry


def _check_text(text: str, path: str) -> None:
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise _refused(path, "its name is not UTF-8") from None
    if length > PATH:
        raise _too_large(path, f"it has {length} bytes, and {PATH} are allowed")
    if "\0" in text:
        raise _refused(path, "a name can't contain a zero byte")


def _check_target(entry: Entry) -> None:
    _check_text(entry.target, entry.path)
    if not entry.target or entry.target.startswith("/"):
        raise _refused(entry.path, f"it links to {entry.target[:200]!r}, which is not a place in the folder")
    steps = [step for step in entry.target.split("/") if step not in {"", "."}]
    up = next((number for number, step in enumerate(steps) if step != ".."), len(steps))
    if up >= len(entry.parts) or ".." in steps[up:]:
        raise _refused(entry.path, f"it links to {entry.target[:200]!r}, which may lead out of the folder")


class Tree:
    """The archive of a whole tree: where everything in it is, and the bytes that are no file's.

    Attributes:
        placed: The entries in their order.
        size: Bytes of the archive.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        """`entries` may come in any order.

        Raises:
            UserError: `input.invalid`, `input.too-large`.
        """
        if len(entries) > ENTRIES:
            raise error("input.too-large", "The folder is too large", why=f"it has more than {ENTRIES} entries")
        self.placed: list[Placed] = []
        offset, order = 0, _Order()
        for entry in sorted(entries, key=lambda one: one.parts):
            order.take(checked(entry))
            start = offset + _header_length(entry, offset)
            self.placed.append(placed := Placed(entry, offset, start))
            offset = placed.end
        self.size = offset + len(_END)
        self._offsets = [placed.offset for placed in self.placed]

    def from_offset(self, offset: int) -> Iterator[Placed]:
        """The entries from the one on that has the byte at `offset`, in its header or in its bytes."""
        for number in range(max(0, bisect_right(self._offsets, offset) - 1), len(self.placed)):
            yield self.placed[number]


def header(entry: Entry, offset: int) -> bytes:
    """What stands before the bytes of `entry`, if it begins at `offset` of an archive."""
    path, target = entry.path.encode(), entry.target.encode()
    size = entry.size if entry.size < _OCTAL_SIZE else 0
    plain = _plain(path, _TYPES[entry.kind], size, target, executable=entry.executable)
    records = _records(entry)
    room = _header_length(entry, offset) - 2 * UNIT
    if room < 0:
        return plain
    if entry.size:
        records += _padding(room - len(records))
    about = _plain(b"././@PaxHeader", _EXTENDED, len(records))
    return about + records + bytes(room - len(records)) + plain


def read_tree(read: Callable[[int, int], bytes], size: int) -> Iterator[Placed]:
    """The entries of the archive of `size` bytes that `read(offset, length)` gives, each as soon as it is known.

    Where an entry comes, the folder it is in came before; nothing is within a link or a file; no path comes twice.

    Raises:
        UserError: `input.invalid`, `input.too-large`, as soon as something is not in the canonical form.
    """
    offset, order = 0, _Order()
    while True:
        first = read(offset, UNIT)
        if first == bytes(UNIT):
            if size != offset + len(_END) or read(offset, len(_END)) != _END:
                raise _not_ours(offset, "it does not end where its entries do")
            return
        if order.count >= ENTRIES:
            raise error("input.too-large", "The archive is too large", why=f"it has more than {ENTRIES} entries")
        entry = checked(_parsed(read, offset, first))
        head = header(entry, offset)
        if read(offset, len(head)) != head:
            raise _not_ours(offset, "a header is not as it is written here")
        placed = Placed(entry, offset, offset + len(head))
        if placed.end > size - len(_END):
            raise _not_ours(offset, f"{entry.path[:200]!r} is cut off")
        if any(read(placed.stop, placed.end - placed.stop)):
            raise _not_ours(offset, "there is something between its files")
        order.take(entry)
        yield placed
        offset = placed.end


class _Order:
    """The order of entries: by their names, each in a folder that came before."""

    def __init__(self) -> None:
        self.count = 0
        self._last: tuple[str, ...] = ()
        self._folder: tuple[str, ...] = ()

    def take(self, entry: Entry) -> None:
        parts = entry.parts
        if parts <= self._last:
            raise _refused(entry.path, "it comes twice, or too late")
        # All that begin with a folder's name follow it at once: the last folder has those around it in its path.
        if parts[:-1] != self._folder[: len(parts) - 1]:
            raise _refused(entry.path, "it is in no folder of the archive")
        if entry.kind is EntryKind.FOLDER:
            self._folder = parts
        self._last = parts
        self.count += 1


def _parsed(read: Callable[[int, int], bytes], offset: int, block: bytes) -> Entry:
    """What the header at `offset` says, whatever its form."""
    records: dict[bytes, bytes] = {}
    if block[156:157] == _EXTENDED:
        length = _octal(block[124:136], offset)
        if length > LONGEST_RECORDS:
            raise _not_ours(offset, f"an extended header has {length} bytes, and {LONGEST_RECORDS} are allowed")
        records = _parsed_records(read(offset + UNIT, length), offset)
        block = read(offset + UNIT + _rounded(length), UNIT)
    if len(block) != UNIT or (kind := _KINDS.get(block[156:157])) is None:
        raise _not_ours(offset, "what stands there is neither a file nor a folder nor a link")
    try:
        path = records.get(b"path", block[:100].rstrip(b"\0")).decode()
        target = records.get(b"linkpath", block[157:257].rstrip(b"\0")).decode()
    except UnicodeDecodeError:
        raise _not_ours(offset, "a name is not UTF-8") from None
    told = records.get(b"size")
    if told is not None and not re.fullmatch(rb"[1-9][0-9]{0,15}", told):
        raise _not_ours(offset, "a size is not a number")
    size = _octal(block[124:136], offset) if told is None else int(told)
    return Entry(path, kind, size, executable=block[100:107] == b"0000755" and kind is EntryKind.FILE, target=target)


def _parsed_records(raw: bytes, offset: int) -> dict[bytes, bytes]:
    records, position = {}, 0
    while position < len(raw):
        match = _RECORD.match(raw, position)
        end = position + int(match["length"]) if match else 0
        if match is None or not match.end() < end <= len(raw):
            raise _not_ours(offset, "an extended header can't be read")
        records[match["key"]] = raw[match.end() : end - 1]
        position = end
    return records


def _octal(field: bytes, offset: int) -> int:
    if not re.fullmatch(rb"[0-7]{11}\0", field):
        raise _not_ours(offset, "a number is not one")
    return int(field[:11], 8)


def _rounded(length: int) -> int:
    return -(-length // UNIT) * UNIT


def _header_length(entry: Entry, offset: int) -> int:
    """Bytes before an entry's own: such that a file's begin at a multiple of 16 KiB."""
    records = len(_records(entry))
    if not entry.size:
        return 2 * UNIT + _rounded(records) if records else UNIT
    least = 2 * UNIT + _rounded(records + len(_padding(0)))
    return least + -(offset + least) % BLOCK


def _records(entry: Entry) -> bytes:
    """What does not fit into the plain header."""
    records = b""
    for key, text in ((b"path", entry.path), (b"linkpath", entry.target)):
        if len(raw := text.encode()) > 100 or not text.isascii():
            records += _record(key, raw)
    if entry.size >= _OCTAL_SIZE:
        records += _record(b"size", b"%d" % entry.size)
    return records


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(b" %b=%b\n" % (key, value))
    length = rest + len(str(rest))
    length = rest + len(str(length))  # its own digits may be one more by what they add
    return b"%d %b=%b\n" % (length, key, value)


def _padding(length: int) -> bytes:
    """A comment of `length` bytes, or the shortest one."""
    shortest = _record(b"comment", b"")
    if length <= len(shortest):
        return shortest
    digits = len(str(length))
    return b"%d comment=%b\n" % (length, b" " * (length - digits - len(b" comment=\n")))


def _plain(path: bytes, kind: bytes, size: int, target: bytes = b"", *, executable: bool = False) -> bytes:
    """A plain header: what has no room in it is in the extended one before it."""
    mode = 0o755 if executable or kind == _TYPES[EntryKind.FOLDER] else 0o644
    zero, none = b"%07o" % 0, b""
    # What is no ASCII has no meaning here; a reader that passes over the extended header shall see a harmless name.
    path, target = (text.decode().encode("ascii", "replace")[:100] for text in (path, target))
    fields = (path, b"%07o" % mode, zero, zero, b"%011o" % size, b"%011o" % 0, b" " * 8, kind, target)
    block = bytearray(_HEADER.pack(*fields, b"ustar", b"00", none, none, zero, zero, none))
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def _refused(path: str, why: str) -> BitDewError:
    shown = path[:200].encode(errors="replace").decode()
    do = "Leave it out of the folder, or put a copy in its place."
    return error("input.invalid", f"{shown!r} can't be in a folder's archive", why=why, do=do, path=shown)


def _too_large(path: str, why: str) -> BitDewError:
    shown = path[:200].encode(errors="replace").decode()
    return error("input.too-large", f"{shown!r} can't be in a folder's archive", why=why, path=shown)


def _not_ours(offset: int, why: str) -> BitDewError:
    what = "This is not the archive of a folder as BitDew makes it"
    do = "Get it as a file: bitdew data get --archive"
    return error("input.invalid", what, why=f"{why} (at byte {offset})", do=do)
