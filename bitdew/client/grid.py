"""`BitDew`: one service as a developer uses it.

Owns the calls and their order. Everything that decides is on the other side of the wire.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from bitdew.core.data import ImageRecord
from bitdew.core.draining import Drain
from bitdew.core.errors import error
from bitdew.core.ids import checked_name, new_uid
from bitdew.trust.keys import certificate_expires
from bitdew.trust.records import sign_record
from bitdew.wire import limits
from bitdew.wire import models as m

from .connection import ADOPT_SECONDS, name_part
from .converted import open_disk
from .data import chosen
from .errands import ErrandCalls
from .getting import GetCalls
from .jobs import JobCalls
from .machines import MachineCalls
from .paging import pages
from .seeding import SeedCalls
from .standing import StandingCalls
from .upload import uploaded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bitdew.core.attribute import Attribute
    from bitdew.core.content import Content

TokenRole = Literal["worker", "user", "publisher", "operator"]
RECORD_VALIDITY: Final = timedelta(days=365)


class BitDew(SeedCalls, JobCalls, StandingCalls, GetCalls, MachineCalls, ErrandCalls):
    """A connection to one service, by the identity of one profile.

        async with BitDew.connect() as grid:
            await grid.add_disk(Path("hep.raw"), "hep", Attribute(replica=3))
            async for reply in grid.watch("hep"):
                ...

    Every method raises `BitDewError`; those of the connection itself are `service.unreachable`,
    `service.not-bitdew`, `service.version`, `certificate.foreign`, `certificate.expired` and `certificate.revoked`.
    Times are UTC, sizes bytes. Calls may run concurrently.
    """

    # Disks ----------------------------------------------------------------------------------------------------------

    async def add_disk(
        self,
        path: Path,
        name: str,
        attribute: Attribute | str | None = None,
        *,
        os: str = "",
        arch: str = "x86_64",
        version: str = "1",
        converting: Callable[[int, int], None] | None = None,
        reading: Callable[[int, int], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> m.DiskView:
        """Make the file at `path` a disk called `name`, signed by this profile. The file is read once.

        Args:
            path: A raw disk image; or a qcow2, VMDK, VDI, VHD or OVA, which is converted to one first.
            name: Unique among the disks that are alive.
            attribute: What should be true of it, or the name of an attribute that is defined; one copy by default.
            os: What boots from it, in words.
            arch: The machine that it is made for.
            version: The publisher's version of this disk.
            converting: Called with the bytes converted and their total, where the image is not raw.
            reading: Called with the bytes identified and their total, where that is done before anything is sent.
            progress: Called with the bytes that are through, sent or not, and their total.

        What the repository has already is not sent, and what broke off is gone on with, as `put` does.

        Raises:
            BitDewError: `disk.file-missing`, `disk.file-unreadable`, `disk.empty`, `disk.changed`, `disk.format`,
                `disk.name-taken`, `disk.tool-missing`,
                `storage.full`, `certificate.role` if the profile can't sign, `input.invalid`, `attribute.…`.
        """
        checked_name(name, "disk's name")
        signing = self.identity.signing
        if signing is None:
            why = f"the profile {self._folder.folder} has the role {self.identity.subject.role} and no signing key"
            raise error("certificate.role", f"{name} can't be added by this profile", why=why)
        choice = chosen(attribute)
        source = await asyncio.to_thread(open_disk, path, converting)
        async with uploaded(
            self._call,
            source,
            name,
            choice,
            disk=True,
            reading=reading,
            sending=progress,
            patience=self.patience,
        ) as upload:
            ends = await asyncio.to_thread(certificate_expires, signing.certificate)
            record = await asyncio.to_thread(self._record, upload.content, name, os, arch, version, ends)
            signed = await asyncio.to_thread(sign_record, record, signing)
            request = m.DiskRequest(upload=upload.uid, record=m.RecordModel.of(signed), attribute=choice)

            async def ask() -> m.DiskView:
                return await self._call("POST", "/v1/disks", m.DiskView, body=request, seconds=ADOPT_SECONDS)

            async def made() -> m.DiskView | None:
                there = await self.disk(name)
                return there if there.uid == record.uid else None

            return await upload.adopted(ask, made)

    async def disk_page(self, prefix: str = "", after: str = "", limit: int | None = None) -> m.DiskList:
        """Living disks whose names begin with `prefix`, by name, those after `after`: at most `limit`, or a page."""
        query = {"prefix": prefix, "after": after, "limit": str(limit or limits.PAGE)}
        return await self._call("GET", "/v1/disks", m.DiskList, query={k: v for k, v in query.items() if v})

    async def disks(self, prefix: str = "") -> list[m.DiskView]:
        """All living disks whose names begin with `prefix`, by name, asked for page by page."""
        found = pages(lambda after: self.disk_page(prefix, after))
        return [disk async for page in found for disk in page.disks]

    async def disk(self, name: str) -> m.DiskView:
        """One disk, by name or uid. Raises UserError `data.not-found`."""
        return await self._call("GET", f"/v1/disks/{name_part(name)}", m.DiskView)

    async def deprecate_disk(self, name: str, why: str) -> m.DiskView:
        """Say why no more machines are to run from a disk; those that run go on. `reinstate_disk` takes it back.

        Raises:
            BitDewError: `data.not-found`, `certificate.role`.
        """
        path = f"/v1/disks/{name_part(name)}/deprecation"
        return await self._call("POST", path, m.DiskView, body=m.DeprecationRequest(why=why))

    async def reinstate_disk(self, name: str) -> m.DiskView:
        """Let machines run from a disk again that was deprecated."""
        return await self._call("DELETE", f"/v1/disks/{name_part(name)}/deprecation", m.DiskView)

    async def remove_disk(self, name: str) -> None:
        """Remove a disk everywhere. Raises UserError `data.not-found`."""
        await self._call("DELETE", f"/v1/disks/{name_part(name)}", m.Nothing)

    # Hosts and machines ---------------------------------------------------------------------------------------------

    async def host_page(self, after: str = "", limit: int | None = None) -> m.HostList:
        """Hosts by name, those behind `after`, a page's `next` or a name: at most `limit`, or a page."""
        query = {"after": after, "limit": str(limit or limits.PAGE)}
        return await self._call("GET", "/v1/hosts", m.HostList, query={k: v for k, v in query.items() if v})

    async def hosts(self) -> list[m.HostView]:
        """All hosts that ever joined, by name, asked for page by page."""
        return [host async for page in pages(self.host_page) for host in page.hosts]

    async def revoke_host(self, name: str) -> m.HostView:
        """Shut a host out, by its name or id, from its next request on. For operators. What it was just before.

        Raises:
            BitDewError: `host.not-found`, `certificate.role`, or one of the connection's.
        """
        host = await self._call("GET", f"/v1/hosts/{name_part(name)}", m.HostView)
        await self._call("DELETE", f"/v1/identities/{host.host}", m.Nothing)
        return host

    async def host(self, name: str) -> m.HostView:
        """One host, by its name or id. Raises UserError `host.not-found`."""
        return await self._call("GET", f"/v1/hosts/{name_part(name)}", m.HostView)

    async def drain_host(self, name: str, machines: Drain = Drain.KEEP) -> m.DrainView:
        """Have a host emptied: its copies are made elsewhere first. For operators.

        Args:
            name: The host's name or id.
            machines: What becomes of its machines.

        Raises:
            BitDewError: `host.not-found`, `host.banned`, `certificate.role`, or one of the connection's.
        """
        path = f"/v1/hosts/{name_part(name)}/drain"
        return await self._call("POST", path, m.DrainView, body=m.DrainRequest(machines=machines))

    async def undrain_host(self, name: str) -> m.DrainView:
        """Let a host have copies and machines again. For operators."""
        return await self._call("DELETE", f"/v1/hosts/{name_part(name)}/drain", m.DrainView)

    async def draining(self, name: str) -> m.DrainView:
        """What is still on a host, and why."""
        return await self._call("GET", f"/v1/hosts/{name_part(name)}/drain", m.DrainView)

    # Tokens ---------------------------------------------------------------------------------------------------------

    async def create_token(
        self, role: TokenRole, *, uses: int = 1, lifetime: timedelta = timedelta(days=1), note: str = ""
    ) -> m.TokenView:
        """A join token; the word itself is in `token`, and only in this reply. For operators."""
        request = m.TokenRequest(role=role, uses=uses, seconds=lifetime.total_seconds(), note=note)
        return await self._call("POST", "/v1/tokens", m.TokenView, body=request)

    async def tokens(self) -> list[m.TokenView]:
        """The tokens that can still be used. For operators."""
        return (await self._call("GET", "/v1/tokens", m.TokenList)).tokens

    async def revoke_token(self, uid: str) -> None:
        """Make a token useless; who joined with it stays. For operators."""
        await self._call("DELETE", f"/v1/tokens/{name_part(uid)}", m.Nothing)

    # Inside ---------------------------------------------------------------------------------------------------------

    def _record(self, content: Content, name: str, os: str, arch: str, version: str, ends: datetime) -> ImageRecord:
        from bitdew.swarm.metainfo import build_metainfo

        now = datetime.now(UTC)
        return ImageRecord(
            uid=new_uid(),
            name=name,
            root=content.root,
            info_hash=build_metainfo(content).info_hash,
            size=content.size,
            format="raw",
            os=os,
            arch=arch,
            version=version,
            publisher=self.identity.subject.name,
            issued=now,
            # No longer than the certificate `ends`: hosts refuse a record whose signer's certificate has expired.
            expires=min(now + RECORD_VALIDITY, ends),
        )
