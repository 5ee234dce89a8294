"""Talking to a running QEMU by QMP, one command a connection.

Owns the socket in the machine's folder. QEMU serves it, so that a restarted worker finds it again; the worker binds it
before QEMU exists and hands it over, so that nobody waits for it to appear.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from qemu.qmp import QMPClient, QMPError

from . import machine_folder as files

# The library logs each lost connection as an error. Here it is how every machine ends; what matters is raised.
_UNHEARD: Final = logging.Logger("bitdew.qmp", level=logging.CRITICAL + 1)  # noqa: LOG001 - on purpose unregistered


@contextmanager
def listening(folder: Path) -> Iterator[socket.socket]:
    """The machine's monitor socket, listening, for QEMU to inherit."""
    with _short_path(folder) as path:
        Path(path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(8)
            yield listener


@asynccontextmanager
async def monitor(folder: Path) -> AsyncIterator[QMPClient]:
    """A connection to the machine's QEMU, greeted.

    Raises:
        OSError, EOFError, QMPError: nobody answers. Use it under a timeout: a QEMU that hangs says nothing.
    """
    with _short_path(folder) as path:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            channel.setblocking(False)
            await asyncio.get_running_loop().sock_connect(channel, path)
        except BaseException:
            channel.close()
            raise
    client = QMPClient()
    client.logger = _UNHEARD
    try:
        await client.connect(channel)  # owns the socket from here on
        yield client
    finally:
        with contextlib.suppress(OSError, EOFError, QMPError):  # after `quit` QEMU is simply gone
            await client.disconnect()
        channel.close()


async def tell(folder: Path, command: str, *, within: float) -> bool:
    """Give QEMU a command; whether it took it within so many seconds."""
    try:
        async with asyncio.timeout(within), monitor(folder) as client:
            await client.execute(command)
    except (OSError, EOFError, QMPError, TimeoutError):
        return False
    return True


@contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """A path that fits into the 108 bytes of a socket's address, however long the folder's own path is."""
    if not sys.platform.startswith("linux"):
        yield str(folder / files.SOCKET)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{files.SOCKET}"
    finally:
        os.close(descriptor)
