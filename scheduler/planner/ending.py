"""The policies about data whose life is over: it ends, and its copies go. Not while a machine runs from one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bitdew.core.states import INTENDED, PlacementState

from .actions import Drop, Expire
from .counting import retry_time
from .ledger import Ledger

_DROPPABLE: Final = INTENDED | {PlacementState.HELD, PlacementState.FAILED, PlacementState.LOST}


def expire_ended(ledger: Ledger) -> Iterator[Expire]:
    """End the lives that are over, unless a machine runs from the datum. Its copies go with the next plan."""
    for uid, datum in ledger.data_in_order():
        if datum.alive and (why := ledger.over(uid)) and not ledger.runs_machines(uid):
            yield Expire(uid, f"{datum.data.name} ends: {why}")


def drop_dead_data(ledger: Ledger) -> Iterator[Drop]:
    """Take data that live no more off every host, as soon as no machine runs from the copy."""
    for uid, datum in ledger.data_in_order():
        if datum.alive:
            continue
        name, over = datum.data.name, ledger.over(uid)
        cause = f"{name} ended: {over}" if over else f"{name} was removed by its owner"
        for host_id, row in ledger.copies(uid).items():
            waits = row.state is PlacementState.FAILED and retry_time(row, ledger.settings) > ledger.now
            if row.state in _DROPPABLE and not waits and not ledger.in_use(uid, host_id):
                yield Drop(uid, host_id, cause)
