"""How people write values and keys: sizes with their unit, and the key that a misspelt one was meant to be.

Pure. It knows no setting by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BeforeValidator

from bitdew.core.errors import BitDewError
from bitdew.core.units import parse_size


def _as_bytes(value: Any) -> Any:
    """Bytes of a size that may be written like 50GB."""
    if not isinstance(value, str):
        return value
    try:
        return parse_size(value)
    except BitDewError as fault:
        raise ValueError(fault.message) from None


Bytes = Annotated[int, BeforeValidator(_as_bytes)]
"""A number of bytes, or a text like `50GB`."""


def near(word: str, known: Iterable[str]) -> str:
    """The one of `known` that `word` is most likely a misspelling of, or ""."""
    lower = {one.lower(): one for one in known}
    found = get_close_matches(word.lower().replace("-", "_"), lower, n=1, cutoff=0.5)
    return lower[found[0]] if found else ""
