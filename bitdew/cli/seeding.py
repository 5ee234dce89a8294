"""Commands that offer a file from where it is: what they say while hosts fetch it, and when they end."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitdew.core.errors import error
from bitdew.core.host import Endpoint
from bitdew.core.units import format_size, parse_size

from .data_views import placements, summary
from .placing import why_missing
from .running import ask
from .waiting import saying_why

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rich.live import Live

    from bitdew.client.grid import BitDew
    from bitdew.client.seeding import Offer
    from bitdew.core.attribute import Attribute
    from bitdew.wire.models import WhereReply

    from .output import Output


@dataclass(frozen=True, slots=True)
class Seeding:
    """How a file is to be offered, as the options say."""

    stay: bool
    listen: str | None
    upload: str | None


def seeding_of(*, seed: bool, stay: bool, listen: str | None, upload: str | None) -> Seeding | None:
    """What the options say; None for a file that goes to the repository.

    Raises:
        UserError: `input.invalid`, for options that mean nothing without `--seed`.
    """
    if seed:
        return Seeding(stay, listen, upload)
    for option, given in (("--stay", stay), ("--listen", listen), ("--upload", upload)):
        if given:
            why = "it is about a file that is offered from here"
            raise error("input.invalid", f"{option} says nothing without --seed", why=why, do="Say --seed too.")
    return None


def offer(
    output: Output,
    how: Seeding,
    file: Path,
    name: str,
    choice: Attribute | str,
    *,
    profile: str,
    url: str | None,
    disk: dict[str, str] | None = None,
) -> None:
    """Offer `file` until the copies that are wanted are held, or until interrupted, and show who has how much.

    It may be a folder, if no disk is to be made of it.
    """
    listen = {"listen": Endpoint.parse(how.listen)} if how.listen else {}
    upload = parse_size(how.upload) if how.upload else 0

    async def work(grid: BitDew) -> None:
        with output.steps(f"Packing {file}", f"Reading {file}") as (packing, reading):
            offered = grid.seed(
                file, name, choice, disk=disk, upload=upload, packing=packing, reading=reading, **listen
            )
            async with offered as here:
                _say_offered(output, here)
                async with saying_why(output, lambda: why_missing(grid, name)) as moved:
                    where = await _held(output, here, moved)
                _say_held(output, here, where)
                if how.stay:
                    await here.stay()

    ask(profile, url, work)


async def _held(output: Output, here: Offer, moved: Callable[[], None]) -> WhereReply:
    shown = _Shown(output)
    with _screen(output) as screen:

        def changed(reply: WhereReply) -> None:
            moved()
            if screen is not None:
                screen.update(placements(reply, title=summary(reply)), refresh=True)
            else:
                shown.take(reply)

        return await here.held(changed)


def _screen(output: Output) -> AbstractContextManager[Live | None]:
    if output.as_json or not output.live:
        return nullcontext()
    from rich.live import Live

    return Live(console=output.err, auto_refresh=False, transient=True)


class _Shown:
    """What was said of each host: each step once, and progress by quarters."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: dict[str, tuple[str, int]] = {}

    def take(self, reply: WhereReply) -> None:
        """Say what is new in `reply`."""
        from .documents import CopyMoved

        for one in reply.placements:
            step = (str(one.state), 4 * one.done // max(1, one.size))
            if self._said.get(one.host) == step:
                continue
            self._said[one.host] = step
            if self._output.as_json:
                self._output.line(CopyMoved(**dict(one)))
            else:
                self._output.remark(f"{one.host_name}: {one.state}, {25 * step[1]} % of {format_size(one.size)}")


def _say_offered(output: Output, here: Offer) -> None:
    if output.as_json:
        from .documents import Offered

        root, size = here.content.root, here.content.size
        output.line(Offered(name=here.name, root=root, size=size, swarm=str(here.swarm)))
    else:
        told = format_size(here.content.size)
        output.remark(f"{here.name} is offered at {here.swarm}: {told}, root {here.content.root}. Keep this running.")


def _say_held(output: Output, here: Offer, where: WhereReply) -> None:
    if output.as_json:
        from .documents import OfferHeld

        output.line(OfferHeld(sent=here.sent, **dict(where)))
        return
    output.show(summary(where))
    output.show(placements(where))
    output.show(f"{format_size(here.sent)} went out from here. Hosts have it from each other now.")
