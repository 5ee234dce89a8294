"""Models of bytes and what proves them: uploads, signed records, what a swarm begins with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bitdew.core.data import SignedRecord

from . import limits
from .attributes import Choice
from .model import EndpointText, Model, NameText, PemText, RootText, Size, UidText


class UploadRequest(Model):
    """The wish to upload a file's bytes for a datum of this name."""

    name: NameText
    size: Size
    attribute: Choice | None = None
    """What the datum is to be given: what is wrong with it is told before a byte is sent."""


class UploadReply(Model):
    """Where the bytes go."""

    upload: UidText


class UploadDone(Model):
    """What the service received."""

    root: RootText
    size: Size


class RecordModel(Model):
    """A signed image record on the wire."""

    payload: Annotated[bytes, Field(max_length=limits.RECORD)]
    signature: Annotated[bytes, Field(max_length=1024)]
    certificate: PemText

    @classmethod
    def of(cls, signed: SignedRecord) -> RecordModel:
        """The model of `signed`."""
        return cls(payload=signed.payload, signature=signed.signature, certificate=signed.certificate)

    def to_signed(self) -> SignedRecord:
        """The record as the rooms use it."""
        return SignedRecord(self.payload, self.signature, self.certificate)


class MetainfoReply(Model):
    """The .torrent that a worker needs to join the swarm of some content."""

    metainfo: Annotated[bytes, Field(max_length=limits.BODY)]


class AnnounceRequest(Model):
    """Who else has, or is fetching, this content?"""

    root: RootText


class AnnounceReply(Model):
    """Peers: those who hold it first, the repository last."""

    peers: list[EndpointText] = Field(max_length=limits.PEERS)
