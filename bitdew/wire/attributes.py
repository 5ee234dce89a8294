"""Models of attributes: the named sets of wishes that people attach to data."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from . import limits
from .model import Model, NameText, UidText

Wishes = Annotated[dict[Annotated[str, Field(max_length=64)], Any], Field(max_length=limits.WISHES)]
"""Wishes under the keys of the command line. What they may be is for the core's `Attribute` to say."""

Choice = NameText | Wishes
"""An attribute as people give it: the name of one that is defined, or wishes without a name."""


class AttributeRequest(Model):
    """The wishes to keep under a name."""

    wishes: Wishes = Field(default_factory=dict)
    replace: bool = True
    """Whether an attribute that has this name already gets these wishes; else the name has to be free."""


class AttributeNamesRequest(Model):
    """Data whose attributes' names are asked for."""

    data: Annotated[list[UidText], Field(max_length=limits.PLACEMENTS)]


class AttributeNamesReply(Model):
    """What these data's attributes are called, by the data's uids: "" without a name. Data that ended are left out."""

    names: dict[UidText, str]


class AttributeChoice(Model):
    """Another attribute for a datum."""

    attribute: Choice


class AttributeView(Model):
    """An attribute as people see it."""

    uid: UidText
    name: str | None
    """None for wishes that were given without a name."""
    wishes: dict[str, Any]
    affinity_data: UidText | None = None
    """The datum that its affinity names, as it was when the wishes were given."""
    affinity_attribute: UidText | None = None
    lifetime_data: UidText | None = None
    """The datum with which data of this attribute end."""
    pins: list[UidText] = Field(default_factory=list)
    """The hosts that it pins to, by their ids."""
    owner: str
    created: datetime
    changed: datetime
    version: int
    """1 when it was defined, one more with each change."""
    data: int
    """Living data that have it."""


class AttributeList(Model):
    """All attributes that have a name, by it."""

    attributes: list[AttributeView]
