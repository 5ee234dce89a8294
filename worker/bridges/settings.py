"""What a host's owner says of the bridges: whom each leads to, and what it tells.

Owns the shapes, and what in them is possible. It must not call anybody.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bitdew.core.errors import BitDewError
from bitdew.wire import limits
from bitdew.wire.door import door_url

from ..plugins.selection import Selection

UrlText = Annotated[str, Field(max_length=limits.URL)]
Word = Annotated[str, Field(max_length=limits.COMMAND_WORD, pattern=r"^[^\x00]*$")]


def _absolute(path: str) -> str:
    if not PurePath(path).is_absolute():
        raise ValueError(f"{path[:200]!r} is not an absolute path")
    return path


PathText = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]+$"), AfterValidator(_absolute)]


def _checked_url(text: str, *, elsewhere: bool = False) -> None:
    try:
        door_url(text, plain_elsewhere=elsewhere)
    except BitDewError as fault:
        raise ValueError(f"{fault.message}: {fault.why or fault.do}") from None


class _Bridge(BaseModel):
    """What all bridges have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    only: Selection = Field(default_factory=Selection)
    """Which copies it tells of."""


class XwhepBridge(_Bridge):
    """To the local HTTP door of an XtremWeb-HEP worker."""

    kind: Literal["xwhep"] = "xwhep"
    url: UrlText
    """Where the door is: `/shareddata` is asked for below it."""
    again: Annotated[float, Field(ge=1, le=86400, allow_inf_nan=False)] = 30.0
    """Seconds after which the whole truth is told again: what the door remembers can't be read."""
    elsewhere: bool = False
    """Whether the door may be on another machine, where anybody on the way could change what it is told."""

    @model_validator(mode="after")
    def _possible(self) -> XwhepBridge:
        _checked_url(self.url, elsewhere=self.elsewhere)
        return self

    @property
    def target(self) -> str:
        """Whom it leads to, for people."""
        return self.url


class WebhookBridge(_Bridge):
    """To a webhook: https, or http on this machine."""

    kind: Literal["webhook"] = "webhook"
    url: UrlText
    secret_file: PathText
    """The file with the secret that everything is signed with, read anew each time."""

    @model_validator(mode="after")
    def _possible(self) -> WebhookBridge:
        _checked_url(self.url)
        return self

    @property
    def target(self) -> str:
        """Whom it leads to, for people: without a query, in which a token may be."""
        return self.url.partition("?")[0]


class CommandBridge(_Bridge):
    """To a program, which is started for each thing that is told."""

    kind: Literal["command"] = "command"
    words: Annotated[tuple[Word, ...], Field(min_length=1, max_length=limits.COMMAND_WORDS)]
    """The program's absolute path, and its arguments. No shell reads them."""
    seconds: Annotated[float, Field(ge=0.1, le=600, allow_inf_nan=False)] = 10.0
    """How long it may run."""

    @model_validator(mode="after")
    def _possible(self) -> CommandBridge:
        _absolute(self.words[0])
        return self

    @property
    def target(self) -> str:
        """Whom it leads to, for people."""
        return " ".join(self.words)


Bridge = Annotated[XwhepBridge | WebhookBridge | CommandBridge, Field(discriminator="kind")]
