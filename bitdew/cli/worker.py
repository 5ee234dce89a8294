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

from .options import Home, Json, StopWithParent, Token
from .output import Output, printable
from .running import configure_log, run, stop_event

if TYPE_CHECKING:
    from bitdew.trust.identity import Identity
    from bitdew.worker.daemon import Worker
    from bitdew.worker.settings import WorkerSettings

app = typer.Typer(help="The volunteer's side: join a service, and run. Alone it means `run`.", rich_markup_mode=None)


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
    quota: Annotated[str | None, typer.Option("--quota", help="Bytes of copies at most; 20GB by default.")] = None,
    upload: Annotated[str | None, typer.Option("--upload", help="Bytes per second sent at most: 1MB.")] = None,
    download: Annotated[str | None, typer.Option("--download", help="Bytes per second received at most.")] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Memory for all machines; half of this host's by default.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Something to be chosen by; repeatable.")
    ] = None,
    enrol_only: Annotated[bool, typer.Option("--enrol-only", help="Join, and do not run yet.")] = False,
    stop_with_parent: StopWithParent = False,
    as_json: Json = False,
) -> None:
    """Join a service with this host, and run the worker. It can be repeated; what is joined stays joined."""
    from bitdew.worker.settings import WorkerSettings

    chosen: dict[str, Any] = {
        "name": name,
        "listen": _endpoint(listen),
        "quota": _size(quota),
        "upload": _size(upload),
        "download": _size(download),
        "memory": _size(memory),
        "labels": _labels(label or []),
    }
    output = Output(as_json=as_json)
    settings = _checked(WorkerSettings, _home(home), {key: value for key, value in chosen.items() if value is not None})
    identity = run(_enrol(url, token, settings))
    joined = {"joined": True, "host": identity.subject.subject_id, "name": identity.subject.name, "url": identity.url}
    if enrol_only:
        output.document(joined, lambda: [f"{identity.subject.name} joined {identity.url}. Run it: bitdew worker"])
        return
    output.remark(f"{identity.subject.name} joined {identity.url}.")
    configure_log(as_json=as_json, quiet=True)
    asyncio.run(_run(settings, identity, output, with_parent=stop_with_parent))


@app.command("run", epilog="Example: bitdew worker run --home /srv/bitdew-worker")
def run_worker(home: Home = None, stop_with_parent: StopWithParent = False, as_json: Json = False) -> None:
    """Run the worker that joined before, until Ctrl-C."""
    from bitdew.worker.enrol import identity_folder
    from bitdew.worker.settings import WorkerSettings

    settings = WorkerSettings.load(_home(home))
    identity = identity_folder(settings.home).load()
    configure_log(as_json=as_json, quiet=True)
    asyncio.run(_run(settings, identity, Output(as_json=as_json), with_parent=stop_with_parent))


async def _enrol(url: str, token: str, settings: WorkerSettings) -> Identity:
    from bitdew.worker.enrol import join as enrol

    return await enrol(url, token, settings)


async def _run(settings: WorkerSettings, identity: Identity, output: Output, *, with_parent: bool) -> None:
    from bitdew.worker.daemon import Worker
    from bitdew.worker.events import Event, EventKind

    def tell(event: Event) -> None:
        if event.kind is EventKind.STARTED:
            return  # the line that says "ready" tells it, and comes first
        if output.as_json:
            told = {"event": event.kind, "subject": event.subject, "text": event.text, "fields": event.fields}
            output.line({"time": datetime.now(UTC)} | told)
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
    swarm = str(worker.swarm.endpoint)
    document = {
        "ready": True,
        "host": identity.subject.subject_id,
        "name": identity.subject.name,
        "url": identity.url,
        "swarm": swarm,
        "home": str(worker.settings.home),
        "pid": os.getpid(),
    }
    lines = [
        f"{identity.subject.name} works for {identity.url}; its swarm listens at {swarm}.",
        "Ctrl-C stops it. What it holds is kept for the next time.",
    ]
    output.document(document, lambda: lines)


def _home(home: Path | None) -> Path:
    from bitdew.client.profiles import home_folder

    return (home or home_folder() / "worker").expanduser().absolute()


def _checked(kind: type[WorkerSettings], home: Path, chosen: dict[str, Any]) -> WorkerSettings:
    """The settings for joining: what is kept in `home` already, with what was chosen anew over it."""
    from pydantic import ValidationError

    from bitdew.core.errors import BitDewError

    try:
        kept = kind.load(home).model_dump()
    except BitDewError as fault:
        if fault.key != "profile.missing":
            raise
        kept = {}
    try:
        return kind(**{**kept, **chosen, "home": home})
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        option = "--" + str(first["loc"][0]).removesuffix("s")
        raise error("input.invalid", f"{option} is impossible", why=first["msg"], field=option) from None


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
