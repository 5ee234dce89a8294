"""Models of files that people put for their own jobs to read."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from . import limits
from .content import HeldContent
from .model import Model, RootText, Size, UidText


class JobInputRequest(Model):
    """The wish to put bytes for jobs of one's own, or to go on with it."""

    label: Annotated[str, Field(max_length=255)]
    """What the file is called, for people."""
    root: RootText
    """What the sender knows the bytes to be."""
    size: Size
    fingerprint: Annotated[str, Field(pattern=r"^(?:[0-9a-f]{64})?$")] = ""
    """As in an upload."""
    empty: Size = 0
    """As in an upload."""
    raw: Annotated[bytes, Field(max_length=limits.SMALL)] | None = None
    """All the bytes, where they are few: then no upload follows."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.raw is not None and len(self.raw) != self.size:
            raise ValueError("there are not as many bytes as it says")
        return self


class JobInputReply(Model):
    """The datum, where it is there already; or where its bytes go."""

    data: UidText | None = None
    upload: UidText | None = None
    held: Annotated[list[HeldContent], Field(max_length=limits.HELD)] = Field(default_factory=list)
    """As in an upload's reply."""


class JobInputDone(Model):
    """The upload is complete: it is to be an input."""

    root: RootText
