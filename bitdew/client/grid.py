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
from bitdew.core.restarting import Restart
from bitdew.core.states import MACHINE, MachineState
from bitdew.trust.keys import certificate_expires
from bitdew.trust.records import sign_record
from bitdew.wire import limits
from bitdew.wire import models as m

from .connection import ADOPT_SECONDS, GRACE, POLL, name_part
from .converted import open_disk
from .data import chosen
from .errands import ErrandCalls
from .getting import GetCalls
from .jobs import JobCalls
from .seeding import SeedCalls
from .standing import StandingCalls
from .upload import uploaded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from bitdew.core.attribute import Attribute
    from bitdew.core.content import Content

TokenRole = Literal["worker", "user", "publisher", "operator"]
RECORD_VALIDITY: Final = timedelta(days=365)


class BitDew(SeedCalls, JobCalls, StandingCalls, GetCalls, ErrandCalls):
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

    async def disks(self) -> list[m.DiskView]:
        """All disks."""
        return (await self._call("GET", "/v1/disks", m.DiskList)).disks

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

    async def deploy(
        self,
        disk: str,
        count: int = 1,
        *,
        memory: int = 256 * 2**20,
        cpus: int = 1,
        restart: Restart = Restart.ON_FAILURE,
        network: m.Network = "none",
        user_data: str = "",
        requires: str = "",
        ports: Sequence[tuple[int, int]] = (),
        lifetime: str = "",
    ) -> m.DeploymentView:
        """Ask for machines from a disk.

        Args:
            disk: Its name or uid.
            count: How many are kept running.
            memory: Bytes of each.
            cpus: Processors of each.
            restart: Which of them another takes the place of.
            network: "user" lets them reach what their host reaches; the worker inside can then join this service.
            user_data: What each is told, as `user-data` of its seed; a text that begins with `#!` is run.

            requires: What their hosts have to be, as in an attribute: `site = orsay`.
            ports: TCP ports of the host's loopback, 0 for any that is free, and the machines' ports that they lead to.
            lifetime: How long the deployment lives, its machines with it: `2h`, `2026-12-31`.

        Raises:
            BitDewError: `data.not-found`, `input.invalid`, `input.too-large`, `attribute.requires`,
                `attribute.invalid`.
        """
        if len(user_data) > limits.USER_DATA or "\0" in user_data:
            why = f"it has {len(user_data)} characters, and {limits.USER_DATA} without a NUL are allowed"
            raise error("input.too-large", "Machines can't be told so much", why=why)
        request = m.DeployRequest(
            disk=name_part(disk),
            count=count,
            memory=memory,
            cpus=cpus,
            restart=restart,
            network=network,
            user_data=user_data,
            requires=requires,
            ports=[m.PortModel(host=outer, guest=inner) for outer, inner in ports],
            lifetime=lifetime,
        )
        return await self._call("POST", "/v1/deployments", m.DeploymentView, body=request)

    async def deployments(self) -> list[m.DeploymentView]:
        """All deployments, with their machines."""
        return (await self._call("GET", "/v1/deployments", m.DeploymentList)).deployments

    async def deployment(self, uid: str, *, since: int = 0, wait: float = 0.0) -> m.DeploymentView:
        """One deployment, by its uid or the beginning of it; with `wait`, held open so long until it is past `since`.

        Its version grows with every change of it or of its machines. Seconds.

        Raises:
            UserError: `deployment.not-found`.
        """
        query = {"since": str(since), "wait": f"{wait:g}"} if wait else {}
        path = f"/v1/deployments/{name_part(uid)}"
        return await self._call("GET", path, m.DeploymentView, query=query, seconds=wait + GRACE)

    async def scale(self, uid: str, count: int) -> m.DeploymentView:
        """Have a deployment be of `count` machines; 0 stops them all."""
        path = f"/v1/deployments/{name_part(uid)}/scale"
        return await self._call("POST", path, m.DeploymentView, body=m.ScaleRequest(count=count))

    async def explain_deployment(self, uid: str) -> m.DeploymentExplanation:
        """Why a deployment is as it is, and what happens next."""
        return await self._call("GET", f"/v1/deployments/{name_part(uid)}/explain", m.DeploymentExplanation)

    async def machines(self) -> list[m.MachineView]:
        """All machines."""
        return (await self._call("GET", "/v1/machines", m.MachineList)).machines

    async def machine(self, uid: str) -> m.MachineView:
        """One machine, by its uid or the beginning of it. Raises UserError `machine.not-found`."""
        return await self._call("GET", f"/v1/machines/{name_part(uid)}", m.MachineView)

    async def stop_machine(self, uid: str) -> m.MachineView:
        """Ask that a machine stops."""
        return await self._call("POST", f"/v1/machines/{name_part(uid)}/stop", m.MachineView)

    async def remove_machine(self, uid: str) -> None:
        """Forget a machine that has ended, with what its host keeps of it.

        Raises:
            BitDewError: `machine.not-found`, `machine.not-ended`, `machine.unreachable`, `certificate.role`.
        """
        await self._call("DELETE", f"/v1/machines/{name_part(uid)}", m.Nothing, seconds=POLL + GRACE)

    async def remove_deployment(self, uid: str) -> None:
        """Forget a deployment whose machines have all ended.

        Raises:
            BitDewError: `deployment.not-found`, `machine.not-ended`, `machine.unreachable`, `certificate.role`.
        """
        await self._call("DELETE", f"/v1/deployments/{name_part(uid)}", m.Nothing, seconds=None)

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
