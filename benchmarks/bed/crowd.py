"""Many hosts or users in one process that does next to nothing for each: what is measured is the service.

A member is a kept TLS connection with a certificate of its own, and bytes of requests that were made beforehand. There
is no asyncio here, since one of its TLS connections takes a quarter of a megabyte and as long as a request is served.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from bitdew.core.ids import HostId, Uid, new_uid
from bitdew.trust.authority import Authority
from bitdew.trust.keys import KeyPair, certificate_request, new_key
from bitdew.trust.roles import Role
from bitdew.trust.tls import SERVICE_NAME, client_context

PATIENCE: Final = 120.0
"""Seconds in which an answer comes, whatever else the machine does."""


@dataclass(frozen=True, slots=True)
class Certified:
    """Who may connect.

    Attributes:
        subject_id: Its identity.
        name: What it is called.
        pair: A file with its certificate and key.
    """

    subject_id: HostId
    name: str
    pair: Path


class Certificates:
    """Certificates of one CA, made where the CA is, with one key for all: making keys would take longest."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        """The files go to `folder`."""
        self._authority = authority
        self._folder = folder
        self._key = new_key()
        self._request = certificate_request(self._key, "crowd")

    def issue(self, role: Role, name: str, subject_id: Uid | None = None) -> Certified:
        """One more."""
        who, now = subject_id or new_uid(), datetime.now(UTC)
        issued = self._authority.sign_identity(self._request, role=role, subject_id=who, name=name, now=now)
        path = self._folder / f"{who}.pem"
        path.write_text(issued.pem + self._key)
        return Certified(HostId(who), name, path)

    def context(self, first: Certified) -> ssl.SSLContext:
        """What all of them connect with, beginning with `first`."""
        issued = first.pair.read_text().removesuffix(self._key)
        return client_context(self._authority.certificate, KeyPair(issued, self._key))


class Member:
    """One connection, and the request whose answer it waits for."""

    __slots__ = ("_came", "_whole", "line", "who")

    def __init__(self, line: ssl.SSLSocket, who: Certified | None) -> None:
        self.line = line
        self.who = who
        self._came = b""
        self._whole = 0

    def ask(self, request: bytes) -> None:
        """Send a request: it goes out at once, since nothing else is under way."""
        sent = 0
        while sent < len(request):
            try:
                sent += self.line.send(request[sent : sent + 65536])
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                time.sleep(0.0005)  # a body that is larger than the buffers

    def answer(self) -> bytes | None:
        """The answer's body, if all of it has come.

        Raises:
            RuntimeError: If it is a refusal, or the connection was closed.
        """
        try:
            while True:
                part = self.line.recv(65536)
                if not part:
                    raise RuntimeError(f"the service closed a connection after {self._came[:300]!r}")
                self._came += part
                if not self._whole and (end := self._came.find(b"\r\n\r\n")) >= 0:
                    self._whole = end + 4 + _length(self._came[:end])
                if self._whole and len(self._came) >= self._whole:
                    break
        except ssl.SSLWantReadError:
            return None
        head, _, body = self._came.partition(b"\r\n\r\n")
        self._came, self._whole = b"", 0
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the service refused: {head[:40]!r} {body[:500]!r}")
        return body


Next = Callable[[Member, bytes], bytes | None]
"""Given a member and the body of the answer it got: its next request, or None if it asks nothing more now."""


class Crowd:
    """Members of one service. A context manager; it hangs up in the end."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        self._address = address
        self._context = context
        self._selector = selectors.DefaultSelector()
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in list(self.members):
            self.leave(member)
        self._selector.close()

    def join(self, who: Certified | None = None) -> Member:
        """Connect, with the context's own certificate if no other is given; blocks until the handshake is over."""
        if who is not None:
            self._context.load_cert_chain(who.pair)  # for the connections that begin from now on
        bare = socket.create_connection(self._address, timeout=PATIENCE)
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = self._context.wrap_socket(bare, server_hostname=SERVICE_NAME)
        line.setblocking(False)
        member = Member(line, who)
        self.members.append(member)
        self._selector.register(line, selectors.EVENT_READ, member)
        return member

    def leave(self, member: Member) -> None:
        """Hang up, without a word."""
        self._selector.unregister(member.line)
        member.line.close()
        self.members.remove(member)

    def attend(self, until: float, following: Next) -> int:
        """Take answers as they come until the moment `until` of `time.perf_counter`; how many came."""
        answered = 0
        while (left := until - time.perf_counter()) > 0:
            for key, _ in self._selector.select(min(left, 0.5)):
                member: Member = key.data
                if (body := member.answer()) is not None:
                    answered += 1
                    if (request := following(member, body)) is not None:
                        member.ask(request)
        return answered

    def run(self, requests: Iterable[tuple[Member, bytes]], following: Next | None = None) -> int:
        """Let members ask, all at once, until each got the answer after which it asks nothing more; how many came.

        Raises:
            RuntimeError: If there is no answer for two minutes.
        """
        waiting = answered = 0
        for member, request in requests:
            member.ask(request)
            waiting += 1
        while waiting:
            ready = self._selector.select(PATIENCE)
            if not ready:
                raise RuntimeError(f"{waiting} answers did not come in {PATIENCE:g} s")
            for key, _ in ready:
                member = key.data
                if (body := member.answer()) is None:
                    continue
                answered += 1
                if following is not None and (request := following(member, body)) is not None:
                    member.ask(request)
                else:
                    waiting -= 1
        return answered


def post(path: str, body: bytes, *, method: str = "POST") -> bytes:
    """A request's bytes."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {SERVICE_NAME}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError(f"an answer without a length: {head[:200]!r}")
