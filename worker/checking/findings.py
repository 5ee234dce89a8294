"""The shape of what a check finds.

Owns the words alone.
"""

from __future__ import annotations

from typing import Literal

from bitdew.core.errors import BitDewError
from bitdew.wire.model import Model, Sentence

State = Literal["fine", "warning", "problem"]


class Finding(Model):
    """What was found of one thing."""

    what: str
    """What was looked at: "memory"."""
    state: State
    """A warning leaves the worker working, though less or not as well; a problem has to be mended."""
    found: Sentence
    do: Sentence = ""
    """What to do about it; "" if nothing has to be done."""


class CheckView(Model):
    """Everything that was found."""

    ready: bool
    """Whether there is no problem."""
    running: bool
    home: str
    url: str
    """The service that was asked; "" if none is known."""
    findings: list[Finding]


def fine(what: str, found: str) -> Finding:
    """Nothing has to be done."""
    return Finding(what=what, state="fine", found=found)


def warning(what: str, found: str, do: str) -> Finding:
    """It works, though not as it could."""
    return Finding(what=what, state="warning", found=found, do=do)


def problem(what: str, found: str, do: str) -> Finding:
    """It has to be mended."""
    return Finding(what=what, state="problem", found=found, do=do)


def told(what: str, fault: BitDewError) -> Finding:
    """A problem, in an error's own words."""
    because = f": {fault.why}" if fault.why else ""
    return problem(what, f"{fault.message}{because}", fault.do)
