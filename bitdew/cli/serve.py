"""`bitdew serve`: the service, with catalog, scheduler and repository in one process."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .options import Home, Json, Profile, StopWithParent
from .output import Output
from .running import configure_log, gap_in_output, stop_event
from .unhurried import unhurried

if TYPE_CHECKING:
    from bitdew.composition import Service, ServiceSettings
    from bitdew.core.host import Endpoint
    from bitdew.trust.identity import Identity

REACHED_BY: Final = (
    "Others reach it at one of this machine's addresses, not at that URL: https://ADDRESS:{port}. For a command that "
    "volunteers can use, add --url https://ADDRESS:{port} to `bitdew token create`."
)


def add_to(app: typer.Typer) -> None:
    """Make it a command of `app`."""
    app.command("serve", epilog="Example: bitdew serve --host 10.0.0.7 --name lab")(serve)


def serve(
    home: Home = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port of HTTPS; 0 takes any that is free.")
    ] = 8440,
    swarm: Annotated[
        str | None,
        typer.Option(
            "--swarm", metavar="HOST:PORT", help="Where the repository's swarm listens; by default one port on."
        ),
    ] = None,
    upload: Annotated[
        str | None, typer.Option("--upload", help="Bytes per second that the repository sends at most: 20MB.")
    ] = None,
    http_egress: Annotated[
        str | None,
        typer.Option(
            "--http-egress",
            metavar="RATE",
            help="Bytes per second of it over HTTPS, all downloads together: 5MB; 0 for no limit of its own. "
            "By default half of --upload.",
        ),
    ] = None,
    connections: Annotated[
        int, typer.Option("--connections", min=1, max=20_000, help="Hosts that it is connected to by swarm at most.")
    ] = 500,
    name: Annotated[str, typer.Option("--name", help="What to call the service.")] = "bitdew",
    period: Annotated[
        float, typer.Option("--period", min=1, max=3600, help="The longest silence of a living host, in seconds.")
    ] = 20.0,
    machines_idle: Annotated[
        str,
        typer.Option(
            "--machines-idle",
            metavar="DURATION",
            help="How long machines that were deployed for jobs (`job submit --provision`) stay without one: 30s, 10m.",
        ),
    ] = "2m",
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            envvar="BITDEW_DATABASE",
            help="SQLAlchemy's URL of a PostgreSQL database, which several services may share; "
            "by default SQLite in --home.",
            show_default=False,
        ),
    ] = None,
    authority: Annotated[
        Path | None, typer.Option("--authority", help="The folder of the CA, if several services share one.")
    ] = None,
    repository: Annotated[
        Path | None, typer.Option("--repository", help="The repository's folder, if several services share one.")
    ] = None,
    job_days: Annotated[
        float,
        typer.Option("--job-days", min=0, help="Days that ended jobs are known, with logs and results; 0 for ever."),
    ] = 30.0,
    input_quota: Annotated[
        str,
        typer.Option(
            "--input-quota",
            metavar="SIZE",
            help="What a user may have put for jobs (`job submit --in FILE`) at a time; 0 for nothing.",
        ),
    ] = "10GB",
    profile: Profile = "default",
    stop_with_parent: StopWithParent = False,
    as_json: Json = False,
) -> None:
    """Run a service until Ctrl-C: catalog, scheduler and repository. You become its operator."""
    from bitdew.client.profiles import home_folder
    from bitdew.composition import ServiceSettings
    from bitdew.core.ids import checked_name
    from bitdew.core.units import parse_duration, parse_size
    from bitdew.meant import path_meant

    settings = ServiceSettings(
        home=path_meant(home or home_folder() / "service"),
        host=host,
        port=port,
        swarm=_swarm(swarm, host, port),
        upload=parse_size(upload) if upload else 0,
        http_egress=parse_size(http_egress) if http_egress else None,
        connections=connections,
        name=checked_name(name, "service's name"),
        period=period,
        machines_idle=parse_duration(machines_idle).total_seconds(),
        database=database,
        authority=path_meant(authority) if authority else None,
        repository=path_meant(repository) if repository else None,
        job_days=job_days,
        input_quota=parse_size(input_quota),
    )
    with unhurried(gap_in_output(as_json=as_json)):
        configure_log(as_json=as_json)
        asyncio.run(_serve(settings, profile, Output(as_json=as_json), with_parent=stop_with_parent))


async def _serve(settings: ServiceSettings, profile: str, output: Output, *, with_parent: bool) -> None:
    from bitdew.composition import Service

    async with stop_event(with_parent=with_parent) as stop, Service(settings) as service:
        operator, called = await _operator(service, profile)
        _announce(service, operator, called, output)
        serving = asyncio.ensure_future(service.run())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        service.stop()
        stopping.cancel()
        await serving


async def _operator(service: Service, profile: str) -> tuple[Identity, str]:
    """The operator's identity and its profile's name: the wished one, or one named after the service.

    A profile that belongs to another service is left as it is: its certificates can't be had back.
    """
    from bitdew.client.profiles import profile_folder
    from bitdew.core.errors import BitDewError

    spare = [service.settings.name, f"{service.settings.name}-{service.authority.fingerprint[:8]}"]
    for name in (profile, *spare):
        try:
            return await service.enrol_operator(profile_folder(name), "operator"), name
        except BitDewError as fault:
            if fault.key != "profile.taken" or name == spare[-1]:
                raise
    raise AssertionError("the last candidate returns or raises")


def _announce(service: Service, operator: Identity, called: str, output: Output) -> None:
    from bitdew.client.profiles import current_profile

    option = "" if called == current_profile()[0] else f" --profile {called}"
    anywhere = _listens_anywhere(service.settings.host)
    lines = [
        f"{service.settings.name} serves at {service.url}, its swarm at {service.swarm.endpoint}. Ctrl-C stops it.",
        f"You are its operator by the profile {called} ({operator.folder}).",
        *((REACHED_BY.format(port=service.url.rpartition(":")[2]),) if anywhere else ()),
        "Next, in another terminal:",
        f"  bitdew token create --role worker{option}     a token for a volunteer, with the command that joins",
        f"  bitdew disk add FILE --name NAME --replica 3{option}",
    ]
    if output.as_json:
        from .documents import ServiceReady

        document = ServiceReady(
            url=service.url,
            swarm=str(service.swarm.endpoint),
            name=service.settings.name,
            home=str(service.settings.home),
            fingerprint=operator.fingerprint,
            profile=str(operator.folder),
            profile_name=called,
            pid=os.getpid(),
        )
        output.line(document)
    else:
        for line in lines:
            output.show(line)


def _listens_anywhere(host: str) -> bool:
    """Whether `host` stands for all addresses of this machine, so that nobody can be told to connect to it."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _swarm(text: str | None, host: str, port: int) -> Endpoint:
    """Where the repository's swarm listens: as said, or beside HTTPS."""
    from bitdew.core.host import Endpoint

    if text is not None:
        return Endpoint.parse(text)
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:  # a name: HTTPS resolves it, a swarm wants an address
        address = "127.0.0.1" if host == "localhost" else "0.0.0.0"  # noqa: S104
    return Endpoint(address, port + 1 if 0 < port < 65535 else 0)
