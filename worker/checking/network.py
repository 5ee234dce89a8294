"""The way to the service and from other hosts: reachability, clocks, certificates, the swarm's port.

Owns these checks. Nothing secret is sent to a service that has not proved who it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError
from bitdew.swarm.settings import is_wildcard
from bitdew.trust.keys import certificate_expires
from bitdew.trust.tls import bootstrap_context, client_context
from bitdew.wire.models import AuthorityReply, ServiceReply
from bitdew.wire.transport import Transport

from .findings import Finding, fine, problem, told, warning

if TYPE_CHECKING:
    from bitdew.core.clock import Clock
    from bitdew.trust.identity import Identity

    from ..settings import WorkerSettings

SECONDS: Final = 10.0
"""How long the service may take for one answer."""
CLOCK_WARNING: Final = 30.0
CLOCK_PROBLEM: Final = 300.0
"""Seconds that the clocks may differ: certificates begin five minutes before they are issued."""
SOON: Final = timedelta(days=3)


async def service(url: str, identity: Identity | None, clock: Clock) -> AsyncIterator[Finding]:
    """Whether the service answers, knows this host, and has the same time."""
    try:
        async with Transport(url, bootstrap_context()) as line:
            began = time.monotonic()
            await line.call("GET", "/v1/ca", AuthorityReply, seconds=SECONDS)
            spent = time.monotonic() - began
            before = clock.now()
            there = await line.time_of_day("/v1/ca", seconds=SECONDS)
            here = before + (clock.now() - before) / 2
    except BitDewError as fault:
        yield told("service", fault)
        return
    if there is not None:
        yield _clocks(here, there)
    if identity is None:
        yield fine("service", f"{url} answers, in {spent * 1000:.0f} ms; this host has not joined it")
        return
    try:
        context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
        async with Transport(url, context) as line:
            found = await line.call("GET", "/v1/service", ServiceReply, seconds=SECONDS)
    except BitDewError as fault:
        yield told("service", fault)
        return
    yield fine("service", f"{found.name} at {url} answers, in {spent * 1000:.0f} ms, and knows this host")


def _clocks(here: datetime, there: datetime) -> Finding:
    """`there` is cut to whole seconds."""
    ahead = (here - there).total_seconds() - 0.5
    if abs(ahead) < CLOCK_WARNING:
        return fine("clock", "like the service's, to some seconds")
    found = f"{abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} the service's"
    do = "Set this host's clock, best by NTP: timedatectl set-ntp true"
    return (problem if abs(ahead) > CLOCK_PROBLEM else warning)("clock", found, do)


def certificates(identity: Identity, now: datetime, *, running: bool) -> Iterator[Finding]:
    """Until when this host's certificates, and the service's CA, are valid."""
    ends = {"identity": identity.identity, "swarm": identity.swarm}
    dates = {name: certificate_expires(pair.certificate) for name, pair in ends.items() if pair is not None}
    for name, end in {**dates, "CA": certificate_expires(identity.ca)}.items():
        what = f"certificate: {name}"
        found = f"valid until {end:%Y-%m-%d %H:%M} UTC"
        if now >= end:
            yield problem(what, f"ended on {end:%Y-%m-%d %H:%M} UTC", "Ask the operator for a token and join again.")
        elif name != "CA" and not running and end - now < SOON:
            yield warning(what, found, "Start the worker before that: it renews it while it runs.")
        else:
            yield fine(what, found)


async def port(settings: WorkerSettings, url: str, *, listening: str) -> AsyncIterator[Finding]:
    """Whether the swarm can listen, and what its address looks like from elsewhere.

    Args:
        settings: Say where it is to listen.
        url: The service's, for the way to it; "" if none is known.
        listening: Where it does; "" if no worker runs.
    """
    wanted = settings.endpoint
    if listening:
        yield fine("swarm's port", f"the worker listens at {listening}")
    else:
        yield await asyncio.to_thread(_can_listen, wanted.host, wanted.port)
    if not url or not is_wildcard(wanted):
        return
    here, there = await _ends(url)
    if here and ipaddress.ip_address(here).is_private and there and not ipaddress.ip_address(there).is_private:
        do = "Have the router forward a fixed --listen port to this host: else it meets only the hosts that it dials."
        if wanted.port:
            do = f"Have the router forward port {wanted.port} to this host, if it does not yet."
        yield warning("reachability", f"this host is {here}, behind a router, and the service is elsewhere", do)
    elif here:
        yield fine("reachability", f"other hosts are told {here}")


def _can_listen(host: str, number: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, number))
            tried.listen(1)
        except OSError as fault:
            do = "Choose another --listen, or stop the program that holds it."
            return problem("swarm's port", f"{host}:{number} can't be had: {fault.strerror or fault}", do)
    return fine("swarm's port", f"{host}:{number} can be had" if number else "any free one is taken")


async def _ends(url: str) -> tuple[str, str]:
    """This host's address on the way to the service, and the service's; "" where there is no way. Nothing is sent."""
    from bitdew.wire.transport import service_url

    parsed, loop = service_url(url), asyncio.get_running_loop()
    try:
        remote = (parsed.host or "", parsed.port or 443)
        way, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=remote)
    except OSError:
        return "", ""
    try:
        ours, theirs = way.get_extra_info("sockname"), way.get_extra_info("peername")
        return str(ours[0]).partition("%")[0], str(theirs[0]).partition("%")[0]
    finally:
        way.close()
