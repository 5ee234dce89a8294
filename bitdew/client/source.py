"""What is published: bytes of a known number that can be read at any place, and are watched for changes.

Owns the contract between what lies on this machine and whatever reads, identifies and sends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class ByteSource(Protocol):
    """Bytes to publish. All of its methods block, and may be called from several threads at once."""

    @property
    def label(self) -> str:
        """What people call it: a path."""

    @property
    def size(self) -> int:
        """Its bytes when it was opened."""

    @property
    def fingerprint(self) -> str:
        """What it is as far as that can be told without reading it, in 64 hexadecimal digits.

        Sending that broke off goes on where a source has the same one. If nothing can be told: the empty text.
        """

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly the `length` bytes from `offset` on.

        Raises:
            UserError: `disk.changed`, if there are fewer. HostError: `storage.failed`.
        """

    def holes(self) -> Sequence[tuple[int, int]]:
        """The ranges that are known to be zero without reading: each its first byte, and the one behind it, in order.

        They may be fewer than there are.
        """

    def check_unchanged(self) -> None:
        """Look whether the bytes read may be of several states of what lies there.

        Raises:
            UserError: `disk.changed`.
        """

    def close(self) -> None:
        """Let go of it. Nothing may be reading it any more."""
