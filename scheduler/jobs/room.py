"""The room of jobs, put together: who hands what to whom. It decides nothing."""

from __future__ import annotations

from ...catalog.attributes import Attributes
from ...catalog.data import DataRoom
from ...catalog.disks import Disks
from ...catalog.leadership import Leadership
from ...catalog.publishing import Publishing
from ...catalog.small import SmallData
from ..deployments import Deployments
from ..draining import Draining
from ..engine import Engine
from ..inner_hosts import InnerHosts
from ..known import Known
from ..reserving import Reserving
from .desk import Desk
from .http import input_routes, job_routes, retiring_routes, run_routes
from .input_store import InputStore
from .inputs import QUOTA, Inputs
from .leftovers import Leftovers
from .matchmaker import Matchmaker
from .provision_store import ProvisionStore
from .provisioning import Provisioner
from .queue_store import QueueStore
from .removal_store import JobRemovalStore
from .removing import Remover
from .result_store import ResultStore
from .results import Results
from .retiring import Retiring
from .runs import Runs
from .settling import Settler
from .standing_desk import StandingDesk
from .standing_http import standing_routes
from .standing_store import StandingStore
from .standing_watch import StandingWatch
from .store import JobStore


class JobRoom:
    """Jobs of one service.

    Attributes:
        store: What is stored of them.
        matchmaker: The loop that gives runs to hosts.
        provisioner: The loop that deploys machines for jobs.
        watch: The loop that makes jobs for data.
        leftovers: The loop that clears away after runs that were given up.
        retiring: The loop that ends drained machines once nothing needs them.
        runs: Hears hosts.
        desk: Hears people.
        inputs: Takes what people put for their jobs.
        remover: Forgets jobs that are old.
        routes: By which both come.
    """

    def __init__(
        self,
        known: Known,
        engine: Engine,
        leadership: Leadership,
        *,
        data: DataRoom,
        attributes: Attributes,
        publishing: Publishing,
        small: SmallData,
        disks: Disks,
        deployments: Deployments,
        inner: InnerHosts,
        draining: Draining,
        machines_idle: float,
        input_quota: int = QUOTA,
    ) -> None:
        """Nothing waits here.

        `machines_idle`: seconds after which machines end that were deployed for jobs and have none.
        `input_quota`: bytes that a user may have put for jobs.
        """
        self.store = JobStore(known.database)
        settler = Settler(known, self.store, engine.lookout.data_changed, engine.lookout.jobs_changed)
        queue = QueueStore(known.database)
        kept = Reserving(known, engine.facts_of).kept
        self.matchmaker = Matchmaker(known, self.store, queue, settler, leadership, lambda: engine.books.index, kept)
        results = Results(known, self.store, publishing)
        self.leftovers = Leftovers(known, self.store, ResultStore(known.database), publishing, data, leadership)
        self.runs = Runs(known, self.store, settler, results)
        self.desk = Desk(known, self.store, settler, self.matchmaker, data, attributes, disks)
        provisions = ProvisionStore(known.database)
        self.provisioner = Provisioner(
            known, provisions, leadership, deployments.deploy, deployments.have, machines_idle
        )
        self.inputs = Inputs(known, InputStore(known.database), data, publishing, small, input_quota)
        standing = StandingStore(known.database)
        self.watch = StandingWatch(known, standing, leadership)
        standing_desk = StandingDesk(known, standing, self.store, settler, data, attributes, disks)
        self.remover = Remover(known, JobRemovalStore(known.database), self.desk, standing_desk, data, self.inputs)
        self.retiring = Retiring(known, self.store, engine, leadership, inner, draining)
        self.routes = [
            job_routes(self.desk, self.remover),
            input_routes(self.inputs),
            standing_routes(standing_desk),
            run_routes(self.runs, results),
            retiring_routes(self.retiring, deployments),
        ]
        engine.gathering.reading = self.store.hosts_reading
        engine.books.working = self.store.taken_on
        deployments.keeping = self.retiring.keeping
