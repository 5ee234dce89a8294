"""`BitDew`: one service as a developer uses it.

Owns the calls and their order. Everything that decides is on the other side of the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from bitdew.core.data import ImageRecord
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import checked_name, new_uid
from bitdew.core.states import MACHINE, MachineState
from bitdew.trust.keys import certificate_expires
from bitdew.trust.records import sign_record
from bitdew.wire import limits
from bitdew.wire import models as m

from .connection import GRACE, POLL, name_part
from .data import DataCalls, chosen
from .image import ImageFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bitdew.core.attribute import Attribute
    from bitdew.core.content import Content

TokenRole = Literal["worker", "user", "publisher", "operator"]
RECORD_VALIDITY: Final = timedelta(days=365)
DELETE_SECONDS: Final = 5.0
"""Seconds for taking back an upload that failed; the service forgets it in time by itself."""


class BitDew(DataCalls):
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
        progress: Callable[[int, int], None] | None = None,
    ) -> m.DiskView:
        """Make the file at `path` a disk called `name`, signed by this profile. The file is read once.

        Args:
            path: A raw disk image.
            name: Unique among the disks that are alive.
            attribute: What should be true of it, or the name of an attribute that is defined; one copy by default.
            os: What boots from it, in words.
            arch: The machine that it is made for.
            version: The publisher's version of this disk.
            progress: Called with the bytes sent and their total.

        What was begun is taken back if it fails or is cancelled.

        Raises:
            BitDewError: `disk.file-missing`, `disk.file-unreadable`, `disk.empty`, `disk.changed`, `disk.name-taken`,
                `storage.full`, `certificate.role` if the profile can't sign, `input.invalid`, `attribute.…`.
        """
        checked_name(name, "disk's name")
        signing = self.identity.signing
        if signing is None:
            why = f"the profile {self._folder.folder} has the role {self.identity.subject.role} and no signing key"
            raise error("certificate.role", f"{name} can't be added by this profile", why=why)
        choice = chosen(attribute)
        image = await asyncio.to_thread(ImageFile, path)
        try:
            if image.size > limits.LARGEST_DISK:
                why = f"it has {image.size} bytes, and {limits.LARGEST_DISK} are allowed"
                raise error("input.too-large", f"{path} is too large for a disk", why=why)
            begun = m.UploadRequest(name=name, size=image.size, attribute=choice)
            upload = (await self._call("POST", "/v1/uploads", m.UploadReply, body=begun)).upload
            try:
                content = await self._send(image, upload, progress)
                ends = await asyncio.to_thread(certificate_expires, signing.certificate)
                record = await asyncio.to_thread(self._record, content, name, os, arch, version, ends)
                signed = await asyncio.to_thread(sign_record, record, signing)
                request = m.DiskRequest(upload=upload, record=m.RecordModel.of(signed), attribute=choice)
                return await self._call("POST", "/v1/disks", m.DiskView, body=request, seconds=120)
            except BaseException:
                await self._take_back(upload)
                raise
        finally:
            await image.close()

    async def disks(self) -> list[m.DiskView]:
        """All disks."""
        return (await self._call("GET", "/v1/disks", m.DiskList)).disks

    async def disk(self, name: str) -> m.DiskView:
        """One disk, by name or uid. Raises UserError `data.not-found`."""
        return await self._call("GET", f"/v1/disks/{name_part(name)}", m.DiskView)

    async def remove_disk(self, name: str) -> None:
        """Remove a disk everywhere. Raises UserError `data.not-found`."""
        await self._call("DELETE", f"/v1/disks/{name_part(name)}", m.Nothing)

    # Hosts and machines ---------------------------------------------------------------------------------------------

    async def hosts(self) -> list[m.HostView]:
        """All hosts that ever joined."""
        return (await self._call("GET", "/v1/hosts", m.HostList)).hosts

    async def revoke_host(self, name: str) -> m.HostView:
        """Shut a host out, by its name or id, from its next request on. For operators. What it was just before.

        Raises:
            BitDewError: `host.not-found`, `certificate.role`, or one of the connection's.
        """
        host = await self._call("GET", f"/v1/hosts/{name_part(name)}", m.HostView)
        await self._call("DELETE", f"/v1/identities/{host.host}", m.Nothing)
        return host

    async def deploy(self, disk: str, count: int = 1, *, memory: int = 256 * 2**20, cpus: int = 1) -> m.DeploymentView:
        """Ask for `count` machines from a disk, each with `memory` bytes."""
        request = m.DeployRequest(disk=name_part(disk), count=count, memory=memory, cpus=cpus)
        return await self._call("POST", "/v1/deployments", m.DeploymentView, body=request)

    async def machines(self) -> list[m.MachineView]:
        """All machines."""
        return (await self._call("GET", "/v1/machines", m.MachineList)).machines

    async def machine(self, uid: str) -> m.MachineView:
        """One machine, by its uid or the beginning of it. Raises UserError `machine.not-found`."""
        return await self._call("GET", f"/v1/machines/{name_part(uid)}", m.MachineView)

    async def stop_machine(self, uid: str) -> m.MachineView:
        """Ask that a machine stops."""
        return await self._call("POST", f"/v1/machines/{name_part(uid)}/stop", m.MachineView)

    async def console(self, uid: str, offset: int = 0, wait: float = 0.0) -> m.ConsoleReply:
        """What the machine wrote after `offset`; held open until there is more, `wait` seconds at most."""
        query = {"offset": str(offset), "wait": f"{wait:g}"}
        path = f"/v1/machines/{name_part(uid)}/console"
        return await self._call("GET", path, m.ConsoleReply, query=query, seconds=wait + GRACE)

    async def follow_console(self, uid: str) -> AsyncIterator[m.ConsoleReply]:
        """The machine's console from its beginning, part by part, until the machine has ended."""
        offset, state = 0, MachineState.REQUESTED
        while True:
            reply = await self.console(uid, offset, POLL)
            if reply.text or reply.state is not state:
                yield reply
            state = reply.state
            if state in MACHINE.ends() and not reply.text:
                return
            offset = max(offset, reply.offset + len(reply.text))

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

    async def _send(self, image: ImageFile, upload: str, progress: Callable[[int, int], None] | None) -> Content:
        """Send the file's bytes; what they are, once both sides agree."""
        path = f"/v1/uploads/{upload}"
        try:
            # No limit on the whole: a disk of 20 GB over a slow line takes hours.
            done = await self._call("PUT", path, m.UploadDone, body=image.chunks(progress), seconds=None)
        except BitDewError:
            if image.fault is not None:
                raise image.fault from None
            raise
        content = await asyncio.to_thread(image.finish)
        if (done.root, done.size) != (content.root, content.size):
            why = f"received were {done.size} bytes with the root {done.root[:16]}…, sent the root {content.root[:16]}…"
            raise error("disk.changed", f"{image.path} did not arrive as it was read", why=why)
        return content

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

    async def _take_back(self, upload: str) -> None:
        """Delete an upload that came to nothing; the reason why it did is what the caller hears of."""
        with contextlib.suppress(BitDewError):
            await self._call("DELETE", f"/v1/uploads/{upload}", m.Nothing, seconds=DELETE_SECONDS)
