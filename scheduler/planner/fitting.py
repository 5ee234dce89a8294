"""Whether a copy may be where it is, and which target an affinity follows.

Owns the sentences about copies that may not stay. A copy whose place is no longer right is displaced: it counts for
nothing, but it goes only when others make up for it. Judged without regard to the space that it takes itself.
"""

from __future__ import annotations

from collections.abc import Callable

from bitdew.core.requirement import Requirement, Verdict

from .rows import DatumRow, HostRow, TargetRow
from .snapshot import Snapshot

Stays = Callable[[Requirement, HostRow], Verdict]


def has_affinity(datum: DatumRow) -> bool:
    """Whether copies may only be where a target is held."""
    return datum.affinity is not None or datum.attribute.affinity is not None


def target_of(snapshot: Snapshot, datum: DatumRow) -> TargetRow | None:
    """The target that the copies of `datum` follow, or None without one that lives and is held anywhere."""
    target = snapshot.targets.get(datum.affinity) if datum.affinity is not None else None
    return target if target is not None and target.alive and target.holders else None


def without_target(snapshot: Snapshot, datum: DatumRow) -> str:
    """Why the affinity of `datum` can't be followed, so that its copies stay where they are; "" if nothing is so."""
    if not has_affinity(datum) or target_of(snapshot, datum):
        return ""
    target = snapshot.targets.get(datum.affinity) if datum.affinity is not None else None
    if target is None:
        return "the target of its affinity is not known"
    where = "is held nowhere" if target.alive else "no longer lives"
    return f"{target.name}, the target of its affinity, {where}"


def misfit(snapshot: Snapshot, datum: DatumRow, host: HostRow, stays: Stays) -> str:
    """Why a copy of `datum` may not stay on `host`, or ""."""
    host_id = host.facts.host_id
    if host.drained:
        return "the host is drained"
    if host_id in datum.pins:
        return ""
    if not (verdict := stays(datum.attribute.requires, host)).matches:
        return f"it no longer matches: {verdict.reason}"
    target = target_of(snapshot, datum)
    if target and host_id not in target.holders:
        return f"{target.name}, the target of its affinity, is not held there"
    most = datum.attribute.distrib
    if most >= 0 and datum.data.uid in snapshot.excess.get((datum.attribute_uid, host_id), ()):
        return f"the host has more data of this attribute than distrib={most} allows"
    return ""
