"""How data, disks among them, and their placements look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from rich.text import Text

from bitdew.core.attribute import Attribute
from bitdew.core.attribute_text import write_line
from bitdew.core.data import Kind
from bitdew.core.states import PlacementState
from bitdew.core.units import format_size

from .output import heading, printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rich.table import Table

    from bitdew.wire.models import DataView, DiskView, ExplainReply, PlacementView, WhereReply

STYLES = {PlacementState.HELD: "green", PlacementState.FAILED: "red", PlacementState.LOST: "red"}
VERDICTS = {"holds": "green", "intended": "cyan", "chosen": "cyan", "displaced": "yellow", "refused": "dim"}


def summary(reply: WhereReply) -> str:
    """One line on a datum's copies."""
    datum = reply.data
    if not datum.alive:
        left = sum(one.state is not PlacementState.GONE for one in reply.placements)
        freed = format_size(sum(one.freed for one in reply.placements))
        copies = "copy" if left == 1 else "copies"
        return f"{datum.name}: {_end_of(datum)}; {left} {copies} left, {freed} freed on hosts"
    if datum.awaited and datum.seeded and datum.origin is None and not datum.held:
        kind = "disk add" if datum.is_disk else "data put"
        waits = f"{datum.intended} on their way and waiting for its publisher, who is away"
        return f"{datum.name}: {waits}. Offer it again: bitdew {kind} FILE --name {datum.name} --seed"
    if datum.awaited and not datum.seeded:
        return f"{datum.name}: its bytes have not come yet. Send them: bitdew data put FILE --name {datum.name}"
    wanted = "on every eligible host" if datum.wanted < 0 else f"of {datum.wanted} wanted"
    sent = f"{format_size(datum.egress)} sent by the repository"
    return f"{datum.name}: {datum.held} held {wanted}, {datum.intended} on their way, {sent}"


def placements(reply: WhereReply, title: str | None = None) -> Table:
    """A row for each host that has, or is getting, a copy; a column for what was reused or freed where any was."""
    freed = any(one.freed for one in reply.placements)
    freeing = [">FREED"] if freed else []
    reused = any(one.reused for one in reply.placements)
    reusing = [">REUSED"] if reused else []
    rows = table("HOST", "STATE", ">DONE", ">SECONDS", ">FROM REPOSITORY", ">FROM PEERS", *reusing, *freeing, "REASON")
    if title:
        rows.title, rows.title_justify = printable(title), "left"
    for one in reply.placements:
        sources = (format_size(one.from_repository), format_size(one.from_peers))
        seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
        state = Text(one.state, style=STYLES.get(one.state, ""))
        back = [format_size(one.freed)] if freed else []
        there = [format_size(one.reused)] if reused else []
        rows.add_row(one.host_name, state, _percent(one), seconds, *sources, *there, *back, _reason(one))
    return rows


def one_datum(datum: DataView) -> Table:
    """All that is known of one datum; of a disk, its record too."""
    rows = table("name", "value")
    for name, value in _about(datum):
        if value:
            rows.add_row(name, value)
    return rows


def _about(datum: DataView) -> Iterator[tuple[str, str]]:
    form = f", {datum.format}" if _is_disk(datum) else ""
    yield "name", datum.name
    yield "uid", datum.uid
    yield "kind", "a folder, which travels as its archive" if datum.kind is Kind.FOLDER else ""
    yield "size", f"{format_size(datum.size)} ({datum.size} bytes{form})"
    yield "root", datum.root
    yield "info-hash", datum.info_hash
    if _is_disk(datum):
        yield "os", datum.os
        yield "arch", datum.arch
        yield "version", datum.version
        yield "publisher", datum.publisher
        yield "valid", f"{moment(datum.created)} to {moment(datum.expires)} UTC"
    else:
        yield "created", f"{moment(datum.created)} UTC"
    yield "ends", f"{moment(datum.ends)} UTC" if datum.ends and datum.alive else ""
    yield "ended", "" if datum.alive else _end_of(datum)
    yield "attribute", datum.attribute_name or ""
    yield "wishes", wishes_of(datum.attribute)
    wanted = f", {datum.intended} on their way, {wanted_of(datum)} wanted" if datum.alive else " still"
    yield "copies", f"{datum.held} held{wanted}"
    yield "sent", f"{format_size(datum.egress)} by the repository" if datum.alive else ""
    yield "repository", _own_copy(datum) if datum.alive else ""


def _end_of(datum: DataView) -> str:
    """When and why its life ended."""
    at = f" at {datum.died:%Y-%m-%d %H:%M:%S} UTC" if datum.died else ""
    because = datum.died_because.removeprefix(f"{datum.name} ends: ")
    return f"its life ended{at}" + (f": {because}" if because else "")


def _is_disk(datum: DataView) -> TypeGuard[DiskView]:
    """Whether its record came with it; lists leave that out."""
    return datum.is_disk and "publisher" in type(datum).model_fields


def _own_copy(datum: DataView) -> str:
    if datum.awaited and datum.seeded:
        return f"none: its publisher offers it at {datum.origin}" if datum.origin else "none: its publisher offered it"
    if datum.awaited:
        return "waits for the bytes"
    if datum.damaged and datum.held:
        why = f": {datum.damage.why}" if datum.damage is not None else ""
        return f"damaged{why}; it is mended from the hosts that hold it"
    if datum.damaged:
        return f"damaged: {'add' if datum.is_disk else 'put'} the original file again"
    return "intact"


def wishes_of(attribute: dict[str, Any]) -> str:
    """Wishes as they stand in an attribute's line."""
    line = write_line("x", Attribute.from_dict(attribute)) if attribute else ""
    return line.partition("{")[2].removesuffix("}").strip()


def wanted_of(datum: DataView) -> str:
    """How many copies are wanted."""
    return "all" if datum.wanted < 0 else str(datum.wanted)


def moment(when: datetime) -> str:
    """A time of day as people read it."""
    return f"{when:%Y-%m-%d %H:%M}"


def explained(reply: ExplainReply) -> Iterator[object]:
    """Numbers, what each wish amounts to, a verdict for each host, and what happens next and when."""
    wanted = "all" if reply.wanted < 0 else str(reply.wanted)
    name = reply.data.name
    if not reply.data.alive:
        yield heading(f"{name}: {_end_of(reply.data)}; {reply.data.held} held still")
        yield from _host_verdicts(reply, "holds", "intended", "displaced")
        yield from (f"Next: {sentence}" for sentence in reply.next)
        return
    yield heading(f"{name}: {wanted} wanted, {reply.held} held, {reply.intended} on their way, {reply.missing} missing")
    called = f"Attribute {reply.data.attribute_name}" if reply.data.attribute_name else "Wishes"
    yield f"{called}: {wishes_of(reply.data.attribute) or 'none'}"
    for sentence in reply.attribute:
        yield f"  {sentence}"
    if reply.lifetime:
        yield f"Lifetime: {reply.lifetime}"
    yield from _host_verdicts(reply) if reply.hosts else ["No host has joined."]
    for sentence in reply.next or ["nothing, until something changes."]:
        yield f"Next: {sentence}"
    if reply.when:
        yield f"Looked at again at {reply.when:%Y-%m-%d %H:%M:%S} UTC, or as soon as something changes."


def _host_verdicts(reply: ExplainReply, *verdicts: str) -> Iterator[Table]:
    """A row for each host, or for each of these verdicts; no table without a row."""
    rows = table("HOST", "VERDICT", "REASON")
    for one in reply.hosts:
        if not verdicts or one.verdict in verdicts:
            rows.add_row(one.host_name, Text(one.verdict, style=VERDICTS.get(one.verdict, "")), one.reason)
    if rows.row_count:
        yield rows


def _percent(one: PlacementView) -> str:
    if one.state is PlacementState.HELD:
        return "100 %"
    return f"{100 * one.done // one.size} %" if one.size else ""


def _reason(one: PlacementView) -> str:
    if one.reason is None:
        return ""
    again = f"; again at {one.retry_at:%H:%M:%S} UTC" if one.retry_at else ""
    return f"{one.reason.message} ({one.reason.key}){again}"
