"""What a shell completes: by the protocol of each shell, and in a real bash, zsh and fish, where they are."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bitdew.cli import names

PROGRAM = str(Path(sys.executable).with_name("bitdew"))


@pytest.fixture
def completed(home):
    """What bash is told for the words typed so far, the last of which is being completed."""

    def ask(*words, shell="bash", **environment):
        line = " ".join(["bitdew", *words])
        protocol = {
            "_BITDEW_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BITDEW_")}
        done = subprocess.run(
            [PROGRAM],
            env=clean | {"BITDEW_HOME": str(home)} | protocol | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout.split("\n")[:-1] if shell == "bash" else done.stdout

    return ask


@pytest.fixture
def grid(bitdew, daemon, home, tmp_path):
    """A service with two data, one of them a disk, a host and an attribute."""
    service = daemon("serve", "--port", 0, home=home)
    token = bitdew("token", "create", "--role", "worker", "--json").document["token"]
    joined = ["--token", token, "--name", "pc-1", "--home", tmp_path / "pc-1", "--listen", "127.0.0.1"]
    daemon("worker", "join", service.ready["url"], *joined, home=home)
    (tmp_path / "x").write_bytes(b"x" * 1000)
    bitdew("data", "put", tmp_path / "x", "--name", "hep-inputs", "--replica", "0")
    bitdew("disk", "make", tmp_path / "d.raw", "--line", "hello", "--size", "1MB")
    bitdew("disk", "add", tmp_path / "d.raw", "--name", "tiny", "--replica", "0")
    bitdew("attr", "set", "thrice", "--replica", "3")
    return service


def test_commands_and_options_are_completed(completed):
    assert {"put", "get", "ls", "show", "where", "watch", "rm"} <= set(completed("data", ""))
    assert completed("da") == ["data"]
    assert "--profile" in completed("data", "ls", "--pro")


def test_names_come_from_the_service(completed, grid, bitdew):
    assert set(completed("data", "get", "")) == {"hep-inputs", "tiny"}
    assert completed("data", "get", "hep") == ["hep-inputs"]
    assert completed("disk", "show", "") == ["tiny"]
    assert completed("host", "show", "p") == ["pc-1"]
    assert completed("attr", "show", "") == ["thrice"]
    assert completed("data", "put", "x", "--attr", "") == ["thrice"]
    assert completed("data", "ls", "--profile", "") == ["default"]
    submitted = bitdew("job", "submit", "--json", "--", "nothing-has-this").document["jobs"][0]["uid"]
    assert completed("job", "cancel", submitted[:4]) == [submitted]
    assert completed("job", "submit", "--in", "hep") == ["hep-inputs"]
    machines = bitdew("vm", "deploy", "tiny", "--json").document
    assert completed("vm", "scale", "") == [machines["uid"]]
    assert set(completed("vm", "stop", "")) == {machines["uid"], *(one["uid"] for one in machines["machines"])}
    assert bitdew("token", "create", "--json", "--role", "user").document["uid"] in completed("token", "revoke", "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_what_stands_behind_a_name(completed, grid, shell):
    told = completed("data", "get", "", shell=shell)
    assert "hep-inputs" in told
    assert "1000 B" in told


def test_without_a_service_nothing_is_completed_and_nothing_is_said(completed, grid, tmp_path):
    assert completed("data", "get", "", BITDEW_HOME=str(tmp_path / "nowhere")) == [""]
    grid.close()
    for words in (["data", "get", ""], ["host", "show", ""], ["job", "cancel", "3"], ["vm", "stop", ""]):
        assert completed(*words) == [""]


def test_a_service_that_hangs_is_not_waited_for_long(completed, grid):
    grid.process.send_signal(19)  # SIGSTOP
    try:
        began = time.monotonic()
        assert completed("data", "get", "") == [""]
        assert time.monotonic() - began < 20 * names.SECONDS  # it would be ten and thirty seconds otherwise
    finally:
        grid.process.send_signal(18)


def shell_or_skip(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: its completion is tested by its protocol alone")
    return found


def script(shell, home):
    return subprocess.run(
        [PROGRAM],
        env=os.environ | {"BITDEW_HOME": str(home), "_BITDEW_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def run_in(shell, program, home, tmp_path):
    """What `program`, in the language of a shell, prints; `bitdew` is found by its name there."""
    file = tmp_path / f"program.{shell}"
    file.write_text(program)
    found = f"{Path(PROGRAM).parent}:{os.environ['PATH']}"
    environment = {"PATH": found, "BITDEW_HOME": str(home), "HOME": str(tmp_path), "TERM": "xterm"}
    command = [shell_or_skip(shell), *(["-f"] if shell == "zsh" else []), str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    return done.stdout + done.stderr


def test_a_real_bash_completes(grid, home, tmp_path):
    program = f"""{script("bash", home)}
COMP_WORDS=(bitdew data get hep) COMP_CWORD=3
_bitdew_completion bitdew
printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p bitdew
"""
    assert run_in("bash", program, home, tmp_path).splitlines() == [
        "hep-inputs",
        "complete -o default -F _bitdew_completion bitdew",
    ]


def test_the_script_of_the_shell_at_hand_is_shown_and_installed(home, tmp_path):
    shown = run_in("bash", "bitdew --show-completion; bitdew --install-completion", home, tmp_path)
    assert script("bash", home).strip() in shown
    assert "bash completion installed in" in shown
    assert "_bitdew_completion" in (tmp_path / ".bash_completions/bitdew.sh").read_text()


def test_a_real_fish_completes(grid, home, tmp_path):
    shell_or_skip("fish")
    program = f"{script('fish', home)}\ncomplete -C 'bitdew data get he'\n"
    assert [line.split("\t")[0] for line in run_in("fish", program, home, tmp_path).splitlines()] == ["hep-inputs"]


def test_a_real_zsh_takes_the_script_and_completes_on_a_terminal(grid, home, tmp_path):
    import pty
    import select

    zsh = shell_or_skip("zsh")
    (tmp_path / ".zshrc").write_text(
        f"PS1='ready> '; PATH={Path(PROGRAM).parent}:$PATH; autoload -Uz compinit; compinit -u\n{script('zsh', home)}"
    )
    child, terminal = pty.fork()
    if child == 0:
        environment = {"HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "BITDEW_HOME": str(home), "TERM": "dumb"}
        os.execve(zsh, ["zsh", "-i"], environment | {"PATH": os.environ["PATH"]})  # noqa: S606 (it is the shell)

    def until(wanted, seconds=60.0):
        seen, end = "", time.monotonic() + seconds
        while wanted not in seen:
            assert time.monotonic() < end, seen
            if select.select([terminal], [], [], 1.0)[0]:
                seen += os.read(terminal, 4096).decode(errors="replace")
        return seen

    try:
        until("ready> ")
        os.write(terminal, b"bitdew data get he\t")
        until("hep-inputs")
    finally:
        os.write(terminal, b"\x03exit\r")
        os.close(terminal)
        os.waitpid(child, 0)
