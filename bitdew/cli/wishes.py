"""The options of an attribute, in one place for every command that takes one.

Owns their spelling on the command line. What they may say is for the core's `Attribute`.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bitdew.core.errors import error

from . import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from bitdew.core.attribute import Attribute

Words = str | None
OPTIONS: Final[dict[str, Any]] = {
    "replica": Annotated[
        Words,
        typer.Option(
            "--replica",
            help="Verified copies wanted; -1 on every eligible host. Unsaid: 1, or with --affinity all.",
            metavar="N",
        ),
    ],
    "ft": Annotated[bool, typer.Option("--ft", help="Make copies again elsewhere when their hosts are lost.")],
    "lifetime": Annotated[
        Words, typer.Option("--lifetime", help="Until when: 7d, 2027-01-31, or a datum whose end it shares.")
    ],
    "affinity": Annotated[
        Words,
        typer.Option(
            "--affinity",
            help="Copies only where this datum or attribute is held.",
            metavar="NAME",
            autocompletion=names.data,
        ),
    ],
    "requires": Annotated[
        Words, typer.Option("--requires", help="Which hosts are eligible: 'sharing=qemu, memory >= 4GB'.")
    ],
    "spread": Annotated[
        Words, typer.Option("--spread", help="No two copies on one value of this label.", metavar="LABEL")
    ],
    "protocol": Annotated[Words, typer.Option("--protocol", help="How copies move: auto, bittorrent or http.")],
    "distrib": Annotated[
        Words, typer.Option("--distrib", help="Data of this attribute on one host at most.", metavar="N")
    ],
    "pin": Annotated[
        list[str],
        typer.Option(
            "--pin",
            help="A host that keeps a copy, whatever else. May be repeated.",
            metavar="HOST",
            autocompletion=names.hosts,
        ),
    ],
    "priority": Annotated[
        Words, typer.Option("--priority", help="Which is placed first: the higher, -1000 to 1000.", metavar="N")
    ],
}
"""The option of each key of an attribute, in the order of the table of keys."""

Named = Annotated[
    str | None,
    typer.Option(
        "--attr", help="A defined attribute, instead of wishes.", metavar="NAME", autocompletion=names.attributes
    ),
]


@dataclass(frozen=True, slots=True)
class Wished:
    """What the options of an attribute said.

    Attributes:
        given: The wishes that were said, by their keys, as they were written.
        name: The attribute that `--attr` named.
    """

    given: dict[str, Any]
    name: str | None = None

    def attribute(self) -> Attribute:
        """The wishes alone.

        Raises:
            UserError: `attribute.invalid`, `attribute.requires`.
        """
        from bitdew.core.attribute import Attribute
        from bitdew.core.attribute_keys import from_text

        read = {key: from_text(key, said) if isinstance(said, str) else said for key, said in self.given.items()}
        return Attribute.from_dict(read)

    def choice(self) -> Attribute | str:
        """The attribute that was named, or the wishes.

        Raises:
            UserError: `input.invalid` for both; those of `attribute`.
        """
        if self.name is None:
            return self.attribute()
        if self.given:
            extra = ", ".join(f"--{key}" for key in self.given)
            why = f"--attr {self.name} says all, and {extra} came with it"
            raise error(
                "input.invalid", "An attribute is named or wished, not both", why=why, do="Give one of the two."
            )
        return self.name


def with_wishes(*, named: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of an attribute, and `--attr` if `named`; its `wished` is what they said."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def called(**given: Any) -> None:
            wishes = {key: value for key in OPTIONS if (value := given.pop(key)) not in (None, False, [])}
            name = given.pop("attr", None)
            command(**given, wished=Wished(wishes, name))

        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.name != "wished"]
        at = next((n for n, one in enumerate(own) if one.name == "profile"), len(own))
        options = {**({"attr": Named} if named else {}), **OPTIONS}
        added = [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=option,
                default={"ft": False, "pin": []}.get(key),
            )
            for key, option in options.items()
        ]
        plain = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        called.__signature__ = signature.replace(parameters=[*plain[:at], *added, *plain[at:]])  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in [*own, *added]}
        return called

    return decorate
