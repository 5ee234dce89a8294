"""A boot disk of our own: says one line on the first serial port and on the screen, then powers its machine off.

Owns the boot sector, built here byte by byte, so that a demonstration and the tests need no operating system, no
download and no assembler. It knows nothing of hypervisors: any machine with a PC BIOS boots it, from IDE or virtio,
because everything that runs lies in the first sector. The rest of the disk is random, hence incompressible, filling.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from bitdew.core.errors import BitDewError, error

SECTOR: Final = 512
SMALLEST: Final = 1024 * 1024
"""The least size of a boot disk, bytes."""
LONGEST_LINE: Final = 200
"""The most characters that its line may have."""

_CHUNK: Final = 1024 * 1024
_ORIGIN: Final = 0x7C00  # where a BIOS loads the first sector and jumps to
_CODE_END: Final = 440  # the disk signature and the partition table begin here
_COM1: Final = 0x3F8
_LINE_STATUS: Final = _COM1 + 5
_HOLDING_EMPTY: Final = 0x20  # line status: the port takes another byte
_ALL_SENT: Final = 0x40  # line status: nothing is left in the port


def write_boot_disk(
    path: Path,
    *,
    line: str,
    size: int,
    power_off: bool = True,
    seed: bytes | None = None,
    progress: Callable[[int], None] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a raw, bootable disk to `path`. It appears there whole or not at all.

    Blocks while it writes; call it from a thread where an event loop runs.

    Args:
        path: The file to make.
        line: What the machine says when it has booted: 1 to 200 printable ASCII characters.
        size: Bytes; at least 1 MiB and a multiple of 512.
        power_off: Whether the machine then powers itself off. Otherwise it stays, idle, until it is ended from outside.
        seed: Makes the filling, and so the whole disk, the same every time. Without it every disk is a new one.
        progress: Called with the number of bytes written so far.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        UserError: `input.invalid` for an impossible line or size, or a file that is there already.
        HostError: `storage.full`, or `storage.failed`.
    """
    if size < SMALLEST or size % SECTOR:
        raise error(
            "input.invalid",
            f"A boot disk can't have {size} bytes",
            why=f"at least {SMALLEST} are needed, in whole sectors of {SECTOR}",
            size=size,
        )
    sector = boot_sector(line, size=size, power_off=power_off)
    try:
        taken = not overwrite and path.exists()
    except OSError as problem:
        raise _storage_error(path, size, problem) from problem
    if taken:
        raise error(
            "input.invalid", f"{path} exists already", do="Choose another path, or allow overwriting.", path=str(path)
        )
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with unfinished.open("xb") as file:
            file.write(sector)
            _fill(file, size, seed, progress)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as problem:
        raise _storage_error(path, size, problem) from problem
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def boot_sector(line: str, *, size: int, power_off: bool = True) -> bytes:
    """The first 512 bytes of a boot disk of `size` bytes: code, the line, one active partition, the signature.

    Raises:
        UserError: `input.invalid`, if the line is empty, too long or not printable ASCII.
    """
    if not 1 <= len(line) <= LONGEST_LINE or not line.isascii() or not line.isprintable():
        raise error(
            "input.invalid",
            f"{line[:60]!r} can't be the line of a boot disk",
            why=f"1 to {LONGEST_LINE} printable ASCII characters are allowed",
            field="line",
        )
    code = _program(line.encode("ascii"), power_off=power_off).assembled()
    table = _partition(size).ljust(64, b"\0")
    return code.ljust(_CODE_END, b"\0") + bytes(6) + table + b"\x55\xaa"


def _fill(file: BinaryIO, size: int, seed: bytes | None, progress: Callable[[int], None] | None) -> None:
    generator = None if seed is None else random.Random(seed)  # noqa: S311 - filling, not a secret
    written = SECTOR
    while written < size:
        length = min(_CHUNK, size - written)
        file.write(os.urandom(length) if generator is None else generator.randbytes(length))
        written += length
        if progress is not None:
            progress(written)


def _storage_error(path: Path, size: int, problem: OSError) -> BitDewError:
    full = problem.errno in {errno.ENOSPC, errno.EDQUOT}
    return error(
        "storage.full" if full else "storage.failed",
        f"The boot disk {path} could not be written",
        why=problem.strerror or str(problem),
        do="" if full else "Check that its folder exists and may be written to.",
        path=str(path),
        size=size,
    )


def _partition(size: int) -> bytes:
    """One active partition over all sectors but the first: some BIOSes boot no disk without one."""
    start, sectors = 1, min(size // SECTOR - 1, 0xFFFF_FFFF)
    first = bytes((0, 2, 0))  # cylinder 0, head 0, sector 2
    last = bytes((0xFE, 0xFF, 0xFF))  # "beyond what cylinders can say": the sector numbers count
    kind = 0xDA  # not a file system
    return bytes((0x80, *first, kind, *last)) + start.to_bytes(4, "little") + sectors.to_bytes(4, "little")


class _Program:
    """16-bit machine code in the making: bytes, labels, and the places that wait for a label's address."""

    def __init__(self) -> None:
        self._code = bytearray()
        self._labels: dict[str, int] = {}
        self._near: list[tuple[int, str]] = []
        self._absolute: list[tuple[int, str]] = []

    def emit(self, *code: int) -> None:
        """Append these bytes."""
        self._code += bytes(code)

    def data(self, content: bytes) -> None:
        """Append bytes that are not instructions."""
        self._code += content

    def label(self, name: str) -> None:
        """Name the place of the next byte."""
        self._labels[name] = len(self._code)

    def near(self, name: str) -> None:
        """Append the distance from the next instruction to a label, one signed byte."""
        self._near.append((len(self._code), name))
        self._code.append(0)

    def address(self, name: str) -> None:
        """Append a label's address, two bytes."""
        self._absolute.append((len(self._code), name))
        self._code += bytes(2)

    def out_byte(self, port: int, value: int) -> None:
        """Write one byte to a port."""
        self.emit(0xBA, *_word(port))  # mov dx, port
        self.emit(0xB0, value)  #         mov al, value
        self.emit(0xEE)  #                out dx, al

    def out_word(self, port: int, value: int) -> None:
        """Write two bytes to a port."""
        self.emit(0xBA, *_word(port))  #  mov dx, port
        self.emit(0xB8, *_word(value))  # mov ax, value
        self.emit(0xEF)  #                out dx, ax

    def wait_for(self, flag: int, label: str) -> None:
        """Wait until the serial port shows `flag`, but 65535 times at most: a machine without the port goes on."""
        self.emit(0xBA, *_word(_LINE_STATUS))  # mov dx, line status
        self.emit(0xB9, 0xFF, 0xFF)  #           mov cx, 65535
        self.label(label)
        self.emit(0xEC)  #                       in al, dx
        self.emit(0xA8, flag)  #                 test al, flag
        self.emit(0xE1)  #                       loopz label: again while the flag is clear and cx lasts
        self.near(label)

    def assembled(self) -> bytes:
        """The code with every address filled in."""
        code = bytearray(self._code)
        for place, name in self._near:
            code[place : place + 1] = (self._labels[name] - (place + 1)).to_bytes(1, "little", signed=True)
        for place, name in self._absolute:
            code[place : place + 2] = (_ORIGIN + self._labels[name]).to_bytes(2, "little")
        if len(code) > _CODE_END:  # can't happen with a line of LONGEST_LINE; a test holds that
            raise error("internal", f"The boot sector's code has {len(code)} bytes, {_CODE_END} fit")
        return bytes(code)


def _word(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _program(line: bytes, *, power_off: bool) -> _Program:
    """Say the line, then power off, or stay."""
    p = _Program()
    _begin(p)
    _open_serial_port(p)
    _say(p)
    if power_off:
        _power_off(p)
    p.label("stay")
    p.emit(0xFB)  # sti: an interrupt may wake it, so that the host's CPU rests in between
    p.emit(0xF4)  # hlt
    p.emit(0xEB)  # jmp stay
    p.near("stay")
    p.label("line")
    p.data(line + b"\r\n\0")
    if power_off:
        p.label("shutdown")
        p.data(b"Shutdown")
    return p


def _begin(p: _Program) -> None:
    """Make the segments known: BIOSes differ in how they jump here."""
    p.emit(0xEA)  #             jmp 0:begin
    p.address("begin")
    p.emit(0x00, 0x00)
    p.label("begin")
    p.emit(0x31, 0xC0)  #       xor ax, ax
    p.emit(0x8E, 0xD8)  #       mov ds, ax
    p.emit(0x8E, 0xC0)  #       mov es, ax
    p.emit(0x8E, 0xD0)  #       mov ss, ax
    p.emit(0xBC, *_word(_ORIGIN))  # mov sp, 0x7C00: the stack grows down from the code
    p.emit(0xFC)  #             cld: strings are read upwards


def _open_serial_port(p: _Program) -> None:
    """The registers of the 8250 family, at 115200 baud, 8 data bits, no parity, 1 stop bit."""
    p.out_byte(_COM1 + 1, 0x00)  # no interrupts
    p.out_byte(_COM1 + 3, 0x80)  # the next two set the baud rate
    p.out_byte(_COM1 + 0, 0x01)  # 115200 / 1, low byte
    p.out_byte(_COM1 + 1, 0x00)  # high byte
    p.out_byte(_COM1 + 3, 0x03)  # 8N1, and data again
    p.out_byte(_COM1 + 2, 0xC7)  # queues on and emptied
    p.out_byte(_COM1 + 4, 0x03)  # terminal ready, request to send


def _say(p: _Program) -> None:
    """Each character of the line to the screen and to the serial port."""
    p.emit(0xBE)  #             mov si, line
    p.address("line")
    p.label("next")
    p.emit(0xAC)  #             lodsb
    p.emit(0x84, 0xC0)  #       test al, al
    p.emit(0x74)  #             jz said: a zero byte ends the line
    p.near("said")
    p.emit(0x50)  #             push ax
    p.emit(0xB4, 0x0E)  #       mov ah, 0x0E: teletype output
    p.emit(0xBB, 0x07, 0x00)  # mov bx, 7: page 0, light grey
    p.emit(0x56)  #             push si: not every BIOS preserves it
    p.emit(0xCD, 0x10)  #       int 0x10
    p.emit(0x5E)  #             pop si
    p.wait_for(_HOLDING_EMPTY, "full")
    p.emit(0x58)  #             pop ax
    p.emit(0xBA, *_word(_COM1))  # mov dx, COM1
    p.emit(0xEE)  #             out dx, al
    p.emit(0xEB)  #             jmp next
    p.near("next")
    p.label("said")
    p.wait_for(_ALL_SENT, "sending")  # power must not go while the last bytes are still in the port


def _power_off(p: _Program) -> None:
    """Every way that a virtual PC knows, one after the other; those that it does not know do nothing.

    The ACPI ports are where the firmwares of QEMU and VirtualBox put the power management block (PM1a control). The
    value is SLP_EN with the sleep type that the same firmware's tables give for "soft off".
    """
    p.out_word(0x604, 0x2000)  #  QEMU
    p.out_word(0xB004, 0x2000)  # QEMU before 2.0, Bochs
    p.emit(0xBE)  #               mov si, shutdown: VirtualBox's and Bochs' own BIOSes listen for this word
    p.address("shutdown")
    p.emit(0xB9, *_word(8))  #    mov cx, 8
    p.emit(0xBA, *_word(0x40F))  # mov dx, 0x40F
    p.emit(0xF3, 0x6E)  #         rep outsb
    p.out_word(0x4004, 0x3400)  # VirtualBox with ACPI
    p.emit(0xB8, *_word(0x5301))  # mov ax, 0x5301: connect to APM, the interface before ACPI
    p.emit(0x31, 0xDB)  #         xor bx, bx: for the whole machine
    p.emit(0xCD, 0x15)  #         int 0x15
    p.emit(0xB8, *_word(0x530E))  # mov ax, 0x530E: speak APM 1.2
    p.emit(0x31, 0xDB)  #         xor bx, bx
    p.emit(0xB9, *_word(0x0102))  # mov cx, 1.2
    p.emit(0xCD, 0x15)  #         int 0x15
    p.emit(0xB8, *_word(0x5307))  # mov ax, 0x5307: set the power state
    p.emit(0xBB, *_word(1))  #    mov bx, 1: of all devices
    p.emit(0xB9, *_word(3))  #    mov cx, 3: to off
    p.emit(0xCD, 0x15)  #         int 0x15
