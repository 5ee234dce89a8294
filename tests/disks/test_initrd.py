"""The kernel's first file system: Linux's own form, and modules behind what they need."""

import gzip
import subprocess

import pytest

from bitdew.disks.initrd import make_initrd, module_order


def module(folder, name, *needs):
    path = folder / f"{name}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0")
    return path


def test_modules_stand_behind_what_they_depend_on(tmp_path):
    ring = module(tmp_path / "a", "virtio_ring")
    core = module(tmp_path / "b", "virtio", "virtio_ring")
    disk = module(tmp_path / "c", "virtio-blk", "virtio", "virtio_ring")
    assert module_order(tmp_path, ("virtio_blk", "virtio", "not_there")) == [ring, core, disk]


def test_modules_that_need_each_other_are_no_endless_matter(tmp_path):
    one, two = module(tmp_path, "one", "two"), module(tmp_path, "two", "one")
    assert module_order(tmp_path, ("one",)) == [two, one]


def test_the_archive_is_the_same_every_time_and_holds_every_file(tmp_path):
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"program!")
    made = make_initrd(busybox, b"#!script", [module(tmp_path, "ext")])
    assert made == make_initrd(busybox, b"#!script", [tmp_path / "ext.ko"])
    assert entries(gzip.decompress(made)) == {
        **dict.fromkeys(("bin", "dev", "lib", "new", "proc", "ro", "rw", "sys"), (0o040755, b"")),
        "bin/busybox": (0o100755, b"program!"),
        "init": (0o100755, b"#!script"),
        "lib/000-ext.ko": (0o100644, (tmp_path / "ext.ko").read_bytes()),
    }


def entries(data):
    """What cpio(5) says of the form "newc", read anew."""
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        numbers = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, length = numbers[1], numbers[6], numbers[11]
        name = data[at + 110 : at + 110 + length - 1].decode()
        at += -(-(110 + length) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, data[at : at + size])
        at += -(-size // 4) * 4


@pytest.mark.parametrize("name", ["initrd.sh", "init.sh", "lease.sh"])
def test_the_scripts_are_ones_that_a_shell_can_read(name):
    from bitdew.disks.tree import guest_script

    done = subprocess.run(["sh", "-n"], input=guest_script(name), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
