"""What every model has in common: it is frozen, refuses unknown keys, and its texts and numbers are bounded.

Owns the types of single values, the error's view and the empty body. A request's bounds stand field by field beside it.
"""

from __future__ import annotations

import functools
import ipaddress
import json
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from bitdew.core.errors import ERRORS, BitDewError, error
from bitdew.core.host import Endpoint

from . import limits

UidText = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
RootText = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NameText = Annotated[str, Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$")]
Sentence = Annotated[str, Field(max_length=limits.TEXT)]
PemText = Annotated[str, Field(max_length=limits.PEM)]
Size = Annotated[int, Field(ge=0, le=limits.LARGEST_DISK)]
Count = Annotated[int, Field(ge=0, le=2**53)]


@functools.lru_cache(maxsize=2**16)
def _reachable(text: str) -> str:
    """`text`, if it is an address and port that a peer can be dialled at."""
    try:
        endpoint = Endpoint.parse(text)
    except BitDewError as fault:
        raise ValueError(fault.message) from None
    address = ipaddress.ip_address(endpoint.host)
    if endpoint.port == 0 or address.is_unspecified or address.is_multicast:
        raise ValueError(f"{text} can't be dialled")
    return text


def _short(value: Any) -> Any:
    """`value`, if it is no longer than an instant is written."""
    if isinstance(value, str) and len(value) > limits.INSTANT:
        raise ValueError(f"an instant has {limits.INSTANT} characters at most")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_short), Field(json_schema_extra={"maxLength": limits.INSTANT})]
"""A moment that a caller names, with its zone."""

LOOPBACK = "127.0.0.1"
AddressText = Annotated[str, Field(max_length=15), AfterValidator(lambda text: str(ipaddress.IPv4Address(text)))]
"""An address of IPv4, where something listens."""
EndpointText = Annotated[str, Field(max_length=64), AfterValidator(_reachable)]


class Model(BaseModel):
    """What every model has in common."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ser_json_bytes="base64", val_json_bytes="base64"
    )


class Nothing(Model):
    """An empty body."""


def _json(value: Any, *, allow_nan: bool = False) -> bytes:
    """`value` as JSON; what JSON has no form for is told by its text, and half characters become question marks."""
    return json.dumps(value, default=str, ensure_ascii=False, allow_nan=allow_nan).encode(errors="replace")


def _checked_fields(fields: dict[str, Any]) -> dict[str, Any]:
    if len(_json(fields)) > limits.FIELDS:
        raise ValueError(f"they take more than {limits.FIELDS} bytes")
    return fields


class ErrorView(Model):
    """An error on the wire, in a state's reason and in `--json`."""

    key: Annotated[str, Field(max_length=64)]
    message: Sentence
    why: Sentence = ""
    do: Sentence = ""
    fields: Annotated[dict[str, Any], AfterValidator(_checked_fields)] = Field(default_factory=dict)

    @classmethod
    def of(cls, fault: BitDewError) -> ErrorView:
        """The view of `fault`, cut to its bounds: sentences at their end, fields from the first that has no room."""
        told: dict[str, Any] = {}
        for name, value in fault.fields.items():
            plain = json.loads(_json(value, allow_nan=True), parse_constant=lambda _: None)
            longer = {**told, name: plain}
            if len(_json(longer)) > limits.FIELDS:
                break
            told = longer
        message, why, do = (
            text[: limits.TEXT].encode(errors="replace").decode() for text in (fault.message, fault.why, fault.do)
        )
        return cls(key=fault.key, message=message, why=why, do=do, fields=told)

    def to_error(self) -> BitDewError:
        """The error again, on the other side. A key of a newer release becomes `internal`."""
        key = self.key if self.key in ERRORS else "internal"
        fields = {k: v for k, v in self.fields.items() if k not in {"why", "do"}}
        return error(key, self.message, why=self.why, do=self.do, **fields)


class ErrorReply(Model):
    """The body of every reply that is not a success."""

    error: ErrorView
