"""What a voter has while it is the active controller, and gives up when another one is."""

from __future__ import annotations

from collections.abc import Mapping

from raykafka.actors.controlling.actor_handlers import ActorHandlers
from raykafka.actors.controlling.admin_handlers import AdminHandlers
from raykafka.actors.controlling.cluster_view import ClusterView
from raykafka.actors.controlling.keeper import ClusterContext
from raykafka.actors.controlling.metadata_view import MetadataView
from raykafka.actors.controlling.operation_handlers import OperationHandlers
from raykafka.actors.controlling.reconcile import Reconciler
from raykafka.actors.controlling.voter_keeper import VoterKeeper
from raykafka.actors.ports import ControllerSpec, Handler
from raykafka.actors.requests import RequestTasks, immediate
from raykafka.controller.commands import ElectController
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey


class Office:
    """Keepers of the cluster's actors and of the other voters, and the handlers of requests."""

    def __init__(
        self, spec: ControllerSpec, context: ClusterContext, requests: RequestTasks
    ) -> None:
        self._spec = spec
        self._context = context
        self._requests = requests
        self.reconciler = Reconciler(context)
        self.voters = VoterKeeper(spec, context)
        self.handlers = self._handlers()

    async def enter(self, cluster_id: str, endpoint: Endpoint) -> None:
        """Write down who is active, then look after everything.

        Raises ``InconsistentClusterIdError``, and ``NotControllerError`` when another one is.
        """
        name = self._context.cluster_name
        await self._context.shell.submit(ElectController(cluster_id, name, *endpoint))
        self.reconciler.start()
        self.voters.start()

    async def leave(self) -> None:
        """Look after nothing any more; all actors live on."""
        self._context.shell.off_change(self.reconciler.on_change)
        await self.voters.halt()
        await self.reconciler.halt()

    async def close_down(self) -> None:
        """End the whole cluster but for this voter: actors first, then the other voters."""
        await self.voters.halt()
        await self.reconciler.stop_actors()
        await self.voters.stop_voters()

    def _handlers(self) -> Mapping[ApiKey, Handler]:
        context, reconciler, requests = self._context, self.reconciler, self._requests
        view = MetadataView(context.settings, reconciler.failure)
        cluster = ClusterView(context, reconciler, self.voters)
        return {
            **AdminHandlers(context, reconciler, view).table(requests),
            **ActorHandlers(context, reconciler).table(requests),
            **OperationHandlers(context.shell, reconciler).table(requests),
            ApiKey.DESCRIBE_CLUSTER: immediate(lambda _request: cluster.describe()),
        }
