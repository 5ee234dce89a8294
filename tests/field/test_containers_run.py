"""What the compose file and the guide tell an operator to run, run without a container engine: by the same words.

The service reaches a database that asks for a password, over its socket; its health check answers; Prometheus gets its
figures; a backup is taken; it stops in order. That an engine builds the image is for whoever has one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bitdew.testing.postgres import PostgresServer

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl"),
]
ROOT = Path(__file__).parents[2]
SERVICE: dict[str, Any] = yaml.safe_load((ROOT / "examples/container/compose.yaml").read_text())["services"]["service"]
GUIDE = (ROOT / "docs/guides/operator.md").read_text()

CURL = {"--cacert": "ca_file", "--cert": "cert_file", "--key": "key_file"}


def filled(text: str, variables: dict[str, str]) -> str:
    """`text` with its variables, as compose fills them in: `${NAME:-default}` and `${NAME:?what is missing}`."""
    return re.sub(r"\$\{(\w+):[-?]([^}]*)\}", lambda found: variables.get(found[1], found[2]), text)


async def protect(server: PostgresServer, password: str) -> None:
    """Have a database `bitdew`, whose user is asked for a password also at the socket."""
    import asyncpg

    connection = await asyncpg.connect(user="postgres", host=str(server.folder), database="postgres")
    await connection.execute(f"CREATE ROLE bitdew LOGIN PASSWORD '{password}'")
    await connection.execute("CREATE DATABASE bitdew OWNER bitdew")
    await connection.close()
    rules = server.folder / "data/pg_hba.conf"
    rules.write_text("local all bitdew scram-sha-256\n" + rules.read_text())
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)


@pytest.fixture
def bitdew(tmp_path: Path) -> list[str]:
    """How the container's `bitdew` is called here."""
    return [sys.executable, "-P", "-m", "bitdew"]


@pytest.fixture
def environment(own_postgres: PostgresServer, tmp_path: Path) -> dict[str, str]:
    """The container's environment, with this machine's places for those of its volumes and secrets."""
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "chown").symlink_to("/bin/true")  # the containers' users are not here
    path = f"{fake}:{os.environ['PATH']}"
    script = ["sh", str(ROOT / "examples/container/make-secrets"), str(tmp_path / "secrets")]
    subprocess.run(script, env={"PATH": path}, check=True, capture_output=True, timeout=30)
    asyncio.run(protect(own_postgres, (tmp_path / "secrets/password").read_text().strip()))
    told = {name: filled(value, {}) for name, value in SERVICE["environment"].items()}
    told["BITDEW_DATABASE"] = told["BITDEW_DATABASE"].replace("/var/run/postgresql", str(own_postgres.folder))
    told["PGPASSFILE"] = told["PGPASSFILE"].replace("/run/secrets", str(tmp_path / "secrets"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BITDEW_", "PG"))}
    return kept | told | {"BITDEW_HOME": str(tmp_path / "home")}


def test_what_the_containers_run_works_and_so_does_what_watches_it(
    bitdew: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    def ended(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*bitdew, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    check = SERVICE["healthcheck"]["test"]
    assert check[:2] == ["CMD", "bitdew"]
    assert ended(*check[2:]).returncode != 0  # it does not run yet

    variables = {"BITDEW_HOST": "127.0.0.1", "BITDEW_PORT": "0"}
    words = [filled(word, variables) for word in SERVICE["command"]]
    with (tmp_path / "service.log").open("wb") as log:
        serving = subprocess.Popen([*bitdew, *words], env=environment, stdout=subprocess.PIPE, stderr=log)
    try:
        assert serving.stdout is not None
        ready = json.loads(serving.stdout.readline())
        assert ready["ready"], (tmp_path / "service.log").read_text()[-2000:]
        assert ended(*check[2:]).returncode == 0
        told = json.loads(ended("token", "create", "--role", "user", "--note", "prometheus", "--json").stdout)
        joined = ended("user", "join", ready["url"], "--token", told["token"], "--profile", "prometheus")
        assert joined.returncode == 0, joined.stderr
        require_figures(ready["url"], tmp_path / "home/profiles/prometheus")
        require_curl(ready["url"], tmp_path / "home/profiles/default")
        backup = ended("backup", str(tmp_path / "backup.tar"))
        assert backup.returncode == 0, backup.stderr
        assert (tmp_path / "backup.tar").stat().st_size > 0
    finally:
        serving.send_signal(signal.SIGTERM)  # what an engine sends first
        serving.communicate(timeout=60)
    assert serving.returncode == 0
    assert ended(*check[2:]).returncode == 6


def require_figures(url: str, profile: Path) -> None:
    """Ask for the figures as the guide has Prometheus ask for them."""
    (block,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", GUIDE, flags=re.DOTALL)
    (job,) = yaml.safe_load(block)["scrape_configs"]
    assert set(job) == {"job_name", "scheme", "metrics_path", "static_configs", "tls_config"}
    tls = job["tls_config"]
    assert set(tls) == {"server_name", "ca_file", "cert_file", "key_file"}
    port = url.rpartition(":")[2]
    options = [word for name, key in CURL.items() for word in (name, str(profile / Path(tls[key]).name))]
    # As Prometheus does: the certificate is to be of `server_name`, whatever the address.
    asked = f"{job['scheme']}://{tls['server_name']}:{port}{job['metrics_path']}"
    text = curled([*options, "--connect-to", f"{tls['server_name']}:{port}:127.0.0.1:{port}", asked])
    assert "bitdew_leads 1.0" in text


def require_curl(url: str, profile: Path) -> None:
    """Ask whether it is well by the guide's line."""
    (line,) = [line for line in GUIDE.splitlines() if line.startswith("curl ")]
    host, _, port = url.removeprefix("https://").rpartition(":")
    line = line.replace("10.0.0.7:8440", f"{host}:{port}").replace("8440", port)
    line = line.replace("--cacert ca.pem", f"--cacert {profile / 'ca.pem'}")
    assert json.loads(curled(shlex.split(line)[1:]))["leads"] is True


def curled(words: list[str]) -> str:
    """What curl gets."""
    command = ["curl", "--silent", "--show-error", "--fail", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout
