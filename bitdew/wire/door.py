"""Which HTTP doors may be called that are no BitDew service's: another program's on this machine, or a webhook.

Owns the judgement of their URLs. Nothing is looked up or called here.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from yarl import URL

from bitdew.core.errors import error

from . import limits

_SHOWN: Final = 200


def is_loopback(url: URL) -> bool:
    """Whether `url` leads to this machine by its name alone: nothing is looked up."""
    host = url.host or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def door_url(text: str, *, plain_elsewhere: bool = False) -> URL:
    """The URL that `text` spells: https, or http on this machine; anywhere with `plain_elsewhere`.

    Raises:
        UserError: `input.invalid`.
    """
    try:
        url = URL(text)
        valid = url.scheme in {"http", "https"} and bool(url.host) and bool(url.port) and not url.fragment
    except (ValueError, IndexError):  # yarl's parser stumbles over what is nearly a URL
        url, valid = URL(), False
    if not valid or len(text) > limits.URL:
        raise error(
            "input.invalid", f"{text[:_SHOWN]!r} is not a URL of HTTP", do="Write it like http://127.0.0.1:4327."
        )
    if url.user or url.password:
        why = "it has a user or a password in it, which whoever lists the bridges would see"
        raise error("input.invalid", f"{shown_url(url)} can't be used", why=why, field="url")
    if url.scheme == "http" and not is_loopback(url) and not plain_elsewhere:
        why = "it leads to another machine without encryption, where anybody on the way could read and change it"
        raise error("input.invalid", f"{text[:_SHOWN]} can't be used", why=why, field="url")
    return url


def shown_url(url: URL) -> str:
    """`url` as it may be shown: without a query, in which a token may be."""
    return str(url.with_query(None).with_user(None))[:_SHOWN]
