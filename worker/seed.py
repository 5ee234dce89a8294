"""The seed of a machine: a CD by which it learns who it is, where the service is, and what its user wants of it.

Owns the format: ISO 9660 with the label `cidata` and the files `meta-data` and `user-data`, as cloud-init's NoCloud has
it. A disk with cloud-init understands it, and so does the guest of `bitdew disk build`, which reads `bitdew-url` and
`bitdew-token` too.
"""

from __future__ import annotations

import io
import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from bitdew.core.errors import error

if TYPE_CHECKING:
    from pathlib import Path

    from bitdew.wire.models import MachineSeed

FROM_INSIDE: Final = "10.0.2.2"
"""The host's own loopback as a machine sees it whose network is QEMU's or VirtualBox's address translation."""


def host_name(uid: str) -> str:
    """What a machine is called, inside and among the hosts."""
    return f"vm-{uid[:8]}"


def write_seed(path: Path, uid: str, url: str, told: MachineSeed) -> None:
    """Write the seed of the system `uid` to `path`, whole or not at all, for its owner's eyes. Blocks.

    That is the machine's uid, or, where it goes on from a snapshot, that of the machine which began: to itself it is
    the same system, with the same name.

    Raises:
        HostError: `storage.failed`.
    """
    from pycdlib.pycdlibexception import PyCdlibException

    lines = [f"instance-id: {uid}", f"local-hostname: {host_name(uid)}"]
    if told.token is not None:
        lines += [f"bitdew-url: '{seen_from_inside(url)}'", f"bitdew-token: {told.token}"]
    files = {"meta-data": "\n".join(lines) + "\n", "user-data": told.user_data}
    unfinished = path.with_suffix(".part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        with unfinished.open("r+b") as file:
            _write_iso(file, files)
        unfinished.replace(path)
    except (OSError, PyCdlibException) as fault:
        why = getattr(fault, "strerror", None) or str(fault)
        raise error("storage.failed", f"The seed of machine {uid[:8]} can't be written", why=why, uid=uid) from fault


def seen_from_inside(url: str) -> str:
    """The service's address as a machine on this host has to call it."""
    parts = urlsplit(url)
    try:
        here = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        here = parts.hostname == "localhost"
    return f"{parts.scheme}://{FROM_INSIDE}:{parts.port or 443}" if here else url


def _write_iso(file: io.BufferedRandom, files: dict[str, str]) -> None:
    from pycdlib import PyCdlib  # 2 MB that an idle worker does without

    iso = PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    try:
        for number, (name, text) in enumerate(files.items()):
            content = text.encode()
            iso.add_fp(io.BytesIO(content), len(content), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}")
        iso.write_fp(file)
    finally:
        iso.close()
