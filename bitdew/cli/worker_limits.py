"""`bitdew worker limits`: what a worker may use, what it uses, and changing that while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitdew.core.errors import error
from bitdew.core.units import format_size, parse_size

from .options import Download, Home, Json, Quota, Upload, worker_home
from .output import Output, heading, table
from .running import run

if TYPE_CHECKING:
    from bitdew.worker.limits import DatumUse, LimitsView, Used


def add_to(app: typer.Typer) -> None:
    """Make it a command of `app`."""
    app.command("limits", epilog="Example: bitdew worker limits --upload 1MB --quota 50GB")(limits)


def limits(
    home: Home = None,
    upload: Upload = None,
    download: Download = None,
    connections: Annotated[
        int | None, typer.Option("--connections", min=0, help="Peers that it is connected to at most.")
    ] = None,
    quota: Quota = None,
    memory: Annotated[str | None, typer.Option("--memory", help="Memory of all machines together.")] = None,
    cpus: Annotated[int | None, typer.Option("--cpus", min=1, help="Processors of one machine.")] = None,
    machines: Annotated[int | None, typer.Option("--machines", min=0, help="Machines at a time; 0 for no cap.")] = None,
    all_cpus: Annotated[
        int | None, typer.Option("--all-cpus", min=0, help="Processors of all machines together; 0 for no cap.")
    ] = None,
    jobs_at_once: Annotated[
        int | None, typer.Option("--jobs-at-once", min=0, help="Jobs at a time; 0 for as many as have room.")
    ] = None,
    jobs: Annotated[
        str | None, typer.Option("--jobs", metavar="WHAT", help="What jobs may run: none, or shared programs: shared.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME", help="Change the caps of this datum (name or uid) alone; repeatable."),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Take all caps of --data away.")] = False,
    as_json: Json = False,
) -> None:
    """Show what this host's worker may use, and uses now; or change it.

    A change holds at once if the worker runs, and for its next starts too. 0 takes a cap away. Caps hold on your LAN
    as well. A quota, or a cap of machines or jobs, below what is there ends nothing: nothing more is let in. Machines'
    disks count into the quota, beside the copies.
    """
    from bitdew.worker.adjusting import change_limits, show_limits

    asked = {
        "upload": _size(upload),
        "download": _size(download),
        "connections": connections,
        "quota": _size(quota),
        "memory": _size(memory),
        "cpus": cpus,
        "machines": machines,
        "all_cpus": all_cpus,
        "jobs_at_once": jobs_at_once,
        "jobs": _jobs(jobs),
    }
    if none:
        if not data or any(value is not None for value in asked.values()):
            do = "Write it like: bitdew worker limits --data NAME --none"
            raise error("input.invalid", "--none takes the caps of --data away, and goes with nothing else", do=do)
        asked |= {"upload": 0, "download": 0, "connections": 0}
    given = {name: value for name, value in asked.items() if value is not None}
    if data and not given:
        do = "Say --upload, --download or --connections, or --none."
        raise error("input.invalid", "--data goes with the caps that it is to have", do=do, field="data")
    folder = worker_home(home)
    view = run(change_limits(folder, _change(given, data or [])) if given else show_limits(folder))
    Output(as_json=as_json).document(view, lambda: _shown(view))


def _change(given: dict[str, Any], data: list[str]) -> Any:
    from bitdew.core.ids import checked_name
    from bitdew.worker.limits import LimitsChange

    try:
        return LimitsChange(**given, data=[checked_name(name) for name in data])
    except ValueError as cause:
        raise error("input.invalid", "So much can't be said at once", why=str(cause).splitlines()[-1]) from None


def _jobs(text: str | None) -> str | None:
    if text not in {None, "none", "shared"}:
        do = "Write none or shared; what runs anything is said before a machine's worker joins."
        raise error("input.invalid", f"Jobs can't be {text!r}", do=do, field="jobs")
    return text


def _size(text: str | None) -> int | None:
    return None if text is None else parse_size(text)


def _shown(view: LimitsView) -> Iterator[Any]:
    state = "runs" if view.running else "does not run; this holds from its next start on"
    yield f"{view.name} {state}."
    whole = table("", ">CAP", ">NOW")
    whole.add_row("upload", *_rate(view.upload))
    whole.add_row("download", *_rate(view.download))
    whole.add_row("connections", *_count(view.connections))
    whole.add_row("quota", format_size(view.quota.cap), _now(view.quota, format_size(view.quota.now or 0)))
    whole.add_row(
        "memory of machines", format_size(view.memory.cap), _now(view.memory, format_size(view.memory.now or 0))
    )
    whole.add_row("CPUs of one machine", str(view.cpus.cap), "-")
    whole.add_row("CPUs of all machines", *_count(view.all_cpus))
    whole.add_row("machines", *_count(view.machines))
    whole.add_row(f"jobs ({view.jobs})", *_count(view.jobs_at_once))
    yield whole
    if view.data:
        yield heading("Data")
        rows = table("NAME", ">UPLOAD", ">OF", ">DOWNLOAD", ">OF", ">CONNECTIONS", ">OF")
        for datum in view.data:
            rows.add_row(datum.name, *_of_datum(datum, here=bool(datum.uid)))
        yield rows
    if view.left_out:
        yield f"{view.left_out} more data move."


def _of_datum(datum: DatumUse, *, here: bool) -> Iterator[str]:
    for used, form in ((datum.upload, _rate), (datum.download, _rate), (datum.connections, _count)):
        cap, now = form(used)
        yield now if here else "-"
        yield cap


def _rate(used: Used) -> tuple[str, str]:
    cap = f"{format_size(used.cap)}/s" if used.cap else "none"
    return cap, _now(used, f"{format_size(used.now or 0)}/s")


def _count(used: Used) -> tuple[str, str]:
    return str(used.cap) if used.cap else "none", _now(used, str(used.now))


def _now(used: Used, text: str) -> str:
    return "-" if used.now is None else text
