"""Models of origins: who offers a datum's bytes from where they are, with no copy in the repository."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from . import limits
from .attributes import Choice
from .content import RecordModel
from .model import EndpointText, Model, PemText, UidText


class OriginRequest(Model):
    """An offer of a datum's bytes, or the word that it still stands."""

    swarm: EndpointText
    """Where the publisher's swarm listens, as hosts can reach it."""
    metainfo: Annotated[bytes, Field(max_length=limits.METAINFO)] | None = None
    """The .torrent of the bytes; only with the first request, and with those after one that failed."""


class OriginReply(Model):
    """The offer is known."""

    seconds: float
    """Without another word for so long, the publisher counts as gone."""


class SwarmRequest(Model):
    """A request for a certificate with which to exchange pieces."""

    swarm_csr: PemText


class SwarmReply(Model):
    """The certificate: short-lived, so that whoever is revoked is soon out of every swarm."""

    swarm: PemText


class DescribedDiskRequest(Model):
    """A disk whose bytes its publisher will offer: a signed record and wishes."""

    record: RecordModel
    attribute: Choice = Field(default_factory=dict)


class DescribedDisk(Model):
    """What was made of it."""

    uid: UidText
