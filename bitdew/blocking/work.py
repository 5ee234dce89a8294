"""`BlockingWork` and its handles: the twins of `Work`, `Job`, `JobArray`, `Deployment` and `Machine`, through a portal.

Owns no behaviour of its own. A test holds the two sides against each other, method by method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from bitdew.core.restarting import Restart

from .deployment import BlockingDeployment
from .executor import JobExecutor
from .job import BlockingJob, BlockingJobArray

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from types import ModuleType

    from bitdew.client.dew import Dew
    from bitdew.client.submitting import JobOptions
    from bitdew.core.states import JobState
    from bitdew.wire import models as m

    from .dew import BlockingDatum
    from .portal import Portal


class BlockingWork:
    """The twin of `Work`. A part of `BlockingDew`.

    Attributes:
        twin: The connection itself, for use inside of the loop.
        portal: The way into that loop.
    """

    twin: Dew
    portal: Portal

    def submit(self, *command: str | os.PathLike[str], **options: Unpack[JobOptions]) -> BlockingJob:
        """As `Dew.submit`; the data among the inputs are named, or `BlockingDatum.twin`."""
        return BlockingJob(self.portal, self.portal.call(self.twin.submit(*command, **options)))

    def submit_each(
        self, values: Iterable[object], *command: str | os.PathLike[str], **options: Unpack[JobOptions]
    ) -> BlockingJobArray:
        """As `Dew.submit_each`."""
        return BlockingJobArray(self.portal, self.portal.call(self.twin.submit_each(values, *command, **options)))

    def job(self, uid: str) -> BlockingJob:
        """As `Dew.job`."""
        return BlockingJob(self.portal, self.portal.call(self.twin.job(uid)))

    def jobs(self, *states: JobState | str, mine: bool = True) -> Generator[BlockingJob]:
        """As `Dew.jobs`."""
        found = self.portal.each(self.twin.jobs(*states, mine=mine))
        try:
            for job in found:
                yield BlockingJob(self.portal, job)
        finally:
            found.close()

    def executor(
        self,
        *,
        python: str = "python3",
        modules: Sequence[ModuleType] = (),
        trust_results: bool = False,
        **options: Unpack[JobOptions],
    ) -> JobExecutor:
        """As `Dew.executor`: a `concurrent.futures.Executor`."""
        pool = self.twin.executor(python=python, modules=modules, trust_results=trust_results, **options)
        return JobExecutor(self.portal, pool)

    def deploy(
        self,
        disk: BlockingDatum | str,
        count: int = 1,
        *,
        memory: int | str = "256MB",
        cpus: int = 1,
        restart: Restart | str = Restart.ON_FAILURE,
        network: m.Network = "none",
        user_data: str = "",
        requires: str = "",
        ports: Mapping[int, int] | None = None,
        lifetime: str = "",
    ) -> BlockingDeployment:
        """As `Dew.deploy`."""
        work = self.twin.deploy(
            disk if isinstance(disk, str) else disk.twin,
            count,
            memory=memory,
            cpus=cpus,
            restart=restart,
            network=network,
            user_data=user_data,
            requires=requires,
            ports=ports,
            lifetime=lifetime,
        )
        return BlockingDeployment(self.portal, self.portal.call(work))

    def deployment(self, uid: str) -> BlockingDeployment:
        """As `Dew.deployment`."""
        return BlockingDeployment(self.portal, self.portal.call(self.twin.deployment(uid)))

    def deployments(self) -> list[BlockingDeployment]:
        """As `Dew.deployments`."""
        return [BlockingDeployment(self.portal, one) for one in self.portal.call(self.twin.deployments())]
