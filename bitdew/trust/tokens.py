"""Join tokens: one shell-safe word that lets a machine find, recognise and join a service.

Owns the word's form. Roles, counts, expiry and storage of tokens are the catalog's matter.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from bitdew.core.errors import BitDewError, error

PREFIX: Final = "bitdew-join-"
_VERSION: Final = 1
_SECRET: Final = 32
_FINGERPRINT: Final = 32
_CHECKSUM: Final = 4
# 1 + 32 + 32 + 4 = 69 bytes fill 92 characters without a spare bit, so that one token has exactly one spelling.
_WORD: Final = re.compile(re.escape(PREFIX) + r"([A-Za-z0-9_-]{92})")
_HEX: Final = re.compile(r"[0-9a-f]{64}")


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(PREFIX.encode() + body).digest()[:_CHECKSUM]


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What an operator hands to whoever may join.

    Attributes:
        secret: 256 random bits, hexadecimal: what the service asks for. Kept out of `repr`, so out of logs.
        fingerprint: SHA-256 of the certificate of the service's CA, hexadecimal: how the joining side knows, before
            it sends the secret, that it talks to the right service.
    """

    secret: str = field(repr=False)
    fingerprint: str

    def __post_init__(self) -> None:
        """Raises UserError `token.invalid` unless both parts are 64 hexadecimal digits."""
        if not (_HEX.fullmatch(self.secret) and _HEX.fullmatch(self.fingerprint)):
            raise error("token.invalid", "A token's parts must be 64 hexadecimal digits each")

    @classmethod
    def mint(cls, fingerprint: str) -> JoinToken:
        """A fresh token for the service whose CA has `fingerprint`.

        Raises:
            UserError: `token.invalid`, if that is no fingerprint.
        """
        return cls(secrets.token_bytes(_SECRET).hex(), fingerprint)

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """The token that was written as `str` gives it; blanks around it are ignored.

        A mistyped or truncated word is told apart here, before anything is sent: its checksum does not hold (one of
        2^32 random changes would pass, and then no service knows the secret).

        Raises:
            UserError: `token.invalid`.
        """
        word = text.strip()
        if not word.startswith(PREFIX):
            raise _invalid(f"it does not begin with {PREFIX}")
        match = _WORD.fullmatch(word)
        if not match:
            raise _invalid(f"it is not {len(PREFIX)} + 92 letters, digits, '-' or '_': {len(word)} characters came")
        raw = base64.urlsafe_b64decode(match[1])
        body, checksum = raw[:-_CHECKSUM], raw[-_CHECKSUM:]
        if checksum != _checksum(body):
            raise _invalid("its checksum does not hold: a character was changed")
        if body[0] != _VERSION:
            raise _invalid(f"it is of version {body[0]}, and this release knows version {_VERSION}")
        return cls(body[1 : 1 + _SECRET].hex(), body[1 + _SECRET :].hex())

    def __str__(self) -> str:
        body = bytes([_VERSION]) + bytes.fromhex(self.secret) + bytes.fromhex(self.fingerprint)
        return PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).decode("ascii")


def _invalid(why: str) -> BitDewError:
    return error("token.invalid", "This is not a whole join token", why=why)


def secret_digest(secret: str) -> str:
    """What the service stores of a secret: its SHA-256, hexadecimal.

    A slow password hash would add nothing: 256 random bits can't be guessed, however fast each guess is.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same_secret(secret: str, digest: str) -> bool:
    """Whether `digest` is that of `secret`, in a time that does not tell how much of it is right."""
    return hmac.compare_digest(secret_digest(secret).encode(), digest.encode("utf-8", "surrogatepass"))
