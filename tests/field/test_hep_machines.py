"""HEP jobs in machines that the grid boots for them, whole: `examples/root-hep` with uproot in place of ROOT.

The disk is built by its recipe and kept between runs, in the folder that BITDEW_DISKS names; CI builds it beside other
things, and then it has to be there (BITDEW_REQUIRE_HEP).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

import psutil
import pytest

from bitdew.core.errors import BitDewError

pytestmark = [
    pytest.mark.field,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the guest's Python is 3.11, and so the wheels are"),
]

CASE = Path(__file__).parent.parent.parent / "examples/root-hep"
CACHE = Path(os.environ.get("BITDEW_DISKS", "/var/cache/bitdew-test/disks"))
REQUIRED = os.environ.get("BITDEW_REQUIRE_HEP") == "1"
EVENTS = 20_000
PARTS = 4


@pytest.fixture(scope="module")
def case():
    """The example's program."""
    spec = importlib.util.spec_from_file_location("root_hep_run", CASE / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
    sys.path.remove(str(CASE))


@pytest.fixture(scope="module")
def disk(case) -> Path:
    """The disk with HEP's packages."""
    if shutil.which("qemu-system-x86_64") is None:
        assert os.environ.get("BITDEW_REQUIRE_QEMU") != "1"
        pytest.skip("QEMU is not installed")
    try:
        return case.built(case.LIGHT, CACHE)
    except (BitDewError, OSError) as fault:
        if REQUIRED:
            raise
        pytest.skip(f"the disk can't be built: {fault}")


def test_jobs_wait_for_machines_that_the_scheduler_boots_for_them_and_retires(case, disk, tmp_path, capsys):
    out = tmp_path / "results"
    words = ["--light", "--provision", "--disk", disk, "--out", out, "--events", EVENTS, "--parts", PARTS]
    chosen = case.arguments([*map(str, words)])
    with case.grid(chosen.machines, "--machines-idle", chosen.idle) as bitdew:
        jobs = case.run(bitdew, case.LIGHT, chosen)
        (made,) = bitdew("vm", "deployments")["deployments"]
        made = bitdew("vm", "show", made["uid"])
        done = bitdew("job", "ls")["jobs"]
        folder = str(bitdew.folder)
    told = capsys.readouterr().out
    assert "none can run it now: it waits" in told
    assert "machines are deployed for it from the disk hep, 2 at most" in told

    machines = [f"vm-{one['uid'][:8]}" for one in made["machines"]]
    assert (made["disk"], made["count"], len(machines)) == ("hep", 0, 2)
    assert {one["state"] for one in made["machines"]} == {"stopped"}
    assert jobs.hosts["analysis"] == sorted(machines)
    assert {tuple(jobs.hosts[kind]) for kind in ("generate", "merge")} <= {(m,) for m in machines} | {
        tuple(sorted(machines))
    }
    assert [job["state"] for job in done] == ["done"] * (2 + PARTS + 1)
    parts = {one["path"] for job in done if job["name"] == "analysis" for one in job["results"]}
    assert parts == {f"part-{number}.{kind}" for number in range(PARTS) for kind in ("png", "root")}

    assert (out / "spectrum.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert (out / "spectrum.root").read_bytes().startswith(b"root")
    counted, mean, wrong = re.search(r"(\d+) events, Z mass ([\d.]+) \+- ([\d.]+) GeV", told).groups()
    # Those in the histogram's range, of the nine tenths that have two muons; the peak lies where it was put.
    assert 0.7 * EVENTS < int(counted) < 0.9 * EVENTS
    assert abs(float(mean) - 91.19) < 5 * float(wrong) < 0.5

    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if folder in " ".join(p.info["cmdline"] or ())]
    assert left == []
    assert not Path(folder).exists()
