"""Models of bytes and what proves them: uploads, signed records, what a swarm begins with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bitdew.core.data import Kind, SignedRecord

from . import limits
from .attributes import Choice
from .model import EndpointText, Model, NameText, PemText, RootText, Size, UidText


class UploadRequest(Model):
    """The wish to upload bytes for a datum of this name, or to go on with one that was begun with the same words."""

    name: NameText
    size: Size
    disk: bool = False
    """Whether it is to be a disk."""
    fingerprint: Annotated[str, Field(pattern=r"^(?:[0-9a-f]{64})?$")] = ""
    """What the sender knows these very bytes by. Without one the upload can't be found again."""
    empty: Size = 0
    """Bytes that the sender knows to be zeros, and is not going to send."""
    attribute: Choice | None = None
    """What the datum is to be given: what is wrong with it is told before a byte is sent."""


class HeldContent(Model):
    """A content that the repository has already, and what tells it from others of its size."""

    root: RootText
    samples: Annotated[bytes, Field(max_length=32 * limits.SAMPLES)]
    """The roots of the pieces that `sampled` names, 32 bytes each."""


class UploadReply(Model):
    """Where the bytes go."""

    upload: UidText
    held: Annotated[list[HeldContent], Field(max_length=limits.HELD)] = Field(default_factory=list)
    """Contents of the very size that are there: if it is one of them, nothing has to be sent."""


class UploadView(Model):
    """An upload under way."""

    upload: UidText
    name: NameText
    size: Size
    there: list[tuple[Size, Size]]
    """The ranges of bytes that have come and stay: each the first byte, and the one behind the last."""


class PartDone(Model):
    """One part is there, and stays."""

    there: Size
    """Bytes of the whole upload that are."""


class CompleteRequest(Model):
    """All was sent: what was not is zeros."""

    root: RootText
    """What the sender read. The service computes its own, and refuses if they differ."""
    held: bool = False
    """Whether the repository is known to have it: then nothing was sent."""


class PutRequest(Model):
    """A datum: the bytes of an upload, under its name, and wishes."""

    kind: Kind = Kind.FILE
    attribute: Choice = Field(default_factory=dict)


class WholeRequest(Model):
    """A small datum with all its bytes: what is one request for them, and would be five by an upload."""

    name: NameText
    root: RootText
    """What the sender knows the bytes to be."""
    raw: Annotated[bytes, Field(max_length=limits.SMALL)]
    kind: Kind = Kind.FILE
    attribute: Choice = Field(default_factory=dict)


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


class SketchReply(Model):
    """What tells whether some content resembles another, see `bitdew.core.blocks`."""

    sketch: Annotated[bytes, Field(max_length=limits.SKETCH)]


class AnnounceRequest(Model):
    """Who else has, or is fetching, this content?"""

    root: RootText


class PeersReply(Model):
    """Who has all of a datum and can be dialled now: its publisher first."""

    peers: list[EndpointText] = Field(max_length=limits.PEERS)


class DoubtRequest(Model):
    """The repository sent a piece of a datum wrong, or could not send it: it should look at its copy."""

    piece: Annotated[int, Field(ge=0, le=2**31 - 1)]


class DoubtReply(Model):
    """Whether that piece of the repository's copy is bad; it is withdrawn then, and mended."""

    bad: bool


class AnnounceReply(Model):
    """Peers: those at the asking host's site first, the repository last."""

    peers: list[EndpointText] = Field(max_length=limits.PEERS)
