"""The volunteer's caps on single data, and what they come to for a content.

Owns which data want which content, by their names. A cap goes by a datum's name or uid; a content that several data
want is under the tightest of theirs. It must not apply anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bitdew.swarm.settings import TransferLimits

NONE = TransferLimits()


class DataCaps:
    """What each content of this host may use."""

    def __init__(self, caps: Mapping[str, TransferLimits]) -> None:
        """`caps` go by name or uid."""
        self._caps = dict(caps)
        self._wanted: dict[str, dict[str, str]] = {}

    def replace(self, caps: Mapping[str, TransferLimits]) -> list[str]:
        """Take `caps` instead of those before; the contents for which something changed."""
        before = {root: self.of(root) for root in self._wanted}
        self._caps = dict(caps)
        return [root for root, limits in before.items() if self.of(root) != limits]

    def want(self, root: str, uid: str, name: str) -> None:
        """The datum `uid`, called `name`, wants the content `root`."""
        self._wanted.setdefault(root, {})[uid] = name

    def release(self, root: str, uid: str) -> None:
        """It wants it no more."""
        wanted = self._wanted.get(root, {})
        wanted.pop(uid, None)
        if not wanted:
            self._wanted.pop(root, None)

    def of(self, root: str) -> TransferLimits:
        """The tightest caps of the data that want `root`."""
        names = self._wanted.get(root, {})
        found = [self._caps[key] for pair in names.items() for key in pair if key in self._caps]
        return TransferLimits(
            upload=tightest(limits.upload for limits in found),
            download=tightest(limits.download for limits in found),
            connections=tightest(limits.connections for limits in found),
        )


def tightest(caps: Iterable[int]) -> int:
    """The least of `caps` that is one; 0 if none is."""
    return min((cap for cap in caps if cap), default=0)
