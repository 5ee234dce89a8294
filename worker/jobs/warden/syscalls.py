"""System calls that no job needs and that are refused to it: a filter that the kernel asks before each call.

Owns the list. It narrows what a job can try against the kernel, and closes what rights to files leave open: keys of the
same user, namespaces of its own, and, where a job has no view of its own, sockets that lie in this host's folders.
Source: seccomp(2); the numbers are those of the architectures' tables.
"""

from __future__ import annotations

import ctypes
import os
import struct

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

_NEW_ON_ALL: Final = {
    "io_uring_setup": 425,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsmount": 432,
    "mount_setattr": 442,
}
_X86_64: Final = {
    "mount": 165,
    "umount2": 166,
    "pivot_root": 155,
    "unshare": 272,
    "setns": 308,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "bpf": 321,
    "perf_event_open": 298,
    "userfaultfd": 323,
    "open_by_handle_at": 304,
}
_GENERIC: Final = {
    "mount": 40,
    "umount2": 39,
    "pivot_root": 41,
    "unshare": 97,
    "setns": 268,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "bpf": 280,
    "perf_event_open": 241,
    "userfaultfd": 282,
    "open_by_handle_at": 265,
}


class _Architecture:
    """One architecture: how the kernel calls it, and the numbers of its calls."""

    def __init__(self, audit: int, refused: Mapping[str, int], *, clone: int, socket: int) -> None:
        self.audit = audit
        self.refused = sorted({**_NEW_ON_ALL, **refused}.values())
        self.clone = clone
        self.socket = socket


_ARCHITECTURES: Final = {
    "x86_64": _Architecture(0xC000003E, _X86_64, clone=56, socket=41),
    "aarch64": _Architecture(0xC00000B7, _GENERIC, clone=220, socket=198),
    "riscv64": _Architecture(0xC00000F3, _GENERIC, clone=220, socket=198),
}
_CLONE3: Final = 435
_OTHER_ABI: Final = 0x40000000
_NAMESPACES: Final = 0x7E020000
_LOCAL: Final = 1

# The filter is a small program (BPF): load a word of the call, compare, jump, return.
_LOAD: Final = 0x20
_IF_EQUAL: Final = 0x15
_IF_AT_LEAST: Final = 0x35
_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_FAIL_WITH: Final = 0x00050000
_KILL: Final = 0x80000000
_NUMBER, _AUDIT, _FIRST_ARGUMENT = 0, 4, 16
_NOT_PERMITTED: Final = 1
_NOT_KNOWN: Final = 38


def filter_of(machine: str, *, local_sockets: bool) -> bytes:
    """The filter for a machine of this kind; empty where its numbers are not known.

    Programs are told that `clone3` is not known, whose flags can't be looked at; the C library then takes `clone`.
    """
    known = _ARCHITECTURES.get(machine)
    if known is None:
        return b""

    def refuse(error: int) -> tuple[int, int, int, int]:
        return (_RETURN, 0, 0, _FAIL_WITH | error)

    program = [(_LOAD, 0, 0, _AUDIT), (_IF_EQUAL, 1, 0, known.audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        program += [(_IF_AT_LEAST, 0, 1, _OTHER_ABI), refuse(_NOT_KNOWN)]
    for number in known.refused:
        program += [(_IF_EQUAL, 0, 1, number), refuse(_NOT_PERMITTED)]
    program += [(_IF_EQUAL, 0, 1, _CLONE3), refuse(_NOT_KNOWN)]
    allow = (_RETURN, 0, 0, _ALLOW)
    program += [(_IF_EQUAL, 0, 4, known.clone), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    program += [(_IF_ANY_BIT, 0, 1, _NAMESPACES), refuse(_NOT_PERMITTED), allow]
    if not local_sockets:
        program += [(_IF_EQUAL, 0, 3, known.socket), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
        program += [(_IF_EQUAL, 0, 1, _LOCAL), refuse(_NOT_PERMITTED)]
    program.append(allow)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def refuse(*, local_sockets: bool) -> bool:
    """Have the kernel refuse them to this process and all that it starts; whether they are known on this machine.

    Args:
        local_sockets: Whether sockets to programs of this host may be made.

    Raises:
        OSError: If the kernel refuses the filter.
    """
    program = filter_of(os.uname().machine, local_sockets=local_sockets)
    if not program:
        return False
    kept = ctypes.create_string_buffer(program, len(program))
    kernel.filter_calls(len(program) // 8, ctypes.addressof(kept))
    return True
