"""`bitdew worker`: the volunteer's side. Join once, then run."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitdew.core.errors import error
from bitdew.core.units import parse_size

from . import (
    worker_activity,
    worker_bridge,
    worker_check,
    worker_leave,
    worker_limits,
    worker_service,
    worker_settings,
    worker_share,
)
from .options import Download, Home, Json, Quota, StopWithParent, Token, Upload, worker_home
from .output import Output, printable
from .running import configure_log, gap_in_output, run, stop_event
from .unhurried import unhurried

if TYPE_CHECKING:
    from bitdew.trust.identity import Identity
    from bitdew.worker.daemon import Worker
    from bitdew.worker.settings import WorkerSettings

app = typer.Typer(help="The volunteer's side: join a service, and run. Alone it means `run`.", rich_markup_mode=None)


worker_limits.add_to(app)
worker_activity.add_to(app)
worker_share.add_to(app)
worker_bridge.add_to(app)
worker_settings.add_to(app)
worker_check.add_to(app)
worker_leave.add_to(app)
worker_service.add_to(app)


@app.callback(invoke_without_command=True, epilog="Example: bitdew worker")
def bare(
    context: typer.Context, home: Home = None, stop_with_parent: StopWithParent = False, as_json: Json = False
) -> None:
    """The volunteer's side: join a service, and run. Alone it means `run`."""
    if context.invoked_subcommand is None:
        run_worker(home=home, stop_with_parent=stop_with_parent, as_json=as_json)
        return
    given = {"--home": home is not None, "--stop-with-parent": stop_with_parent, "--json": as_json}
    for option in (name for name, there in given.items() if there):
        # Both have them, and the subcommand would not see what was said before its name.
        behind = f"bitdew worker {context.invoked_subcommand} {option} …"
        message = f"{option} stands before {context.invoked_subcommand}, which does not see it there"
        raise error("input.invalid", message, do=f"Put {option} behind it: {behind}", field=option)


@app.command("join", epilog="Example: bitdew worker join https://grid.example.org:8440 --token bitdew-join-…")
def join(
    url: Annotated[str, typer.Argument(metavar="URL", help="The service's URL.", show_default=False)],
    token: Token,
    name: Annotated[str | None, typer.Option("--name", help="What to call this host; its own name by default.")] = None,
    home: Home = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="IP[:PORT]", help="Where its swarm listens; any free port by default."),
    ] = None,
    quota: Quota = None,
    upload: Upload = None,
    download: Download = None,
    connections: Annotated[
        int | None, typer.Option("--connections", min=1, help="Peers that it is connected to at most; 500 by default.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Memory for all machines; half of this host's by default.")
    ] = None,
    ports_address: Annotated[
        str | None,
        typer.Option(
            "--ports-address", metavar="IP", help="Where ports of machines can be reached; 127.0.0.1 by default."
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Something to be chosen by; repeatable.")
    ] = None,
    enrol_only: Annotated[bool, typer.Option("--enrol-only", help="Join, and do not run yet.")] = False,
    stop_with_parent: StopWithParent = False,
    as_json: Json = False,
) -> None:
    """Join a service with this host, and run the worker. It can be repeated; what is joined stays joined."""
    chosen: dict[str, Any] = {
        "name": name,
        "listen": _endpoint(listen),
        "quota": _size(quota),
        "upload": _size(upload),
        "download": _size(download),
        "connections": connections,
        "memory": _size(memory),
        "ports_address": ports_address,
        "labels": _labels(label or []),
    }
    output = Output(as_json=as_json)
    settings, said = _checked(worker_home(home), {key: value for key, value in chosen.items() if value is not None})
    identity = run(_enrol(url, token, settings, said))
    if enrol_only:
        from .worker_documents import WorkerJoined

        subject = identity.subject
        joined = WorkerJoined(host=subject.subject_id, name=subject.name, url=identity.url)
        output.document(joined, lambda: [f"{identity.subject.name} joined {identity.url}. Run it: bitdew worker"])
        return
    output.remark(f"{identity.subject.name} joined {identity.url}.")
    _run_to_the_end(settings, identity, as_json=as_json, with_parent=stop_with_parent)


@app.command("run", epilog="Example: bitdew worker run --home /srv/bitdew-worker")
def run_worker(home: Home = None, stop_with_parent: StopWithParent = False, as_json: Json = False) -> None:
    """Run the worker that joined before, until Ctrl-C."""
    from bitdew.worker.enrol import identity_folder
    from bitdew.worker.settings import WorkerSettings

    settings = WorkerSettings.load(worker_home(home))
    identity = identity_folder(settings.home).load()
    _run_to_the_end(settings, identity, as_json=as_json, with_parent=stop_with_parent)


def _run_to_the_end(settings: WorkerSettings, identity: Identity, *, as_json: bool, with_parent: bool) -> None:
    with unhurried(gap_in_output(as_json=as_json)):
        configure_log(as_json=as_json, quiet=True)
        asyncio.run(_run(settings, identity, Output(as_json=as_json), with_parent=with_parent))


async def _enrol(url: str, token: str, settings: WorkerSettings, said: dict[str, Any]) -> Identity:
    from bitdew.worker.enrol import join as enrol

    return await enrol(url, token, settings, said)


async def _run(settings: WorkerSettings, identity: Identity, output: Output, *, with_parent: bool) -> None:
    from bitdew.worker.daemon import Worker
    from bitdew.worker.events import Event, EventKind

    from .worker_documents import WorkerEvent

    def tell(event: Event) -> None:
        if event.kind is EventKind.STARTED:
            return  # the line that says "ready" tells it, and comes first
        if output.as_json:
            kind, now = str(event.kind), datetime.now(UTC)
            told = WorkerEvent(time=now, event=kind, subject=event.subject, text=event.text, fields=event.fields)
            output.line(told)
        elif event.kind is not EventKind.PROGRESS:
            output.out.print(f"{datetime.now().astimezone():%H:%M:%S} {printable(event.text)}")

    async with (
        stop_event(with_parent=with_parent) as stop,
        Worker(settings, identity, on_event=tell) as worker,
    ):
        _announce(worker, identity, output)
        working = asyncio.ensure_future(worker.run())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        worker.stop()
        stopping.cancel()
        await working


def _announce(worker: Worker, identity: Identity, output: Output) -> None:
    from .worker_documents import WorkerReady

    swarm = str(worker.swarm.endpoint)
    document = WorkerReady(
        host=identity.subject.subject_id,
        name=identity.subject.name,
        url=identity.url,
        swarm=swarm,
        home=str(worker.settings.home),
        pid=os.getpid(),
    )
    lines = [
        f"{identity.subject.name} works for {identity.url}; its swarm listens at {swarm}.",
        "Ctrl-C stops it. What it holds is kept for the next time.",
    ]
    output.document(document, lambda: lines)


def _checked(home: Path, chosen: dict[str, Any]) -> tuple[WorkerSettings, dict[str, Any]]:
    """The settings for joining, and what of them was said: what was said before, with what was chosen anew over it."""
    from bitdew.core.errors import BitDewError
    from bitdew.worker.configuration.layers import Layers

    layers = Layers.read(home, joined=False)
    layers.settings()  # what stands there already is not the options' fault
    said = {**layers.said.values, **chosen}
    try:
        settings = layers.saying(said).settings()
    except BitDewError as fault:
        option = "--" + str(fault.fields.get("field", "")).split(".")[0].removesuffix("s")
        raise error("input.invalid", f"{option} is impossible", why=fault.why, field=option) from None
    return settings, {**said, "name": settings.name}


def _endpoint(text: str | None) -> str | None:
    """`IP:PORT` of what may lack its port."""
    if text is None:
        return None
    import ipaddress

    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return text
    return f"[{address}]:0" if address.version == 6 else f"{address}:0"


def _size(text: str | None) -> int | None:
    return None if text is None else parse_size(text)


def _labels(texts: list[str]) -> dict[str, str] | None:
    labels: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise error("input.invalid", f"{text[:80]!r} is not a label", do="Write it like --label site=orsay.")
        labels[key.strip()] = value.strip()
    return labels or None
