"""What a job can't do to the host that runs it: tried by real processes."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bitdew.worker.jobs.running import Runner, RunningJob
from bitdew.worker.jobs.runs import Isolation, Run, RunReport
from bitdew.worker.jobs.warden import plan
from bitdew.worker.jobs.warden.syscalls import filter_of

from bitdew.core.errors import BitDewError

from .conftest import python, shell

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="jobs run on Linux")
Report = Callable[[Run], Awaitable[RunReport]]

WITHOUT = {
    "all": frozenset(),
    "no-landlock": frozenset({plan.LANDLOCK}),
    "no-namespaces": frozenset(
        {plan.PIDS, plan.NETWORK, plan.USER_NAMESPACE} | ({plan.MOUNTS} if os.getuid() else set())
    ),
}


@pytest.fixture(params=WITHOUT)
async def held(request: pytest.FixtureRequest, runner: Runner, tmp_path: Path) -> frozenset[str]:
    """Each combination of means that by itself is enough; the means that are then taken."""
    found = await runner.isolation(tmp_path)
    taken = replace(found, means=found.means - WITHOUT[request.param])
    if taken.lacks:
        pytest.skip(f"without {request.param[3:]}, {taken.lacks[0]} on this system")
    runner._probed = taken
    return taken.means


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file as volunteers have them: its owner's alone."""
    path = tmp_path / "secret"
    path.write_text("the volunteer's")
    path.chmod(0o600)
    return path


async def test_this_system_can_confine_jobs(runner: Runner, tmp_path: Path) -> None:
    isolation = await runner.isolation(tmp_path)
    if isolation.lacks:
        pytest.skip(f"this system can't: {isolation}")
    assert await runner.isolation(tmp_path) == isolation
    assert os.listdir(tmp_path) == []


async def test_a_job_reads_and_changes_nothing_of_the_volunteers(
    held: frozenset[str], report_of: Report, secret: Path
) -> None:
    script = f"""
import os
tries = [
    lambda: open({str(secret)!r}).read(),
    lambda: open({str(secret)!r}, "w"),
    lambda: os.truncate({str(secret)!r}, 0),
    lambda: os.unlink({str(secret)!r}),
    lambda: os.mkdir({str(secret.parent / "made")!r}),
    lambda: open("/etc/made-by-a-job", "w"),
    lambda: os.mkdir("/var/made-by-a-job"),
    lambda: os.link({str(secret)!r}, "mine"),
    lambda: open("../spec").read(),
    lambda: open("../report", "w"),
    lambda: os.chroot("/tmp"),
    lambda: os.setuid(0 if os.getuid() else 1),
]
for number, attempt in enumerate(tries):
    try: attempt()
    except OSError: continue
    print("number", number, "was possible")
"""
    report = await report_of(python(secret.parent, script))
    assert report.succeeded, report
    assert report.tail == b""
    assert await asyncio.to_thread(secret.read_text) == "the volunteer's"


async def test_a_job_ends_nobody_elses_processes(held: frozenset[str], report_of: Report, tmp_path: Path) -> None:
    other = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        script = f"""
import os, signal
for pid in ({other.pid}, {os.getpid()}, os.getppid(), -1):
    try: os.kill(pid, signal.SIGKILL if pid == {other.pid} else 0)
    except OSError: continue
    print(pid, "can be reached") if pid != -1 else None
"""
        report = await report_of(python(tmp_path, script))
        assert report.succeeded, report
        assert other.returncode is None
        reached = {int(line.split()[0]) for line in report.tail.decode().splitlines()}
        assert not reached & {other.pid, os.getpid()}, report.tail
    finally:
        other.kill()
        await other.wait()


async def test_a_job_sees_nothing_but_the_system_and_its_own(runner: Runner, report_of: Report, tmp_path: Path) -> None:
    if plan.MOUNTS not in (await runner.isolation(tmp_path)).means:
        pytest.skip("this system gives a job no view of its own")
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool/data").write_text("of the tool")
    script = f"""
import os
print(sorted(set(os.listdir("/")) - {{"lib", "lib32", "lib64", "libx32", "sbin", "nix", "gnu"}}))
print(sorted(os.listdir("/dev")), os.listdir("/var"), os.listdir({str(tmp_path)!r}))
print(open({str(tmp_path / "tool/data")!r}).read(), os.statvfs("/usr").f_flag & os.ST_RDONLY,
open("/proc/1/comm").read())
"""
    run = python(tmp_path, script)
    report = await report_of(replace(run, readable=(*run.readable, tmp_path / "tool")))
    assert report.succeeded, report
    tops, folders, rest = report.tail.decode().split("\n", 2)
    assert set(eval(tops)) <= {"bin", "dev", "etc", "job", "proc", "sys", "tmp", "usr", "var", "root"}  # noqa: S307
    assert folders == (
        "['fd', 'full', 'null', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'urandom', 'zero'] ['tmp'] ['tool']"
    )
    assert rest.startswith("of the tool 1 "), report


async def test_a_job_has_a_name_and_learns_no_others(runner: Runner, report_of: Report, tmp_path: Path) -> None:
    if plan.MOUNTS not in (await runner.isolation(tmp_path)).means:
        pytest.skip("this system gives a job no view of its own")
    script = "import getpass, os, pwd; print(getpass.getuser(), pwd.getpwuid(os.getuid())[0], len(pwd.getpwall()))"
    assert (await report_of(python(tmp_path, script))).tail == b"job job 2\n"


async def test_a_job_speaks_to_no_program_of_the_volunteers(
    held: frozenset[str], report_of: Report, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "bus"))
        server.listen()
        script = f"""
import socket
try: socket.socket(socket.AF_UNIX).connect({str(tmp_path / "bus")!r})
except OSError: print("refused")
"""
        assert (await report_of(python(tmp_path, script))).tail == b"refused\n"


async def test_a_job_asks_the_kernel_for_nothing_unusual(runner: Runner, report_of: Report, tmp_path: Path) -> None:
    if plan.FILTER not in (await runner.isolation(tmp_path)).means:
        pytest.skip("this system has no filter of system calls")
    script = """
import ctypes, os, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
def refused(*call):
    return libc.syscall(*call) == -1 and ctypes.get_errno() == 1
assert libc.unshare(0x10000000) == -1 and ctypes.get_errno() == 1
assert libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == -1 and ctypes.get_errno() == 1
assert refused(425, 1, None)
if os.uname().machine == "x86_64":
    assert refused(250, 0, -3, 1, 0, 0) and refused(56, 0x10000011, 0, 0, 0, 0)
thread = threading.Thread(target=lambda: print("threads", flush=True)); thread.start(); thread.join()
subprocess.run(["sh", "-c", "echo children"], check=True)
"""
    report = await report_of(python(tmp_path, script))
    assert report.tail == b"threads\nchildren\n", report


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
def test_the_filter_of_each_architecture_leads_to_an_end(machine: str) -> None:
    for local in (True, False):
        program = filter_of(machine, local_sockets=local)
        instructions = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
        assert instructions[-1] == (0x06, 0, 0, 0x7FFF0000)
        for at, (code, yes, no, _) in enumerate(instructions):
            if code in {0x15, 0x35, 0x45}:
                assert max(at + 1 + yes, at + 1 + no) < len(instructions)
    assert filter_of("vax", local_sockets=False) == b""


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_job_reaches_no_service_of_this_host(
    held: frozenset[str], report_of: Report, tmp_path: Path, listener: int
) -> None:
    script = f"""
import socket
try: socket.create_connection(("127.0.0.1", {listener}), 2)
except OSError: print("refused")
"""
    report = await report_of(python(tmp_path, script))
    if plan.NETWORK not in held and plan.LANDLOCK not in held:
        pytest.skip("this system can't keep jobs from the network")
    assert report.tail == b"refused\n", report


async def test_a_job_has_a_loopback_of_its_own(runner: Runner, report_of: Report, tmp_path: Path) -> None:
    if plan.NETWORK not in (await runner.isolation(tmp_path)).means:
        pytest.skip("this system has no network namespaces")
    script = """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), 5)
print("connected")
"""
    assert (await report_of(python(tmp_path, script))).tail == b"connected\n"


async def test_a_job_that_may_use_the_network_does(tmp_path: Path, listener: int) -> None:
    runner = Runner(network=True)
    script = f"import socket; socket.create_connection(('127.0.0.1', {listener}), 5); print('connected')"
    job = await runner.start(python(tmp_path, script))
    assert (await job.wait()).tail == b"connected\n"
    await runner.close()


async def test_a_job_works_in_its_own_folder_as_it_likes(
    held: frozenset[str], report_of: Report, tmp_path: Path
) -> None:
    script = """
import os, tempfile, multiprocessing
assert os.getcwd() == os.environ["HOME"] == os.environ["PWD"]
with tempfile.NamedTemporaryFile() as file: assert file.name.startswith(os.environ["TMPDIR"] + "/")
os.mkdir("a"); open("a/b", "w").write("x"); os.rename("a/b", "c"); os.symlink("c", "d"); os.truncate("c", 0)
os.mkfifo("pipe"); os.chmod("c", 0o600); os.unlink("d")
print("to stderr", file=open("/dev/stderr", "w"))
open("/dev/null", "w").write("x"); assert len(open("/dev/urandom", "rb").read(4)) == 4
assert os.path.exists(f"/proc/{os.getpid()}/stat") and os.readlink("/proc/self") == str(os.getpid())
"""
    run = python(tmp_path, script)
    report = await report_of(run)
    assert report.succeeded, report
    assert report.tail == b"to stderr\n"
    assert stat.S_IMODE((run.work / "c").stat().st_mode) == 0o600


async def test_nothing_of_the_worker_comes_with_the_command(
    report_of: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITDEW_SECRET", "x")
    monkeypatch.setenv("LD_PRELOAD", "")
    opened = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(opened, True)
    script = """
import os, resource, sys, signal
print(sorted(os.environ))
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1], os.readlink("/proc/self/fd/0"), os.isatty(0))
print(oct(os.umask(0)), os.getpriority(os.PRIO_PROCESS, 0), resource.getrlimit(resource.RLIMIT_CORE))
print([s.name for s in signal.valid_signals() if hasattr(s, "name") and signal.getsignal(s) == signal.SIG_IGN])
print("NoNewPrivs:\\t1" in open("/proc/self/status").read(), os.getsid(0) == os.getpid())
"""
    run = python(tmp_path, script)
    run = Run(run.uid, 1, run.argv, run.program, run.directory, {"GIVEN": "1"}, run.limits, run.readable)
    report = await report_of(run)
    os.close(opened)
    names, files, modes, ignored, rest = report.tail.decode().splitlines()
    assert set(eval(names)) - {"LC_CTYPE"} == {  # noqa: S307 - our own script printed it
        "GIVEN",
        "HOME",
        "LANG",
        "LOGNAME",
        "OMP_NUM_THREADS",
        "PATH",
        "PWD",
        "TMPDIR",
        "USER",
    }
    assert files == "[0, 1, 2] /dev/null False"
    assert modes == "0o77 19 (0, 0)"
    assert set(eval(ignored)) <= {"SIGPIPE", "SIGXFSZ"}, "which Python itself ignores"  # noqa: S307
    assert rest == "True True"


async def test_a_host_that_can_not_confine_jobs_runs_none(runner: Runner, tmp_path: Path) -> None:
    runner._probed = Isolation(frozenset(), why="Operation not permitted")
    run = shell(tmp_path, "true")
    with pytest.raises(BitDewError, match=r"could read .* Operation not permitted") as refused:
        await runner.start(run)
    assert refused.value.key == "job.unconfined"
    assert await runner.recover(run.directory) is None
    runner.anything = True
    assert (await (await runner.start(run)).wait()).succeeded, "in a machine, the machine is what confines"


@pytest.mark.parametrize(
    ("means", "landlock", "lacking"),
    [
        ({plan.LANDLOCK, plan.FILTER}, 7, 0),
        ({plan.LANDLOCK}, 7, 1),
        ({plan.LANDLOCK, plan.FILTER}, 3, 1),
        ({plan.LANDLOCK, plan.FILTER}, 2, 2),
        ({plan.USER_NAMESPACE, plan.PIDS, plan.MOUNTS}, 0, 0),
        ({plan.USER_NAMESPACE, plan.MOUNTS}, 0, 1),
        ({plan.OWN_USER}, 0, 0),
        (set(), 7, 4),
    ],
)
def test_what_does_not_hold_is_told(means: set[str], landlock: int, lacking: int) -> None:
    assert len(Isolation(frozenset(means), landlock).lacks) == lacking


async def test_a_program_in_the_jobs_own_folder_runs_in_machines_only(
    runner: Runner, start: Callable[[Run], Awaitable[RunningJob]], tmp_path: Path
) -> None:
    if plan.LANDLOCK not in (await runner.isolation(tmp_path)).means:
        pytest.skip("only Landlock can tell the folders that programs may come from")
    script = "printf '#!/bin/sh\\necho own' > own; chmod +x own; ./own"
    assert (await (await start(shell(tmp_path, script))).wait()).code == 126
    machine = Runner(anything=True)
    assert (await (await machine.start(shell(tmp_path, script))).wait()).tail == b"own\n"
    await machine.close()


async def test_limits_of_the_kernel_hold_for_each_process(report_of: Report, tmp_path: Path) -> None:
    script = "import resource as r; print(r.getrlimit(r.RLIMIT_FSIZE)[0], r.getrlimit(r.RLIMIT_NOFILE)[0] <= 4096)"
    report = await report_of(python(tmp_path, script, disk=123456))
    assert report.tail == b"%d True\n" % (123456 + 2**20)
