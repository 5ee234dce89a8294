"""`bitdew vm deployments`, `show`, `scale` and `explain`: so many machines from one disk, as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from bitdew.core.states import MACHINE

from .options import After, DeploymentUid, Json, Limit, Profile, Url
from .output import Output, heading, printable, table
from .running import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from bitdew.wire.models import DeploymentSummary, DeploymentView, MachineView

SHORT: Final = 8
"""Digits of a uid that are shown: enough to name a machine by."""


def register(app: typer.Typer) -> None:
    """Add these commands to `bitdew vm`."""
    app.command("deployments", epilog="Example: bitdew vm deployments")(deployments)
    app.command("show", epilog="Example: bitdew vm show 71c0")(show)
    app.command("scale", epilog="Example: bitdew vm scale 71c0 5")(scale)
    app.command("explain", epilog="Example: bitdew vm explain 71c0")(explain)


def deployments(
    after: After = "", limit: Limit = 100, profile: Profile = "default", url: Url = None, as_json: Json = False
) -> None:
    """List the deployments, oldest first."""
    page = ask(profile, url, lambda grid: grid.deployment_page(after, limit))
    found = page.deployments

    def shown() -> Iterator[object]:
        if not found:
            yield "There is no deployment. Make one: bitdew vm deploy DISK"
            return
        rows = table("UID", "DISK", ">WANTED", "RESTART", "MACHINES", "CREATED (UTC)")
        for one in found:
            rows.add_row(*_summary(one))
        yield rows
        if page.next:
            yield f"There are more: bitdew vm deployments --after {page.next}"

    Output(as_json=as_json).document(page, shown)


def show(uid: DeploymentUid, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Show a deployment and all machines that it ever had."""
    found = ask(profile, url, lambda grid: grid.deployment(uid))
    Output(as_json=as_json).document(found, lambda: _shown(found))


def scale(
    uid: DeploymentUid,
    count: Annotated[int, typer.Argument(min=0, help="How many machines it is to be of.")],
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Have a deployment be of more machines, or of fewer: then those that don't run, and the youngest, are stopped."""
    found = ask(profile, url, lambda grid: grid.scale(uid, count))
    Output(as_json=as_json).document(found, lambda: _shown(found))


def explain(uid: DeploymentUid, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Explain why a deployment is as it is, and what happens next."""
    found = ask(profile, url, lambda grid: grid.explain_deployment(uid))

    def shown() -> Iterator[object]:
        one = found.deployment
        yield heading(f"{one.uid[:SHORT]}: {one.count} machine(s) from {one.disk}, restart {one.restart}")
        yield f"{found.running} running, {found.missing} missing."
        yield from found.machines
        if found.next:
            yield heading("Next")
            yield from found.next

    Output(as_json=as_json).document(found, shown)


def rows_of(machines: list[MachineView]) -> Table:
    """Machines as a table."""
    rows = table("UID", "DISK", "HOST", "STATE", "HYPERVISOR", "SINCE (UTC)", "REASON")
    for one in machines:
        reason = f"{one.reason.message} ({one.reason.key})" if one.reason else printable(one.cause)
        since = f"{one.since:%Y-%m-%d %H:%M:%S}"
        disk = f"{one.disk} (deprecated)" if one.deprecated else one.disk
        state = f"{one.state} (draining)" if one.draining and one.state not in MACHINE.ends() else str(one.state)
        rows.add_row(one.uid[:SHORT], disk, one.host_name, state, one.hypervisor, since, printable(reason))
    return rows


def _summary(one: DeploymentSummary) -> tuple[str, ...]:
    told = ", ".join(f"{number} {state}" for state, number in sorted(one.states.items()))
    return one.uid[:SHORT], one.disk, str(one.count), str(one.restart), told, f"{one.created:%Y-%m-%d %H:%M:%S}"


def _shown(one: DeploymentView) -> Iterator[object]:
    yield heading(f"{one.uid[:SHORT]}: {one.count} machine(s) from {one.disk}, restart {one.restart}")
    if one.requires:
        yield f"On hosts with: {one.requires}"
    if one.ends:
        yield f"Until {one.ends:%Y-%m-%d %H:%M:%S} UTC"
    yield rows_of(one.machines)
    if one.left_out:
        yield f"{one.left_out} that ended longest ago are left out: bitdew vm ls --deployment {one.uid[:SHORT]}"
    for machine in one.machines:
        if machine.inner:
            state = machine.inner_state or "not heard of yet"
            yield f"{machine.uid[:SHORT]}: a host itself, {machine.inner[:SHORT]}, which is {state}"
        for port in machine.ports if machine.state not in MACHINE.ends() else ():
            yield f"{machine.uid[:SHORT]}: port {port.guest} is {port.address}:{port.host} on {machine.host_name}"
