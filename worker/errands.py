"""Errands: what this host is asked to do once with a machine of its own, and the word of what came of it.

Owns an errand from its order to the service's receipt. An errand that a restart of the worker cut off is told to have
been interrupted, and not begun again: whoever asked has stopped waiting. It must not touch a machine itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.wire.models import ErrandReport, ErrorView, Nothing

from .link import patiently

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from bitdew.wire.models import Order

    from .journal import Journal
    from .link import ServiceLink
    from .machines import Machines

log = structlog.get_logger(__name__)


class Errands:
    """All errands of this host that are not done with."""

    def __init__(self, machines: Machines, link: ServiceLink, journal: Journal) -> None:
        self._machines = machines
        self._link = link
        self._journal = journal
        self._tasks: asyncio.TaskGroup | None = None

    def resume(self, orders: Iterable[Order], tasks: asyncio.TaskGroup) -> None:
        """Say of the errands that an earlier life of this worker left that they were interrupted."""
        self._tasks = tasks
        fault = error("interrupted", "The worker was started anew meanwhile", do="Ask again.")
        for order in orders:
            self._begin(order, ErrandReport(reason=ErrorView.of(fault)))

    def apply(self, order: Order) -> None:
        """Do what `order` asks, and tell what came of it."""
        self._begin(order, None)

    def _begin(self, order: Order, report: ErrandReport | None) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._run(order, report), name=f"errand {order.subject[:8]}")

    async def _run(self, order: Order, report: ErrandReport | None) -> None:
        report = report or await self._done(order)
        try:
            await patiently(
                lambda: self._link.call("POST", f"/v1/errands/{order.subject}/result", Nothing, body=report)
            )
        except BitDewError as fault:
            log.info("nobody wants to know what came of an errand", errand=order.subject, why=str(fault))
        await self._journal.forget_errand(order.subject, order.generation)

    async def _done(self, order: Order) -> ErrandReport:
        errand = order.errand
        if errand is None:
            return ErrandReport(reason=ErrorView(key="input.invalid", message="The order does not say what to do"))
        try:
            return ErrandReport(picture=await self._machines.attend(errand.machine, errand.kind, errand.name))
        except BitDewError as fault:
            return ErrandReport(reason=ErrorView.of(fault))
        except Exception as fault:
            log.exception("defect", errand=order.subject, key="internal")
            return ErrandReport(reason=ErrorView(key="internal", message="It failed", why=type(fault).__name__))
