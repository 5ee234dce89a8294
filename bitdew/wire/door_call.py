"""One call to what is no BitDew service: another program's HTTP door on this machine, or somebody's webhook.

Owns the bounds of the call. It must not know what is said. Redirects are not followed, proxies are not used, and a
reply is read to its bound and thrown away.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp
from yarl import URL

from bitdew.core.errors import error

from . import limits
from .door import shown_url

_SHOWN: Final = 200


async def call_door(
    method: str,
    url: URL,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float,
) -> None:
    """Send one request, and see that it is answered with success, all within `seconds`.

    Raises:
        HostError: `bridge.unreachable`.
    """
    where = shown_url(url)
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(total=None)
            ) as session,
            session.request(method, url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            status, read = response.status, 0
            while read < limits.DOOR_REPLY and (chunk := await response.content.read(limits.DOOR_REPLY)):
                read += len(chunk)
    except TimeoutError:
        raise error("bridge.unreachable", f"{where} does not answer", why=f"no reply in {seconds:g} s") from None
    except (aiohttp.ClientError, ssl.SSLError, OSError, ValueError) as fault:
        why = str(fault)[:_SHOWN] or type(fault).__name__
        raise error("bridge.unreachable", f"{where} can't be told anything", why=why) from fault
    if not 200 <= status < 300:
        raise error(
            "bridge.unreachable", f"{where} refuses what it is told", why=f"it answered {status}", status=status
        )
