"""The routes of jobs and runs, and of machines that jobs keep. A handler calls its room and returns a model."""

from __future__ import annotations

from bitdew.core.states import job_states
from bitdew.trust.roles import Role
from bitdew.wire import limits
from bitdew.wire.models import (
    DeploymentView,
    JobCounts,
    JobExplanation,
    JobInputDone,
    JobInputReply,
    JobInputRequest,
    JobList,
    JobsRemoved,
    JobView,
    LogReply,
    MachineList,
    MachineView,
    Nothing,
    OutputKept,
    OutputRequest,
    RunReply,
    RunReport,
    SubmitRequest,
    UploadReply,
)
from bitdew.wire.server import PEOPLE, Call, Routes

from ..deployments import Deployments
from .desk import Desk
from .inputs import Inputs
from .removing import Remover
from .results import Results
from .retiring import Retiring
from .runs import Runs


def job_routes(desk: Desk, remover: Remover) -> Routes:
    """Jobs, for people."""
    routes = Routes()

    async def submit(call: Call[SubmitRequest]) -> JobList:
        return await desk.submit(call.body, call.caller)

    async def show_all(call: Call[Nothing]) -> JobList:
        query = call.query
        return await desk.jobs(
            owner=call.caller.subject_id if query.get("mine") else None,
            states=job_states(query["state"]) if query.get("state") else None,
            prefix=query.get("prefix", "")[:32],
            after=query.get("after", "")[:128],
            limit=max(1, int(call.number("limit", 100, limits.PAGE))),
            seconds=call.number("wait", 0, limits.LONGEST_POLL),
        )

    async def show(call: Call[Nothing]) -> JobView:
        since, seconds = int(call.number("since", 0, 2**53)), call.number("wait", 0, limits.LONGEST_POLL)
        return await desk.job(call.path["uid"], since, seconds)

    async def counts(call: Call[Nothing]) -> JobCounts:
        since, seconds = int(call.number("since", 0, 2**53)), call.number("wait", 0, limits.LONGEST_POLL)
        return await desk.counts(call.query.get("of", "")[:32], since, seconds)

    async def cancel(call: Call[Nothing]) -> JobList:
        return await desk.cancel(call.path["uid"], call.caller)

    async def read_log(call: Call[Nothing]) -> LogReply:
        number, offset = int(call.number("run", 0, 1000)), int(call.number("offset", 0, 2**53))
        return await desk.log(
            call.path["uid"], number, offset, call.number("wait", 0, limits.LONGEST_POLL), call.caller
        )

    async def remove(call: Call[Nothing]) -> JobsRemoved:
        return await remover.remove(call.path["uid"], call.caller, keep=bool(call.query.get("keep")))

    async def explain(call: Call[Nothing]) -> JobExplanation:
        return await desk.explain(call.path["uid"])

    routes.add("POST", "/v1/jobs", submit, body=SubmitRequest, roles=PEOPLE)
    routes.add("GET", "/v1/jobs", show_all, roles=PEOPLE)
    routes.add("GET", "/v1/job-counts", counts, roles=PEOPLE)
    routes.add("GET", "/v1/jobs/{uid}", show, roles=PEOPLE)
    routes.add("DELETE", "/v1/jobs/{uid}", remove, roles=PEOPLE)
    routes.add("POST", "/v1/jobs/{uid}/cancel", cancel, roles=PEOPLE)
    routes.add("GET", "/v1/jobs/{uid}/log", read_log, roles=PEOPLE)
    routes.add("GET", "/v1/jobs/{uid}/explain", explain, roles=PEOPLE)
    return routes


def input_routes(inputs: Inputs) -> Routes:
    """What people put for jobs of their own."""
    routes = Routes()

    async def begin(call: Call[JobInputRequest]) -> JobInputReply:
        return await inputs.begin(call.body, call.caller)

    async def keep(call: Call[JobInputDone]) -> JobInputReply:
        return await inputs.keep(call.path["upload"], call.body, call.caller)

    async def drop(call: Call[Nothing]) -> Nothing:
        await inputs.drop(call.path["uid"], call.caller)
        return Nothing()

    routes.add("POST", "/v1/job-inputs", begin, body=JobInputRequest, roles=PEOPLE)
    routes.add("POST", "/v1/job-inputs/{upload}", keep, body=JobInputDone, roles=PEOPLE)
    routes.add("DELETE", "/v1/job-inputs/{uid}", drop, roles=PEOPLE)
    return routes


def run_routes(runs: Runs, results: Results) -> Routes:
    """Runs, for the hosts that have them."""
    routes = Routes()

    async def report(call: Call[RunReport]) -> RunReply:
        return await runs.report(call.path["uid"], call.body, call.caller)

    async def begin(call: Call[OutputRequest]) -> UploadReply:
        return await results.begin(call.path["uid"], call.body, call.caller)

    async def keep(call: Call[OutputRequest]) -> OutputKept:
        return await results.keep(call.path["uid"], call.path["upload"], call.body, call.caller)

    routes.add("POST", "/v1/runs/{uid}", report, body=RunReport, roles={Role.WORKER})
    routes.add("POST", "/v1/runs/{uid}/outputs", begin, body=OutputRequest, roles={Role.WORKER})
    routes.add("POST", "/v1/runs/{uid}/outputs/{upload}", keep, body=OutputRequest, roles={Role.WORKER})
    return routes


def retiring_routes(retiring: Retiring, deployments: Deployments) -> Routes:
    """Machines that are to end once their jobs are done."""
    routes = Routes()

    async def drain_deployment(call: Call[Nothing]) -> DeploymentView:
        return await deployments.deployment(await retiring.deployment(call.path["uid"], call.caller))

    async def drain_machine(call: Call[Nothing]) -> MachineView:
        return await deployments.machine(await retiring.machine(call.path["uid"], call.caller))

    async def drain_host(call: Call[Nothing]) -> MachineList:
        return await deployments.these(await retiring.host(call.path["host"], call.caller))

    routes.add("POST", "/v1/deployments/{uid}/drain", drain_deployment, roles=PEOPLE)
    routes.add("POST", "/v1/machines/{uid}/drain", drain_machine, roles=PEOPLE)
    routes.add("POST", "/v1/hosts/{host}/machines/drain", drain_host, roles=PEOPLE)
    return routes
