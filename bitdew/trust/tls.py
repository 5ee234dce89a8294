"""TLS contexts: how the service and its clients know each other.

Owns what is verified in a handshake. The service asks for a client certificate and takes a connection without one,
because enrolment comes without; the web edge refuses everything else on such a connection.
"""

from __future__ import annotations

import errno
import os
import ssl
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bitdew.core.errors import BitDewError, error

from . import pem as text
from .authority import SERVICE_NAME
from .keys import KeyPair, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SERVICE_NAME", "bootstrap_context", "checked_ca", "client_context", "server_context"]


def server_context(pair: KeyPair, ca: str) -> ssl.SSLContext:
    """What the service listens with: TLS 1.3, client certificates of `ca` alone, or none. Blocks for a moment.

    A client whose certificate is of another CA, expired or not for clients loses the connection. With TLS 1.3
    its handshake is over by then: aiohttp tells it that the server disconnected, and no reason (measured). So a client
    looks at its own certificate first: `Identity.require_valid`.

    Raises:
        UserError: `input.invalid`, if a certificate or the key can't be used.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, ca, pair)
    context.verify_mode = ssl.CERT_OPTIONAL
    # No resumption: every connection shows its certificate and has it verified again.
    context.num_tickets = 0
    return context


def client_context(ca: str, pair: KeyPair | None) -> ssl.SSLContext:
    """What a client connects with, passing `server_hostname=SERVICE_NAME` whatever the address. Blocks for a moment.

    A swarm certificate of the same CA can't stand in for the service: its DNS name `*` matches no host name, and
    common names are not looked at.

    Raises:
        UserError: `input.invalid`, if a certificate or the key can't be used.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, ca, pair)
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    context.hostname_checks_common_name = False
    return context


def bootstrap_context() -> ssl.SSLContext:
    """A context that verifies nothing, for one purpose: to read the CA's certificate before joining.

    Nothing secret may be sent through it, and nothing read through it is trusted but what `checked_ca` returns.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def checked_ca(pem: str, expected: str) -> str:
    """The CA's certificate, PEM, if it is the one that a token names.

    Args:
        pem: What the service gave. Only the first certificate in it is looked at, and returned.
        expected: The token's fingerprint, hexadecimal.

    Raises:
        UserError: `token.foreign` if the fingerprint differs; `service.not-bitdew` if this is no certificate.
    """
    try:
        certificate = text.text_of(text.read_certificate(pem))
    except BitDewError as cause:
        raise error("service.not-bitdew", "The service showed no CA certificate", why=cause.why) from cause
    found = fingerprint(certificate)
    if found != expected.lower():
        raise error(
            "token.foreign",
            "The service at this URL is not the one that the token is for",
            why=f"the token names the CA {expected[:16]}…, the service showed {found[:16]}…",
            expected=expected[:64],
            found=found,
        )
    return certificate


def _context(protocol: int, ca: str, pair: KeyPair | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Re-encoded, so that a second certificate smuggled in behind the first is not trusted too.
    root = text.text_of(text.read_certificate(ca, "CA's certificate"))
    try:
        context.load_verify_locations(cadata=root)
        if pair is not None:
            use_pair(context, pair)
    except ssl.SSLError as cause:
        raise error("input.invalid", "A key or certificate can't be used for TLS", why=str(cause.reason)) from cause
    return context


def use_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Give `context` its own certificate, for the connections that begin from now on. Blocks for a moment.

    The ssl module takes files only: one for an instant, for us alone.

    Raises:
        UserError: `input.invalid`, if the two are not a pair.
        HostError: `storage.full`, `storage.failed`.
    """
    certificate, key = text.read_certificate(pair.certificate), text.read_key(pair.private_key)
    if not text.same_key(certificate, key):
        raise error("input.invalid", "A certificate can't be used for TLS", why="the private key is not its own")
    content = (text.text_of(certificate) + text.text_of_key(key)).encode()
    try:
        with _as_file(content) as path:
            context.load_cert_chain(path)
    except ssl.SSLError as cause:
        raise error("input.invalid", "A key or certificate can't be used for TLS", why=str(cause.reason)) from cause
    except OSError as cause:
        raise _not_kept(cause) from cause


@contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    """A path under which `content` can be read for a while."""
    if sys.platform == "linux":
        # A file in memory, without a name: whatever ends this process, no key stays on any disk, and none can be full.
        with os.fdopen(os.memfd_create("bitdew-pair", os.MFD_CLOEXEC), "wb") as file:
            file.write(content)
            file.flush()
            yield Path(f"/proc/self/fd/{file.fileno()}")
    else:
        with tempfile.TemporaryDirectory(prefix="bitdew-") as folder:  # mode 0700
            path = Path(folder, "pair.pem")
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
            yield path


def _not_kept(cause: OSError) -> BitDewError:
    full = cause.errno in {errno.ENOSPC, errno.EDQUOT}
    return error(
        "storage.full" if full else "storage.failed",
        "The key and certificate could not be handed to TLS",
        why=cause.strerror or str(cause),
        do="" if sys.platform == "linux" else "Make room in the temporary folder, or name another by TMPDIR.",
    )
