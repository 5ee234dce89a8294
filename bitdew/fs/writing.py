"""A datum that is written: kept on this machine until it is closed, and put then as a whole.

Owns the temporary file. A datum never changes: what is closed is made, and nothing else.
"""

from __future__ import annotations

import io
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from bitdew.blocking.dew import BlockingDew
    from bitdew.core.attribute import Attribute


class WrittenFile(io.BufferedIOBase):
    """What is written to it becomes the datum `name` when it is closed in order; nothing, when its block fails."""

    def __init__(self, dew: BlockingDew, name: str, attribute: Attribute | str | None) -> None:
        """Nothing is sent yet."""
        self._dew, self._name, self._attribute = dew, name, attribute
        self._file = tempfile.TemporaryFile(prefix="bitdew-written-")  # noqa: SIM115 (`close` ends it)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, raw: Any) -> int:
        """Add bytes."""
        return self._file.write(raw)

    def tell(self) -> int:
        """How many were written."""
        return self._file.tell()

    def discard(self) -> None:
        """Close it, and make nothing of it."""
        self._file.close()
        super().close()

    def close(self) -> None:
        """Make the datum. Raises what `Dew.put` raises."""
        if self.closed:
            return
        try:
            if not self._file.closed:
                self._file.seek(0)
                chunks = iter(lambda: self._file.read(2**20), b"")
                self._dew.put(chunks, self._attribute, name=self._name)
        finally:
            self._file.close()
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if fault is None:
            self.close()
        else:
            self.discard()
