"""What the catalog holds: records of data, their wishes and their bytes, and the rooms that look after each."""

from __future__ import annotations

from dataclasses import dataclass

from bitdew.core.clock import Clock

from .attributes import Attributes
from .contents import Contents
from .data import DataRoom
from .data_store import DataStore


@dataclass(frozen=True, slots=True)
class Holdings:
    """The parts that whoever makes data of bytes has in common.

    Whoever makes one of bytes that are here holds `attributes.linking` and `contents.changing` meanwhile, in this
    order, and tells `data.changed` of it afterwards.

    Attributes:
        store: Stored data.
        data: Creates, finds and ends data.
        attributes: The wishes that data have.
        contents: Which bytes are here, and whose they are.
        clock: Everyone's.
    """

    store: DataStore
    data: DataRoom
    attributes: Attributes
    contents: Contents
    clock: Clock
