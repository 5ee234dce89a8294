"""Attributes: the wishes attached to data, checked, and never silently ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from .attribute_keys import KEYS, Kind, checked_key, impossible, near_name, near_number, near_switch, nearest
from .errors import BitDewError
from .ids import checked_name
from .lifetime import For, Lifetime, Reference, Until, With, parse_lifetime
from .requirement import Requirement

EVERYWHERE: Final = -1
UNLIMITED: Final = -1
MOST_REPLICAS: Final = 1_000_000
MOST_DISTRIB: Final = 1_000_000
MOST_PRIORITY: Final = 1000
MOST_PINS: Final = 64
_TRANSPORTS: Final = {
    "any": "auto",
    "bt": "bittorrent",
    "default": "auto",
    "ftp": "http",
    "https": "http",
    "p2p": "bittorrent",
    "web": "http",
}


class Protocol(StrEnum):
    """How copies move."""

    AUTO = "auto"
    BITTORRENT = "bittorrent"
    HTTP = "http"


@dataclass(frozen=True, slots=True, init=False)
class Attribute:
    """What should be true of a datum. Making one that is impossible raises `attribute.invalid`, with the key.

        Attribute(replica=3, ft=True, lifetime="7d", requires="sharing=virtualbox")

    A requirement, a lifetime and an affinity may be given as texts, which are read as on the command line.

    Attributes:
        replica: Verified copies wanted, on distinct hosts; -1 for every eligible host; 0 for none.
        fault_tolerance: Whether copies on lost hosts stop counting and are made again elsewhere.
        requires: Which hosts are eligible.
        priority: Which deficit is served first: the higher.
        lifetime: Until when the datum lives: a date, a time span from its creation, or as long as another datum.
        affinity: Copies only where this datum or attribute is held, and everywhere it is held unless replica says less.
        spread: The label on whose values the copies are spread, one on each while that is possible.
        protocol: How copies move: auto, bittorrent or http.
        distrib: How many data of this attribute one host may hold; -1 for any number; 0 for none.
        pin: The hosts, by name or id, that hold a copy whatever the other wishes say.
    """

    replica: int | None = None
    fault_tolerance: bool = False
    requires: Requirement = field(default_factory=Requirement)
    priority: int = 0
    lifetime: Lifetime | None = None
    affinity: Reference | None = None
    spread: str = ""
    protocol: Protocol = Protocol.AUTO
    distrib: int = UNLIMITED
    pin: tuple[str, ...] = ()

    def __init__(
        self,
        replica: int | None = None,
        fault_tolerance: bool = False,
        requires: Requirement | str = "",
        priority: int = 0,
        lifetime: Lifetime | str | None = None,
        affinity: Reference | str | None = None,
        spread: str = "",
        protocol: Protocol | str = Protocol.AUTO,
        distrib: int = UNLIMITED,
        pin: Sequence[str] = (),
        *,
        ft: bool = False,
    ) -> None:
        """Each wish is as `Attribute`'s own description says; `ft` is short for `fault_tolerance`."""
        said: dict[str, Any] = {
            "replica": replica,
            "ft": fault_tolerance if ft is False else ft,
            "requires": requires,
            "priority": priority,
            "lifetime": lifetime,
            "affinity": affinity,
            "spread": spread,
            "protocol": protocol,
            "distrib": distrib,
            "pin": pin,
        }
        for key, check in _CHECKS.items():
            value = said[key]
            read = _READERS[key](value) if type(value) is str and key in _READERS else value
            object.__setattr__(self, KEYS[key].field, check(key, read))

    @property
    def replicas(self) -> int:
        """What `replica` amounts to: unsaid, it is every holder of the affinity's target, or 1 without an affinity."""
        if self.replica is not None:
            return self.replica
        return 1 if self.affinity is None else EVERYWHERE

    def to_dict(self) -> dict[str, Any]:
        """The wishes that differ from the default, under the keys of the command line and the wire, ready for JSON.

        This is the canonical form: equal attributes, and no others, give equal ones, in the order of the table of keys.
        """
        return {key: _plain(value) for key, value in self._wishes() if value != getattr(_DEFAULT, KEYS[key].field)}

    def _wishes(self) -> Iterator[tuple[str, Any]]:
        return ((key, getattr(self, about.field)) for key, about in KEYS.items())

    @classmethod
    def from_dict(cls, wishes: Mapping[str, Any]) -> Attribute:
        """The attribute that `wishes` spell, under the keys and with the values of `to_dict`.

        Raises:
            UserError: `attribute.invalid` for an unknown key or an impossible value, `attribute.requires`.
        """
        return cls(**{KEYS[checked_key(key)].field: _read(key, value) for key, value in wishes.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, int) else str(value)


def _read(key: str, value: Any) -> Any:
    """The field's value that `value`, of a type that JSON knows, stands for; what is out of range is found later."""
    if KEYS[key].kind is Kind.TEXT:
        if type(value) is not str:
            raise impossible(key, value, "it is a text, of type str")
        return _READERS[key](value) if key in _READERS else value
    if KEYS[key].kind is Kind.NUMBER:
        return _whole(key, value)
    return value


def _protocol(text: str) -> Protocol:
    names = [one.value for one in Protocol]
    if text in names:
        return Protocol(text)
    raise impossible(
        "protocol", text, f"it is {', '.join(names[:-1])} or {names[-1]}", near=nearest(text, names, _TRANSPORTS)
    )


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "lifetime": parse_lifetime,
    "affinity": Reference.parse,
    "requires": Requirement,
    "protocol": _protocol,
}


# Each check takes a key and the value of its field, which may be of any type, and gives the value to keep.


def _whole(key: str, value: Any) -> Any:
    if type(value) is not int:
        raise impossible(key, value, "it is a whole number, of type int", near=near_number(key, value))
    return value


def _within(least: int, most: int, why: str, *, unsaid: bool = False) -> Callable[[str, Any], Any]:
    def check(key: str, value: Any) -> Any:
        if unsaid and value is None:
            return None
        if not least <= _whole(key, value) <= most:
            raise impossible(key, value, why, near=max(least, min(most, value)))
        return value

    return check


def _switch(key: str, value: Any) -> Any:
    if type(value) is not bool:
        raise impossible(key, value, "it is true or false, of type bool", near=near_switch(value))
    return value


def _one_of(what: str, *kinds: type, unsaid: bool = True) -> Callable[[str, Any], Any]:
    def check(key: str, value: Any) -> Any:
        if not ((unsaid and value is None) or isinstance(value, kinds)):
            raise impossible(key, value, what)
        return value

    return check


def _transport(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        raise impossible(key, value, "it is one of Protocol")
    return _protocol(value)


def _label(key: str, value: Any) -> Any:
    return value if value == "" else _named(key, value, "label")


def _hosts(key: str, value: Any) -> Any:
    if not isinstance(value, list | tuple):
        do = f"Write it as a list: [{value[:128]}]" if isinstance(value, str) and value else ""
        raise impossible(key, value, "it is a list of hosts, each by its name or id", do=do)
    if len(value) > MOST_PINS:
        raise impossible(key, value, f"{MOST_PINS} hosts are the most")
    return tuple(sorted({_named(key, host, "host") for host in value}))


def _named(key: str, value: Any, what: str) -> str:
    if type(value) is not str:
        raise impossible(key, value, f"a {what} is named by a text, of type str")
    try:
        return checked_name(value, what)
    except BitDewError as fault:
        raise impossible(key, value, f"the name of a {what}: {fault.why}", near=near_name(value)) from None


_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "replica": _within(EVERYWHERE, MOST_REPLICAS, f"it is -1 (everywhere) or from 0 to {MOST_REPLICAS}", unsaid=True),
    "ft": _switch,
    "lifetime": _one_of("it is an Until, a For or a With", Until, For, With),
    "affinity": _one_of("it is a Reference", Reference),
    "requires": _one_of("it is a Requirement", Requirement, unsaid=False),
    "spread": _label,
    "protocol": _transport,
    "distrib": _within(UNLIMITED, MOST_DISTRIB, f"it is -1 (any number) or from 0 to {MOST_DISTRIB}"),
    "pin": _hosts,
    "priority": _within(-MOST_PRIORITY, MOST_PRIORITY, f"it is from -{MOST_PRIORITY} to {MOST_PRIORITY}"),
}
_DEFAULT: Final = Attribute()
