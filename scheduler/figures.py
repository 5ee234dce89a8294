"""The service in figures, as Prometheus reads them.

Owns the list of figures: their names, what each means, and how it is taken. What is written into the text is the
client library's matter. A reading serves whoever asks within five seconds, so that several who watch cost no more than
one. Figures of what is stored are the same from every service of a database; the rest is this process's own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from bitdew import __version__
from bitdew.core.states import HostState
from bitdew.trust.authority import Authority
from bitdew.wire.server import TextReply

from ..catalog.leadership import Leadership
from ..catalog.repository import Repository
from .engine import Engine
from .figure_store import FigureStore
from .known import Known

FRESH: Final = 5.0
"""Seconds for which a reading is given again."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        name: What it is called.
        meaning: What it tells, with its unit.
        label: What tells its series apart; "" if it has one alone.
        grows: Whether it only grows, from 0 at the start of the process.
        of_all: Whether every service of a database says the same.
    """

    name: str
    meaning: str
    label: str = ""
    grows: bool = False
    of_all: bool = False


FIGURES: Final = (
    Figure("bitdew_version", "1, with the release that runs.", "version"),
    Figure("bitdew_leads", "1 if this service plans; one of those on a database does."),
    Figure("bitdew_hosts", "Hosts that ever joined, by state.", "state", of_all=True),
    Figure("bitdew_data", "Living data, disks among them.", of_all=True),
    Figure("bitdew_data_bytes", "Bytes of living data, each datum once.", of_all=True),
    Figure("bitdew_data_awaited", "Living data whose bytes have not come yet.", of_all=True),
    Figure("bitdew_data_damaged", "Living data whose file in the repository is damaged.", of_all=True),
    Figure("bitdew_data_waiting", "Data that miss a copy and wait for a host; 0 where this service does not plan."),
    Figure("bitdew_repairs_waiting", "Data whose repair waits for its turn; 0 where this service does not plan."),
    Figure("bitdew_copies", "Placements, by state; those that are gone are left out.", "state", of_all=True),
    Figure("bitdew_machines", "Machines, by state, until they are forgotten.", "state", of_all=True),
    Figure("bitdew_jobs", "Jobs, by state.", "state", of_all=True),
    Figure("bitdew_jobs_longest_wait_seconds", "How long the job has waited that waits longest.", of_all=True),
    Figure("bitdew_orders_open", "Orders that no host has shown done.", of_all=True),
    Figure("bitdew_repository_free_bytes", "Room left on the repository's file system."),
    Figure("bitdew_repository_contents", "Contents that this service seeds."),
    Figure("bitdew_repository_peers", "Hosts that are connected to the repository's swarms."),
    Figure("bitdew_repository_uploads", "Uploads that are under way."),
    Figure("bitdew_repository_sent_bytes", "Payload bytes that left the repository.", grows=True),
    Figure("bitdew_authority_expires_seconds", "When the CA's certificate ends, in seconds since 1970.", of_all=True),
)
Values = Mapping[str, Mapping[str, float]]
"""For each figure its series: by the value of its label, or by ""."""


class Figures:
    """Reads the figures."""

    def __init__(
        self,
        known: Known,
        engine: Engine,
        leadership: Leadership,
        repository: Repository,
        authority: Authority,
        store: FigureStore,
    ) -> None:
        self._known = known
        self._engine = engine
        self._leadership = leadership
        self._repository = repository
        self._authority = authority
        self._store = store
        self._alone = asyncio.Lock()
        self._reading: tuple[float, str] | None = None

    async def text(self) -> TextReply:
        """All figures, and the process's own: its processor time, memory, files and start.

        Raises:
            HostError: `storage.failed`.
        """
        async with self._alone:
            now = self._known.clock.monotonic()
            if self._reading is None or now - self._reading[0] >= FRESH:
                values = await self.values()
                self._reading = now, await asyncio.to_thread(written, values)
            return TextReply(self._reading[1], CONTENT_TYPE_LATEST)

    async def values(self) -> Values:
        """Every figure as it is now.

        Raises:
            HostError: `storage.failed`.
        """
        counted, free = await self._store.count(), await self._repository.free()
        leads, agenda, repository = self._leadership.held, self._engine.agenda, self._repository
        hosts = Counter(record.state for record in self._known.hosts.records().values())
        since = counted.queued_since
        waited = 0.0 if since is None else max(0.0, (self._known.clock.now() - since).total_seconds())
        alone: dict[str, float] = {
            "bitdew_leads": leads,
            "bitdew_data": counted.data,
            "bitdew_data_bytes": counted.size,
            "bitdew_data_awaited": counted.awaited,
            "bitdew_data_damaged": counted.damaged,
            "bitdew_data_waiting": len(agenda) if leads else 0,
            "bitdew_repairs_waiting": agenda.held_back if leads else 0,
            "bitdew_jobs_longest_wait_seconds": waited,
            "bitdew_orders_open": counted.orders,
            "bitdew_repository_free_bytes": free,
            "bitdew_repository_contents": len(repository.seeded()),
            "bitdew_repository_peers": repository.peers,
            "bitdew_repository_uploads": len(repository.uploads.under_way),
            "bitdew_repository_sent_bytes": repository.sent,
            "bitdew_authority_expires_seconds": self._authority.expires.timestamp(),
        }
        return {
            "bitdew_version": {__version__: 1},
            "bitdew_hosts": {str(state): hosts[state] for state in HostState},
            "bitdew_copies": counted.copies,
            "bitdew_machines": counted.machines,
            "bitdew_jobs": counted.jobs,
            **{name: {"": value} for name, value in alone.items()},
        }


class _Reading(Collector):
    """One reading, as the library wants to be given it."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def collect(self) -> Iterator[Metric]:
        for figure in FIGURES:
            kind = CounterMetricFamily if figure.grows else GaugeMetricFamily
            family = kind(figure.name, figure.meaning, labels=[figure.label] if figure.label else [])
            for label, value in self._values[figure.name].items():
                family.add_metric([label] if figure.label else [], float(value))
            yield family


def written(values: Values) -> str:
    """`values` and the process's own figures in Prometheus' format. Blocks: it reads files of the kernel."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reading(values))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()
