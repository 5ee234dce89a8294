"""Guests of one sector that use what a machine is given: one reads its CD, one sends a datagram into its network.

No operating system is needed to see whether the seed and the network are there, and VirtualBox, interpreted in tests,
would take too long to boot one.
"""

from __future__ import annotations

import struct
from pathlib import Path

from bitdew.bootdisk import _Program, boot_sector

SIZE = 1024 * 1024
LABEL_LENGTH = 32
"""Characters of an ISO's volume label, blanks included."""

_CD = 0x170  # the second IDE channel, where both drivers attach the seed
_ISO_BLOCK = 16  # an ISO's first volume descriptor
_READ = bytes((0x28, 0, *_ISO_BLOCK.to_bytes(4, "big"), 0, 0, 1, 0, 0, 0))  # one block, in SCSI's words
_HOST, _GUEST = bytes((10, 0, 2, 2)), bytes((10, 0, 2, 15))


def write_disk(path: Path, sector: bytes) -> Path:
    """A raw disk with this first sector, and nothing else on it."""
    path.write_bytes(sector + bytes(SIZE - len(sector)))
    return path


def label_reader() -> bytes:
    """A sector that writes the volume label of the machine's CD to the first serial port, and then stands still."""
    program = _Program()
    _code(program, "fa fc 31c0 8ed8 8ec0")  # no interrupts; all segments at 0
    program.label("again")
    program.out_byte(_CD + 6, 0xA0)  # the channel's first drive
    _wait(program, "free", busy=True)
    program.out_byte(_CD + 1, 0)
    program.out_byte(_CD + 4, 0)  # 2048 bytes at a time
    program.out_byte(_CD + 5, 8)
    program.out_byte(_CD + 7, 0xA0)  # a packet follows
    _wait(program, "taken", busy=True, ready=True)
    _code(program, "ba", _CD, "b90600 be")  # mov dx, data; mov cx, 6; mov si, packet
    program.address("packet")
    _code(program, "f36f")  # rep outsw
    _wait(program, "answered", busy=True, again=True, ready=True)
    _code(program, "ba", _CD, "b90004 bf0080 f36d")  # 1024 words to 0x8000
    _code(program, "be2880 b9", LABEL_LENGTH)  # the label is at byte 40
    program.label("put")
    _code(program, "51")  # push cx, which the wait uses
    program.wait_for(0x20, "room")
    _code(program, "59 baf803 ac ee e2")  # pop cx; mov dx, port; lodsb; out dx, al; loop
    program.near("put")
    _stand_still(program)
    program.label("packet")
    program.data(_READ)
    return _sector(program)


def datagram_sender(port: int, text: bytes) -> bytes:
    """A sector that sends one UDP datagram to 10.0.2.2, by a virtio network card, and then stands still."""
    frame = bytes(10) + _frame(port, text)  # behind the header that virtio wants
    program = _Program()
    _code(program, "fa fc 31c0 8ed8 66bb00000080")  # ebx: the first device on the PCI bus
    program.label("scan")
    _code(program, "6689d8 baf80c 66ef bafc0c 66ed 663df41a0010 74")  # is it 1af4:1000?
    program.near("found")
    _code(program, "6681c300080000 eb")  # the next one
    program.near("scan")
    program.label("found")
    _code(program, "6689d8 b004 baf80c 66ef bafc0c ed 83c805 ef")  # ports and DMA on
    _code(program, "6689d8 b010 baf80c 66ef bafc0c ed 24fc 89c6")  # si: its ports
    _code(program, "8d5412 30c0 ee b003 ee")  # status: reset; then a driver is there
    _code(program, "8d5404 6631c0 66ef")  # no features
    _code(program, "8d540e b80100 ef 8d540c ed 89c1 c1e104")  # the queue to send; cx: 16 times its length
    _code(program, "b80010 8ec0 51 31ff 31c0 b90080 f3ab 59")  # es: 0x1000, 64 KiB of zeros
    _code(program, "8d5408 66b810000000 66ef 8d5412 b007 ee")  # the queue is there; status: ready
    _code(program, "6626c7060000")  # its first entry: where
    program.address("frame")
    _code(program, "0000 6626c7060800", len(frame), "0000")  # how long
    _code(program, "89cf 26c7450201 00 8d5410 b80100 ef")  # one entry is to be sent; send
    _stand_still(program)
    program.label("frame")
    program.data(frame)
    return _sector(program)


def _code(program: _Program, *parts: str | int) -> None:
    """Append machine code: bytes in hexadecimal, and words."""
    for part in parts:
        program.data(struct.pack("<H", part) if isinstance(part, int) else bytes.fromhex(part))


def _wait(program: _Program, label: str, *, busy: bool = False, again: bool = False, ready: bool = False) -> None:
    """Wait until the CD drive is not busy, begin again if it refused, and wait until it is ready for bytes."""
    _code(program, "ba", _CD + 7)
    program.label(label)
    _code(program, "ec")
    for wanted, code, target in ((busy, "a880 75", label), (again, "a801 75", "again"), (ready, "a808 74", label)):
        if wanted:
            _code(program, code)
            program.near(target)


def _stand_still(program: _Program) -> None:
    program.label("end")
    _code(program, "f4 eb")  # hlt; jmp
    program.near("end")


def _sector(program: _Program) -> bytes:
    """The first sector of a disk, with this program instead of the boot disk's own."""
    code = program.assembled()
    assert len(code) <= 440
    whole = boot_sector("x", size=SIZE)
    return code.ljust(440, b"\0") + whole[440:]


def _frame(port: int, text: bytes) -> bytes:
    """An Ethernet frame to everybody, with one datagram for the host's loopback."""
    udp = struct.pack(">HHHH", 4000, port, 8 + len(text), 0) + text
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + _GUEST + _HOST
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:]
    return b"\xff" * 6 + bytes.fromhex("525400123456") + b"\x08\x00" + head + udp
