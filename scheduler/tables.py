"""The scheduler's tables. Rows never leave the stores."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, Text, false, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from ..catalog.database import Base, UtcDateTime

_KEPT: Final = JSON().with_variant(JSONB(), "postgresql")
"""A JSON column with a default: PostgreSQL compares JSONB alone."""


MOVING: Final = text("state IN ('assigned', 'fetching', 'verifying')")
"""The condition that a copy is on its way, spelt as its index is: with other words the index would not be used."""
FAILED: Final = text("state = 'failed'")
"""The same for a copy that failed."""


class HostRow(Base):
    """A host, as it last said and as it was last seen."""

    __tablename__ = "hosts"

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    state: Mapped[str] = mapped_column(String(16))
    state_since: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    report: Mapped[dict[str, Any]] = mapped_column(JSON)
    generation: Mapped[int] = mapped_column(BigInteger, default=0)
    """The highest generation of an order to this host."""
    drain: Mapped[str | None] = mapped_column(String(8))
    """What becomes of its machines, if it is to be emptied; whoever stores what a host says leaves it alone."""


class PlacementRow(Base):
    """One datum on one host."""

    __tablename__ = "placements"
    __table_args__ = (
        # Peers are chosen by it: some of those that hold a datum, however many do.
        Index("ix_placements_data_state_host", "data", "state", "host"),
        Index("ix_placements_moving", "data", "host", sqlite_where=MOVING, postgresql_where=MOVING),
        Index("ix_placements_failed", "since", sqlite_where=FAILED, postgresql_where=FAILED),
    )

    data: Mapped[str] = mapped_column(ForeignKey("data.uid"), primary_key=True)
    host: Mapped[str] = mapped_column(ForeignKey("hosts.uid"), primary_key=True, index=True)
    state: Mapped[str] = mapped_column(String(16))
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    assigned: Mapped[datetime] = mapped_column(UtcDateTime)
    generation: Mapped[int] = mapped_column(BigInteger)
    """The generation of the last order about it: reports of an older one are stale."""
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    retry_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failures: Mapped[int] = mapped_column(default=0)
    reason: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    cause: Mapped[str] = mapped_column(Text)
    done: Mapped[int] = mapped_column(BigInteger, default=0)
    seconds: Mapped[float | None]
    from_repository: Mapped[int] = mapped_column(BigInteger, default=0)
    from_peers: Mapped[int] = mapped_column(BigInteger, default=0)
    reused: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Bytes of it that the host took from other copies that it had."""
    freed: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Bytes that the host had back when it dropped the copy."""
    history: Mapped[list[str]] = mapped_column(JSON, default=list)


class OrderRow(Base):
    """One instruction to one host. It is stored before it is sent, and open until the host's reports show it done."""

    __tablename__ = "orders"
    __table_args__ = (Index("ix_orders_open", "host", "closed"),)

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    host: Mapped[str] = mapped_column(ForeignKey("hosts.uid"))
    generation: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(32), index=True)
    cause: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    closed: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeploymentRow(Base):
    """A wish: run so many machines from this disk."""

    __tablename__ = "deployments"

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    data: Mapped[str] = mapped_column(ForeignKey("data.uid"), index=True)
    count: Mapped[int]
    memory: Mapped[int] = mapped_column(BigInteger)
    cpus: Mapped[int]
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    owner: Mapped[str] = mapped_column(String(128))
    restart: Mapped[str] = mapped_column(String(16), default="never", server_default="never")
    network: Mapped[str] = mapped_column(String(16), default="none", server_default="none")
    requires: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    ports: Mapped[list[dict[str, int]]] = mapped_column(_KEPT, default=list, server_default="[]")
    ends: Mapped[datetime | None] = mapped_column(UtcDateTime)
    user_data: Mapped[str | None] = mapped_column(Text, deferred=True)


class MachineRow(Base):
    """One VM of a deployment."""

    __tablename__ = "machines"
    __table_args__ = (Index("ix_machines_state_since", "state", "since"),)

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    deployment: Mapped[str] = mapped_column(ForeignKey("deployments.uid"), index=True)
    data: Mapped[str] = mapped_column(ForeignKey("data.uid"), index=True)
    host: Mapped[str | None] = mapped_column(ForeignKey("hosts.uid"), index=True)
    state: Mapped[str] = mapped_column(String(20))
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    generation: Mapped[int] = mapped_column(BigInteger, default=0)
    stop_wanted: Mapped[bool] = mapped_column(default=False)
    draining: Mapped[bool] = mapped_column(default=False, server_default=false())
    hypervisor: Mapped[str] = mapped_column(String(32), default="")
    reason: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    cause: Mapped[str] = mapped_column(Text, default="")
    attempt: Mapped[int] = mapped_column(default=1, server_default="1")
    ran: Mapped[float] = mapped_column(default=0.0, server_default="0")
    successor: Mapped[str | None] = mapped_column(String(32))
    continues: Mapped[str | None] = mapped_column(String(32))
    """The machine that ended, and from whose snapshot it goes on; on that one's host alone."""
    snapshot: Mapped[str | None] = mapped_column(String(128))
    bound: Mapped[str | None] = mapped_column(String(32))
    """The only host that it may run on."""
    ports: Mapped[list[dict[str, int]]] = mapped_column(_KEPT, default=list, server_default="[]")
    snapshots: Mapped[list[dict[str, Any]]] = mapped_column(_KEPT, default=list, server_default="[]")
    console: Mapped[str] = mapped_column(Text, default="", deferred=True)
    """The last characters of the serial console; read only where it is asked for."""
    console_end: Mapped[int] = mapped_column(BigInteger, default=0)
    """Characters that it has written in all."""


class ErrandRow(Base):
    """What a machine's host was asked to do once. Forgotten a while after."""

    __tablename__ = "errands"

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    machine: Mapped[str] = mapped_column(ForeignKey("machines.uid"), index=True)
    host: Mapped[str] = mapped_column(ForeignKey("hosts.uid"))
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str | None] = mapped_column(String(128))
    state: Mapped[str] = mapped_column(String(16))
    asked: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    sent: Mapped[bool] = mapped_column(default=False)
    """Whether there is an order for it."""
    reason: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    picture: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
