"""The disk's first sector."""

import struct

import pytest

from bitdew.core.errors import BitDewError
from bitdew.disks.image import SIGNATURE, boot_record


def test_the_first_sector_has_code_signature_and_two_partitions():
    sector = boot_record(b"\xfa" * 440, [(0x80, 0x0E, 1, 20), (0, 0x83, 21, 60)])
    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"
    assert sector[:440] == b"\xfa" * 440
    assert struct.unpack_from("<I", sector, 440) == (SIGNATURE,)
    first, second = (struct.unpack_from("<B3sB3sII", sector, 446 + 16 * n) for n in range(2))
    assert (first[0], first[2], first[4:]) == (0x80, 0x0E, (2048, 40960))
    assert (second[0], second[2], second[4:]) == (0, 0x83, (43008, 122880))


def test_code_longer_than_its_place_does_not_reach_the_table():
    assert boot_record(b"\xff" * 512, [])[446:510] == bytes(64)


def test_more_than_two_tebibytes_are_refused():
    with pytest.raises(BitDewError, match="more than it can tell"):
        boot_record(b"", [(0, 0x83, 1, 2 * 1024 * 1024)])
