"""The CD by which a machine learns who it is: read back, and told to nobody else."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pycdlib
import pytest
from bitdew.worker.seed import seen_from_inside, write_seed
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdew.core.errors import HostError
from bitdew.hypervisor import check_seed
from bitdew.wire.models import MachineSeed

UID = "ab" * 16


def file_of(iso: Path, name: str) -> str:
    """A file of the CD. That a kernel reads it as well is shown by the field test of the worker's disk."""
    opened, found = pycdlib.PyCdlib(), io.BytesIO()
    opened.open(str(iso))
    try:
        opened.get_file_from_iso_fp(found, rr_path=f"/{name}")
    finally:
        opened.close()
    return found.getvalue().decode()


def test_a_machine_is_told_who_it_is_where_the_service_is_and_what_its_user_wants(tmp_path):
    path = tmp_path / "machine" / "seed.iso"
    write_seed(
        path, UID, "https://grid.example:8440", MachineSeed(token="bd1-secret", user_data="#!/bin/sh\necho hi\n")
    )
    check_seed(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    raw = path.read_bytes()
    assert raw[0x8028 : 0x8028 + 6].lower() == b"cidata"
    told = file_of(path, "meta-data").splitlines()
    assert told == [
        f"instance-id: {UID}",
        "local-hostname: vm-abababab",
        "bitdew-url: 'https://grid.example:8440'",
        "bitdew-token: bd1-secret",
    ]
    assert file_of(path, "user-data") == "#!/bin/sh\necho hi\n"


def test_without_a_network_it_hears_of_no_service(tmp_path):
    write_seed(tmp_path / "seed.iso", UID, "https://grid.example:8440", MachineSeed(user_data="x"))
    raw = (tmp_path / "seed.iso").read_bytes()
    assert b"grid.example" not in raw
    assert b"bitdew-token" not in raw


@settings(max_examples=15, deadline=None)
@given(text=st.text(alphabet=st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=3000))
def test_any_words_of_its_user_arrive_as_they_are(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("seed") / "seed.iso"
    write_seed(path, UID, "https://grid.example", MachineSeed(user_data=text))
    assert text.encode() in path.read_bytes()


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("https://127.0.0.1:8440", "https://10.0.2.2:8440"),
        ("https://localhost:8440", "https://10.0.2.2:8440"),
        ("https://[::1]:9", "https://10.0.2.2:9"),
        ("https://192.168.1.7:8440", "https://192.168.1.7:8440"),
        ("https://grid.example:8440", "https://grid.example:8440"),
    ],
)
def test_a_service_on_this_host_is_called_by_the_address_that_machines_see(url, inside):
    assert seen_from_inside(url) == inside


def test_a_seed_that_can_not_be_written_is_told(tmp_path):
    (tmp_path / "machine").write_text("a file is in the way")
    with pytest.raises(HostError) as caught:
        write_seed(tmp_path / "machine" / "seed.iso", UID, "https://grid.example", MachineSeed())
    assert caught.value.key == "storage.failed"
