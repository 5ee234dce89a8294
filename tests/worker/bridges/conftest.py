"""The door of an XtremWeb-HEP worker, as a small real HTTP server: a call replaces what it shares, unreadable since."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from bitdew.worker.plugins.contract import Replica


class Door:
    """Listens on the loopback; a test closes it, has it hang, refuse or forget, and looks at what it shares."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.paths: list[str] = []
        self.calls: list[tuple[list[str], list[str]]] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.hanging = False
        self.looks: Any = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def open(self) -> None:
        """Listen, at the port of before; whatever was shared is forgotten."""
        self.names, self.paths = [], []
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(one.split(": ", 1) for one in rest if one)
            body = await reader.readexactly(int(headers.get("Content-Length", "0")))
            if self.hanging:
                await asyncio.sleep(3600)
            _, target, _ = line.split(" ")
            self.requests.append((line, headers, body))
            if self.status == 200 and urlsplit(target).path == "/shareddata":
                self._share(target)
            text = f"HTTP/1.1 {self.status} Whatever\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
            writer.write(text.encode())
            await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _share(self, target: str) -> None:
        asked = parse_qs(urlsplit(target).query, keep_blank_values=True)
        (names,), (paths,) = asked["datapackagename"], asked["datapackagepath"]
        self.names, self.paths = names.split(",") if names else [], paths.split(",") if paths else []
        self.calls.append((self.names, self.paths))
        if self.looks is not None:
            self.looks(self.names, self.paths)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    made = Door()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def replica():
    def make(number: int, name: str = "", **changes: Any) -> Replica:
        made: dict[str, Any] = {
            "uid": f"{number:032x}",
            "name": name or f"disk-{number}",
            "root": f"{number:064x}",
            "size": 7,
            "path": Path(f"/srv/copies/{number}"),
            "attribute": "",
            "since": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
        }
        return Replica(**{**made, **changes})

    return make
