"""Names and values in a file, which both the worker and the warden read and write without a library.

Owns the form: name, value, name, value, each ended by a zero byte, so that no value needs escaping. A name may come
several times. A file is replaced as a whole, so that a reader finds either what was there or what is there now.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

Fields = list[tuple[str, str]]

LARGEST: Final = 8 * 2**20
"""Bytes of such a file at most."""


def pack(fields: Iterable[tuple[str, str]]) -> bytes:
    """As bytes.

    Raises:
        ValueError: If a name or a value has a zero byte in it.
    """
    words = [word for field in fields for word in field]
    if any("\0" in word for word in words):
        raise ValueError("a zero byte in a field")
    return "".join(f"{word}\0" for word in words).encode("utf-8", "surrogateescape")


def unpack(data: bytes) -> Fields:
    """What was packed.

    Raises:
        ValueError: If it is cut short.
    """
    words = data.decode("utf-8", "surrogateescape").split("\0")
    if len(words) % 2 != 1 or words[-1]:
        raise ValueError("cut short")
    return list(zip(words[0:-1:2], words[1:-1:2], strict=True))


def write(path: str, fields: Iterable[tuple[str, str]]) -> None:
    """Put `fields` in the place of what is at `path`, for all who are alive.

    A crash of the machine may undo it: the job is gone then too, and a report without the files that belong to it would
    be worse than none.
    """
    part = f"{path}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = pack(fields)
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)
    os.replace(part, path)


def read(path: str) -> Fields:
    """What stands at `path`.

    Raises:
        OSError: If it is not there, or can't be read.
        ValueError: If it is none of ours.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        if size > LARGEST:
            raise ValueError("too large")
        data = b""
        while len(data) < size and (more := os.read(descriptor, size - len(data))):
            data += more
    finally:
        os.close(descriptor)
    return unpack(data)
