"""`BlockingDeployment` and `BlockingMachine`: the twins of `Deployment` and `Machine`, called through a portal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitdew.client.deployment import Deployment, Machine, MachineEvent
from bitdew.wire import models as m

from .handle import BlockingHandle

if TYPE_CHECKING:
    from collections.abc import Generator

    from bitdew.core.states import MachineState


class BlockingMachine(BlockingHandle[Machine, m.MachineView]):
    """The twin of `Machine`.

    Attributes:
        twin: The machine itself, for use inside of the loop.
    """

    @property
    def state(self) -> MachineState:
        """As `Machine.state`."""
        return self.twin.state

    @property
    def host_name(self) -> str:
        """As `Machine.host_name`."""
        return self.twin.host_name

    @property
    def ports(self) -> dict[int, int]:
        """As `Machine.ports`."""
        return self.twin.ports

    def __repr__(self) -> str:
        return repr(self.twin)

    def refresh(self) -> m.MachineView:
        """As `Machine.refresh`."""
        return self._portal.call(self.twin.refresh())

    def log(self) -> str:
        """As `Machine.log`."""
        return self._portal.call(self.twin.log())

    def console(self) -> Generator[str]:
        """As `Machine.console`."""
        return self._portal.each(self.twin.console())

    def stop(self) -> None:
        """As `Machine.stop`."""
        self._portal.call(self.twin.stop())

    def pause(self) -> None:
        """As `Machine.pause`."""
        self._portal.call(self.twin.pause())

    def resume(self) -> None:
        """As `Machine.resume`."""
        self._portal.call(self.twin.resume())

    def screenshot(self) -> bytes:
        """As `Machine.screenshot`."""
        return self._portal.call(self.twin.screenshot())

    def snapshot(self, name: str | None = None) -> None:
        """As `Machine.snapshot`."""
        self._portal.call(self.twin.snapshot(name))

    def restore(self, name: str) -> BlockingMachine:
        """As `Machine.restore`."""
        return BlockingMachine(self._portal, self._portal.call(self.twin.restore(name)))


class BlockingDeployment(BlockingHandle[Deployment, m.DeploymentView]):
    """The twin of `Deployment`; `running` is what awaiting that one is.

    Attributes:
        twin: The deployment itself, for use inside of the loop.
    """

    @property
    def disk(self) -> str:
        """As `Deployment.disk`."""
        return self.twin.disk

    @property
    def count(self) -> int:
        """As `Deployment.count`."""
        return self.twin.count

    @property
    def machines(self) -> list[BlockingMachine]:
        """As `Deployment.machines`."""
        return [BlockingMachine(self._portal, one) for one in self.twin.machines]

    def __repr__(self) -> str:
        return repr(self.twin)

    def running(self, machines: int | None = None, *, timeout: float | None = None) -> list[BlockingMachine]:
        """As `Deployment.running`."""
        found = self._portal.call(self.twin.running(machines, timeout=timeout))
        return [BlockingMachine(self._portal, one) for one in found]

    def stopped(self, *, timeout: float | None = None) -> None:
        """As `Deployment.stopped`."""
        self._portal.call(self.twin.stopped(timeout=timeout))

    def events(self) -> Generator[MachineEvent]:
        """As `Deployment.events`."""
        return self._portal.each(self.twin.events())

    def refresh(self) -> m.DeploymentView:
        """As `Deployment.refresh`."""
        return self._portal.call(self.twin.refresh())

    def explain(self) -> m.DeploymentExplanation:
        """As `Deployment.explain`."""
        return self._portal.call(self.twin.explain())

    def scale(self, count: int) -> None:
        """As `Deployment.scale`."""
        self._portal.call(self.twin.scale(count))

    def stop(self) -> None:
        """As `Deployment.stop`."""
        self._portal.call(self.twin.stop())

    def remove(self) -> None:
        """As `Deployment.remove`."""
        self._portal.call(self.twin.remove())
