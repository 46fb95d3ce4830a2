"""The control ports over Ray actor handles; with ``cluster`` the only user of ``.remote``.

Rules: a call is made once and never retried here, because it may have run although it failed; an
actor that is gone becomes ``NetworkError``, an error the shell raised comes out as it was raised; a
process's death is noticed by a call that is never answered, about 10 ms after a SIGKILL.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import ray
from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

from raykafka.actors.ports import (
    ActorStarted,
    AssignmentResult,
    ClusterAccess,
    ControllerSpec,
    PartitionAssignment,
    PartitionRemoval,
)
from raykafka.actors.timeouts import within
from raykafka.actors.voters import VoterStarted
from raykafka.errors import (
    NetworkError,
    RaykafkaError,
    RequestTimedOutError,
    UnknownServerError,
)

NAMESPACE = "raykafka"
"""Ray namespace of every actor of every cluster."""

_RECHECK_S = 0.2
_KNOWN_S = 0.3
"""For the controller that was active last to answer, before the others are asked."""
_VOTER = re.compile(r"controller(-\d+)?")
_IDENTITY_TIMEOUT_S = 5.0


class Identity(NamedTuple):
    """What an actor says of itself: a name in Ray is a hint, this is the proof."""

    name: str
    """Empty for a spare process."""
    incarnation: int
    node_id: str
    pid: int
    event_loop: str
    """Module of the loop that serves its listener: ``uvloop`` where it is installed."""


async def call(handle: Any, method: str, *args: Any) -> Any:
    """Call ``method`` of the actor once.

    Raises the error that the shell raised, or ``NetworkError`` when the actor is gone or cannot be
    reached: whether the call ran is not known then.
    """
    try:
        return await getattr(handle, method).remote(*args)
    except RayTaskError as error:
        raise _cause(error, method) from error
    except RayError as error:
        raise NetworkError(f"the actor did not answer {method}: {_first_line(error)}") from error


def call_blocking(handle: Any, method: str, *args: Any, timeout_s: float) -> Any:
    """``call`` for a thread without an event loop; also ``NetworkError`` after ``timeout_s``."""
    try:
        return ray.get(getattr(handle, method).remote(*args), timeout=timeout_s)
    except RayTaskError as error:
        raise _cause(error, method) from error
    except RayError as error:
        raise NetworkError(f"the actor did not answer {method}: {_first_line(error)}") from error


def find(name: str) -> Any | None:
    """Handle of the actor registered under ``name``, or None; it may have died meanwhile."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def this_node_id() -> str:
    """The Ray node that this process runs on."""
    node_id: str = ray.get_runtime_context().get_node_id()
    return node_id


def is_restarted() -> bool:
    """Whether Ray has made this actor anew after its death."""
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)


def list_names(prefix: str) -> list[str]:
    """Names of the registered actors that begin with ``prefix``; some may have died meanwhile."""
    listed = ray.util.list_named_actors(all_namespaces=True)
    names = [each["name"] for each in listed if each["namespace"] == NAMESPACE]
    return sorted(name for name in names if name.startswith(prefix))


def controller_names(cluster: str) -> list[str]:
    """Names of the registered voters of a cluster; some may have died meanwhile."""
    return [name for name in list_names(f"{cluster}/controller") if cluster_of(name) == cluster]


def cluster_of(name: str) -> str | None:
    """The cluster whose voter is registered as ``name``; None for any other actor."""
    cluster, _, role = name.rpartition("/")
    return cluster if _VOTER.fullmatch(role) else None


def _all_controllers(cluster: str) -> list[Any]:
    found = [find(name) for name in controller_names(cluster)]
    return [handle for handle in found if handle is not None]


def _cause(error: RayTaskError, method: str) -> RaykafkaError:
    cause = error.cause
    if isinstance(cause, RaykafkaError):
        return cause
    return UnknownServerError(f"{method} failed in the actor: {cause!r}")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


class _ActorPort:
    """What the ports of brokers and partition actors have in common."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def start(self) -> ActorStarted:
        """Let the shell start; see the port."""
        started: ActorStarted = await call(self._handle, "start")
        return started

    async def stop(self) -> None:
        """Let the shell stop cleanly; the process stays until it is killed."""
        await call(self._handle, "stop")

    async def prove_identity(self) -> Identity | None:
        """Who the process says it is; None when it is gone, or stuck, which ends it.

        A process that does not answer may hold the directory that its successor needs.
        """
        try:
            asking = call(self._handle, "identity")
            found: Identity = await within(asking, _IDENTITY_TIMEOUT_S, "identity")
        except NetworkError:
            return None
        except RequestTimedOutError:
            self.kill()
            return None
        return found

    async def wait_dead(self) -> None:
        """Return when the process is gone."""
        while True:
            try:
                await self._handle.live.remote()
            except ActorUnavailableError:
                await asyncio.sleep(_RECHECK_S)  # a broken connection is no proof of death
            except RayError:
                return

    def kill(self) -> None:
        """End the process at once."""
        ray.kill(self._handle, no_restart=True)


class RayBrokerPort(_ActorPort):
    """``BrokerPort`` over a Ray actor handle."""


class RayPartitionActorPort(_ActorPort):
    """``PartitionActorPort`` over a Ray actor handle."""

    async def assign(
        self, assignments: Sequence[PartitionAssignment], removals: Sequence[PartitionRemoval]
    ) -> list[AssignmentResult]:
        """Open, re-configure or delete replicas; see the port."""
        results: list[AssignmentResult] = await call(
            self._handle, "assign", list(assignments), list(removals)
        )
        return results


class RayVoterPort(_ActorPort):
    """``VoterPort`` over a Ray actor handle."""

    async def start_voter(self) -> VoterStarted:
        """Open the log and listen; see the port."""
        started: VoterStarted = await call(self._handle, "start_voter")
        return started

    async def leave(self) -> None:
        """Close the log cleanly; the process stays until it is killed."""
        await call(self._handle, "leave")

    async def access(self) -> ClusterAccess:
        """Which cluster it belongs to, and where its voters are."""
        access: ClusterAccess = await call(self._handle, "bootstrap")
        return access


class RayControllerPort:
    """``ControllerPort`` that finds the active controller by its name, again whenever it moves."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._handle: Any = None

    async def heartbeat(self, broker_id: int, incarnation: int, usable_bytes: int) -> bool:
        """Renew the lease; raises ``NetworkError`` while no active controller can be reached.

        A call to a voter that is paused or whose node is gone may hang: so all are asked at once,
        after a moment for the one that was active last.
        """
        known, self._handle = self._handle, None
        question = ("heartbeat", broker_id, incarnation, usable_bytes)
        asked: dict[asyncio.Task[bool], Any] = {}
        if known is not None:
            asked[asyncio.ensure_future(call(known, *question))] = known
            await asyncio.wait(asked, timeout=_KNOWN_S)
        try:
            if not any(task.done() and task.exception() is None for task in asked):
                loop = asyncio.get_running_loop()
                for handle in await loop.run_in_executor(None, _all_controllers, self._cluster):
                    asked[asyncio.ensure_future(call(handle, *question))] = handle
            return await self._first_answer(asked)
        finally:
            for task in asked:
                task.cancel()

    async def _first_answer(self, asked: dict[asyncio.Task[bool], Any]) -> bool:
        problem: BaseException = NetworkError(f"no controller of {self._cluster} is registered")
        waiting = set(asked)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    self._handle = asked[task]
                    return task.result()
                problem = error
        raise problem


class RayController:
    """The runtime's view of the controller, for callers without an event loop."""

    def __init__(self, handle: Any, processes: Sequence[Any] = ()) -> None:
        """``processes`` were created with the controller, and end with it if it is killed."""
        self._handle = handle
        self._processes = processes

    def access(self, timeout_s: float) -> ClusterAccess:
        """Where the controller listens, once it has started.

        Raises the error that keeps it from starting, such as ``LogDirLockedError``, or
        ``NetworkError`` when it does not answer within ``timeout_s``.
        """
        access: ClusterAccess = call_blocking(self._handle, "bootstrap", timeout_s=timeout_s)
        return access

    @staticmethod
    def first_access(controllers: Sequence[RayController], timeout_s: float) -> ClusterAccess:
        """What the first of them says that answers; raises as ``access`` does."""
        waiting = [each._handle.bootstrap.remote() for each in controllers]
        problem = NetworkError(f"no controller answered in {timeout_s:g} s")
        while waiting:
            done, waiting = ray.wait(waiting, timeout=timeout_s)
            if not done:
                break
            try:
                access: ClusterAccess = ray.get(done[0])
            except RayTaskError as error:
                cause = _cause(error, "bootstrap")
                if not waiting:
                    raise cause from error
                problem = NetworkError(cause.message)
            except RayError as error:
                problem = NetworkError(f"the controller did not answer: {_first_line(error)}")
            else:
                return access
        raise problem

    def spec(self, timeout_s: float) -> ControllerSpec:
        """What the controller was started with."""
        spec: ControllerSpec = call_blocking(self._handle, "spec", timeout_s=timeout_s)
        return spec

    def stop(self, timeout_s: float) -> None:
        """Stop the whole cluster cleanly, the controller's shell last."""
        call_blocking(self._handle, "stop", timeout_s=timeout_s)

    def kill(self) -> None:
        """End the controller's process; Ray does not restart it."""
        for handle in (self._handle, *self._processes):
            ray.kill(handle, no_restart=True)
