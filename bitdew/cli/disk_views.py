"""How disks and their placements look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from bitdew.core.states import PlacementState
from bitdew.core.units import format_size

from .output import heading, printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from bitdew.wire.models import DiskView, ExplainReply, PlacementView, WhereReply

STYLES = {PlacementState.HELD: "green", PlacementState.FAILED: "red", PlacementState.LOST: "red"}


def summary(reply: WhereReply) -> str:
    """One line on a disk's copies."""
    disk = reply.disk
    wanted = "on every eligible host" if disk.wanted < 0 else f"of {disk.wanted} wanted"
    sent = f"{format_size(disk.egress)} sent by the repository"
    return f"{disk.name}: {disk.held} held {wanted}, {disk.intended} on their way, {sent}"


def placements(reply: WhereReply, title: str | None = None) -> Table:
    """A row for each host that has, or is getting, a copy."""
    rows = table("HOST", "STATE", ">DONE", ">SECONDS", ">FROM REPOSITORY", ">FROM PEERS", "REASON")
    if title:
        rows.title, rows.title_justify = printable(title), "left"
    for one in reply.placements:
        sources = (format_size(one.from_repository), format_size(one.from_peers))
        seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
        state = Text(one.state, style=STYLES.get(one.state, ""))
        rows.add_row(one.host_name, state, _percent(one), seconds, *sources, _reason(one))
    return rows


def one_disk(disk: DiskView) -> Table:
    """All that is known of one disk."""
    wanted = "all" if disk.wanted < 0 else str(disk.wanted)
    wishes = ", ".join(f"{key}={value}" for key, value in disk.attribute.items() if value not in {"", None})
    rows = table("name", "value")
    for name, value in (
        ("name", disk.name),
        ("uid", disk.uid),
        ("size", f"{format_size(disk.size)} ({disk.size} bytes, {disk.format})"),
        ("root", disk.root),
        ("info-hash", disk.info_hash),
        ("os", disk.os),
        ("arch", disk.arch),
        ("version", disk.version),
        ("publisher", disk.publisher),
        ("valid", f"{disk.created:%Y-%m-%d %H:%M} to {disk.expires:%Y-%m-%d %H:%M} UTC"),
        ("wishes", wishes),
        ("copies", f"{disk.held} held, {disk.intended} on their way, {wanted} wanted"),
        ("sent", f"{format_size(disk.egress)} by the repository"),
        ("repository", "damaged: add the original file again" if disk.damaged else "intact"),
    ):
        rows.add_row(name, value)
    return rows


def explained(reply: ExplainReply) -> Iterator[object]:
    """Numbers, a verdict for each host, and what happens next."""
    wanted = "all" if reply.wanted < 0 else str(reply.wanted)
    yield heading(
        f"{reply.disk.name}: {wanted} wanted, {reply.held} held, {reply.intended} on their way, {reply.missing} missing"
    )
    rows = table("HOST", "VERDICT", "REASON")
    for one in reply.hosts:
        rows.add_row(one.host_name, one.verdict, one.reason)
    yield rows if reply.hosts else "No host has joined."
    for sentence in reply.next:
        yield f"Next: {sentence}"


def _percent(one: PlacementView) -> str:
    if one.state is PlacementState.HELD:
        return "100 %"
    return f"{100 * one.done // one.size} %" if one.size else ""


def _reason(one: PlacementView) -> str:
    if one.reason is None:
        return ""
    again = f"; again at {one.retry_at:%H:%M:%S} UTC" if one.retry_at else ""
    return f"{one.reason.message} ({one.reason.key}){again}"
