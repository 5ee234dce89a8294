"""Whether this service can do its work: asked by whoever starts it anew, or sends callers to another.

Owns what counts as well: the database answers, and the folder of the repository is there. Anybody may ask, so that an
answer serves everyone for a second.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from bitdew.core.clock import Clock
from bitdew.core.errors import BitDewError, error
from bitdew.wire.models import HealthReply

from ..catalog.leadership import Leadership
from ..catalog.repository import Repository
from .figure_store import FigureStore

log = structlog.get_logger(__name__)
PATIENCE: Final = 5.0
"""Seconds that the database has to answer, and then the repository."""
FRESH: Final = 1.0
"""Seconds for which an answer is given again."""


class Health:
    """Answers whether the service is well."""

    def __init__(self, store: FigureStore, repository: Repository, leadership: Leadership, clock: Clock) -> None:
        self._store = store
        self._repository = repository
        self._leadership = leadership
        self._clock = clock
        self._alone = asyncio.Lock()
        self._looked: float | None = None
        self._why = ""

    async def check(self) -> HealthReply:
        """That it is well.

        Raises:
            HostError: `storage.failed`, with what does not answer. Where that is, only the log says.
        """
        async with self._alone:
            now = self._clock.monotonic()
            if self._looked is None or now - self._looked >= FRESH:
                self._why = await self._ill()
                self._looked = self._clock.monotonic()
            why = self._why
        if why:
            raise error("storage.failed", "The service can't do its work", why=why, do="Read the service's log.")
        return HealthReply(leads=self._leadership.held)

    async def _ill(self) -> str:
        """What does not answer; "" if all does."""
        for what, asked in (
            ("its database", self._store.answers),
            ("its repository", self._repository.require_folder),
        ):
            try:
                async with asyncio.timeout(PATIENCE):
                    await asked()
            except (BitDewError, TimeoutError) as fault:
                log.warning("not well", what=what, why=str(fault) or f"no answer in {PATIENCE:g} s")
                return f"{what} does not answer"
        return ""
