"""What the tests of jobs share: scripted hosts that run jobs as a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bitdew.client.grid import BitDew
from bitdew.core.content import ContentHasher
from bitdew.core.job import JobSpec
from bitdew.core.orders import OrderKind
from bitdew.core.states import RunState
from bitdew.testing.grid import Grid
from bitdew.wire import models as m

from ..conftest import MakeHost, ScriptedHost

SPEC = JobSpec(("root", "-b", "fit.C"), needs=("root>=6.30",), outputs=("*.root",))


class JobHost:
    """A host that takes jobs, and says of its runs what a test writes."""

    def __init__(self, host: ScriptedHost) -> None:
        self.host = host

    async def run(self) -> m.Order:
        """The next order to run something."""
        return await self.host.order(OrderKind.RUN)

    async def say(self, run: str, state: RunState | str, **says: Any) -> m.RunReply:
        """How a run stands."""
        report = m.RunReport.model_validate({"state": state, **says})
        return await self.host.line.call("POST", f"/v1/runs/{run}", m.RunReply, body=report)

    async def claim(self, run: str, outputs: dict[str, bytes], **says: Any) -> m.RunReply:
        """That the command ended well, and what it left."""
        found = [{"path": path, "root": root_of(raw), "size": len(raw)} for path, raw in outputs.items()]
        return await self.say(run, "storing", exit_code=0, outputs=found, **says)

    async def hand_over(self, run: str, path: str, raw: bytes) -> m.OutputKept:
        """Upload an output."""
        line, body = self.host.line, m.OutputRequest(path=path)
        begun = await line.call("POST", f"/v1/runs/{run}/outputs", m.UploadReply, body=body)

        async def chunks() -> AsyncIterator[bytes]:
            yield raw

        await line.call("PUT", f"/v1/uploads/{begun.upload}", m.UploadDone, body=chunks())
        return await line.call("POST", f"/v1/runs/{run}/outputs/{begun.upload}", m.OutputKept, body=body)

    async def do(self, outputs: dict[str, bytes] | None = None) -> m.Order:
        """Carry out the next run, to its end."""
        order = await self.run()
        for state in ("staging", "running"):
            await self.say(order.subject, state)
        outputs = {"fit.root": b"fitted"} if outputs is None else outputs
        assert (await self.claim(order.subject, outputs)).verdict == "store"
        for path, raw in outputs.items():
            await self.hand_over(order.subject, path, raw)
        assert not (await self.say(order.subject, "done")).wanted
        return order


def root_of(raw: bytes) -> str:
    """The root of these bytes, as a datum's."""
    hasher = ContentHasher(len(raw))
    hasher.update(raw)
    return hasher.finish().root


MakeJobHost = Callable[..., Awaitable[JobHost]]


@pytest.fixture
def job_host(make_host: MakeHost) -> MakeJobHost:
    """Enrols a host that shares ROOT and takes jobs."""

    async def make(name: str = "pc", **says: Any) -> JobHost:
        sharings = [{"name": "root", "version": "6.40.00"}]
        return JobHost(await make_host(name, **{"sharings": sharings, "programs": ["root"], **says}))

    return make


@pytest.fixture
def client(grid: Grid) -> BitDew:
    """The operator's client."""
    return grid.client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where results are brought to."""
    return tmp_path / "results"
