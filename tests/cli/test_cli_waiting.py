"""A command that waits says why, once; and ends with a failure if what it waited for failed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from bitdew.bootdisk import write_boot_disk
from bitdew.cli import vm as vm_commands
from bitdew.cli import waiting
from bitdew.cli.output import Output
from bitdew.core.errors import error
from bitdew.core.ids import new_uid
from bitdew.core.states import MachineState
from bitdew.wire.models import DeploymentView, ErrorView, MachineView

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def quiet_for(monkeypatch, why):
    """Waiting as a command does, with a short patience."""
    monkeypatch.setattr(waiting, "QUIET_SECONDS", 0.05)
    async with waiting.saying_why(Output(as_json=False), why) as moved:
        yield moved


async def test_the_reason_is_told_once_and_only_when_there_is_one(monkeypatch, capsys):
    answers = [[], error("service.unreachable", "It is away"), ["because", "  host: full"], ["again"]]
    asked = asyncio.Event()

    async def why():
        answer = answers.pop(0)
        if len(answers) == 1:
            asked.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with quiet_for(monkeypatch, why):
        await asked.wait()
        await asyncio.sleep(0.2)
    assert capsys.readouterr().err == "because\n  host: full\n"
    assert answers == [["again"]]


async def test_nothing_is_told_while_something_moves(monkeypatch, capsys):
    async def why():
        return ["because"]

    async with quiet_for(monkeypatch, why) as moved:
        for _ in range(20):
            await asyncio.sleep(0.01)
            moved()
    assert capsys.readouterr().err == ""


def told(command, home, words):
    """What a command that waits writes on stderr until all `words` came; it is then interrupted. Its exit code too."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "bitdew", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"BITDEW_HOME": str(home)},
    )
    seen = ""
    try:
        while line := process.stderr.readline():
            seen += line
            if all(word in seen for word in words):
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, seen


def test_disk_add_and_vm_deploy_say_what_they_wait_for(bitdew, daemon, home, tmp_path):
    service = daemon("serve", "--port", 0, home=home)
    token = bitdew("token", "create", "--role", "worker", "--json").document["token"]
    place = ["--name", "pc-1", "--home", tmp_path / "pc-1", "--listen", "127.0.0.1"]
    daemon("worker", "join", service.ready["url"], "--token", token, *place, home=home)
    write_boot_disk(tmp_path / "d.raw", line="hello", size=2**20)

    add = ["disk", "add", tmp_path / "d.raw", "--name", "d", "--replica", 2, "--wait"]
    code, said = told(add, home, ["d waits for 1 more: "])
    assert (code, said.count("waits for")) == (130, 1), said

    while bitdew("disk", "show", "d", "--json").document["held"] != 1:
        pass
    code, said = told(["vm", "deploy", "d", "--memory", "900GB", "--wait"], home, ["900.0 GB", "pc-1: alive"])
    assert code == 130, said


@pytest.mark.parametrize(("state", "code"), [(MachineState.FAILED, 7), (MachineState.STOPPED, 0)])
def test_vm_deploy_fails_if_a_machine_failed(bitdew, monkeypatch, state, code):
    now = datetime.now(UTC)
    uid, deployment = new_uid(), new_uid()
    reason = ErrorView.of(error("hypervisor.failed", "It broke")) if state is MachineState.FAILED else None
    machine = MachineView(
        uid=uid,
        deployment=deployment,
        disk="d",
        host=None,
        host_name="pc",
        state=state,
        since=now,
        hypervisor="qemu",
        reason=reason,
    )
    made = DeploymentView(uid=deployment, disk="d", count=1, created=now, machines=[machine])
    monkeypatch.setattr(vm_commands, "ask", lambda *_: made)
    ended = bitdew("vm", "deploy", "d", "--wait", "--json")
    assert ended.code == code
    assert json.loads(ended.out)["machines"][0]["state"] == state
