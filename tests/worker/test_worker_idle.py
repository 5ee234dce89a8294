"""What an idle worker does without: modules that it would hold in memory for nothing."""

from __future__ import annotations

import subprocess
import sys

LEFT_OUT = {
    "alembic",
    "asyncpg",
    "bitdew.composition",
    "cloudpickle",
    "fsspec",
    "multiprocessing",
    "prometheus_client",
    "pycdlib",
    "sqlalchemy",
}
"""Each takes a megabyte or more. What needs one imports it when it is needed."""


def test_a_worker_that_only_waits_imports_nothing_that_others_need():
    code = "import sys, bitdew.cli.main, bitdew.worker.daemon, bitdew.worker.enrol; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert LEFT_OUT & set(done.stdout.split()) == set()
