"""The page about deciding shows a true answer of `bitdew explain`, and the planner's policies and figures."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from bitdew.scheduler.planner import PlannerSettings
from bitdew.scheduler.planner.policies import POLICIES
from rich.console import Console

from bitdew.cli.data_views import explained
from bitdew.core.orders import OrderKind
from bitdew.core.requirement import Requirement
from bitdew.core.states import HostState, PlacementState
from bitdew.testing.grid import Grid

PAGE = (Path(__file__).parents[2] / "docs/deciding.md").read_text()
GB = 2**30
MB = 2**20
P = PlacementState
Until = Callable[..., Awaitable[Any]]


@pytest.fixture
async def grid() -> AsyncIterator[Grid]:
    """A service without workers, with the planner's figures as they are."""
    async with Grid(0, planner=PlannerSettings()) as grid:
        yield grid


def printed(reply: Any) -> list[str]:
    """The lines of an explanation for people, without what spaces its columns."""
    out = io.StringIO()
    console = Console(file=out, width=200, markup=False, highlight=False)
    for part in explained(reply):
        console.print(part)
    return plain(out.getvalue())


def plain(text: str) -> list[str]:
    """The lines of `text` with instants taken out."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "INSTANT", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


async def test_the_answer_on_the_page_is_what_explain_says(grid: Grid, make_host, add_disk, until: Until) -> None:
    async def is_(name: str, state: HostState) -> bool:
        return (await grid.client.host(name)).state is state

    lent = {"memory": 8 * GB, "quota": 100 * GB, "free": 100 * GB}
    pc1 = await make_host("pc1", **lent, labels={"site": "orsay"})
    pc2 = await make_host("pc2", **lent, labels={"site": "lyon"})
    pc3 = await make_host("pc3", **lent, labels={"site": "nantes"})
    wishes = {"replica": 3, "fault_tolerance": True, "spread": "site", "requires": Requirement("memory >= 4GB")}
    await add_disk("hep", size=64 * MB, **wishes)
    await pc1.take()
    await pc2.take()
    order = await pc3.order(OrderKind.PLACE)
    await pc3.tell(pc3.copy(order, P.FETCHING, done=16 * MB))
    pc4 = await make_host("pc4", **lent, labels={"site": "orsay"})
    pc5 = await make_host("pc5", **lent | {"memory": 2 * GB}, labels={"site": "lille"})
    pc6 = await make_host("pc6", **lent | {"quota": 50 * MB}, labels={"site": "nice"})

    async def pc2_is_lost() -> bool:
        for host in (pc1, pc4, pc5, pc6):
            await host.sync()
        await pc3.tell(pc3.copy(order, P.FETCHING, done=16 * MB))
        grid.clock.skip(5)
        return await is_("pc2", HostState.LOST)

    await until(pc2_is_lost)
    answer = re.search(r"^```console\n\$ bitdew explain hep\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert answer
    assert printed(await grid.client.explain("hep")) == plain(answer[1])


def test_the_page_names_every_policy_in_the_order_in_which_they_are_asked() -> None:
    table = PAGE.partition("## Who suggests")[2].partition("\n## ")[0]
    named = [policy.__name__ for policy in POLICIES]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == named


def test_the_page_has_the_planners_figures() -> None:
    table = PAGE.partition("## Its figures")[2]
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE))
    planner = PlannerSettings()
    seconds = {
        "lease": planner.lease,
        "grace": planner.grace,
        "settle": planner.settle,
        "retry_first": planner.retry_first,
        "retry_most": planner.retry_most,
        "repair_pause": planner.repair_pause,
    }
    figures = {name: f"{value.total_seconds():g} s" for name, value in seconds.items()}
    figures |= {
        "repairs_per_round": str(planner.repairs_per_round),
        "reserve": f"{planner.reserve // MB} MiB",
    }
    assert {name: value.strip() for name, value in told.items()} == figures
