"""The part of ``raykafka.runtime`` that needs Ray: joins or starts it, creates the controller."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Mapping

import ray
from ray._private.services import canonicalize_bootstrap_address

from raykafka.actors.cluster import LOOPBACK_RESOURCE, alive_nodes, spawn_controller
from raykafka.actors.handles import (
    RayController,
    cluster_of,
    controller_names,
    find,
    list_names,
    this_node_id,
)
from raykafka.actors.hosts import ShellMakers
from raykafka.actors.ports import ClusterAccess, ControllerSpec, NodeInfo, controller_name
from raykafka.assembly import make_broker, make_controller, make_partition_actor
from raykafka.clock import SystemClock
from raykafka.errors import (
    ClusterUnreachableError,
    InvalidConfigError,
    NetworkError,
    NotControllerError,
    RaykafkaError,
)

MAKERS = ShellMakers(make_controller, make_broker, make_partition_actor)

_POLL_S = 0.05
_CALL_S = 10.0
_clock = SystemClock()


def find_access(name: str) -> ClusterAccess:
    """Where the voters of the cluster called ``name`` listen now, as one of them says.

    Raises ``ClusterUnreachableError`` when no such cluster answers on this process's Ray.
    """
    try:
        return RayController.first_access(find_controllers(name), _CALL_S)
    except NetworkError as error:
        raise ClusterUnreachableError(
            f"no controller of cluster {name} answers: {error.message}"
        ) from error


def find_spec(name: str) -> ControllerSpec:
    """What the cluster's controller was started with; raises as ``find_access`` does."""
    try:
        return find_controller(name).spec(_CALL_S)
    except NetworkError as error:
        raise ClusterUnreachableError(
            f"the controller of cluster {name} does not answer: {error.message}"
        ) from error


def find_controller(name: str) -> RayController:
    """A voter of the cluster called ``name``; raises as ``find_controllers`` does."""
    return find_controllers(name)[0]


def find_controllers(name: str) -> list[RayController]:
    """The voters of the cluster called ``name``.

    Raises ``ClusterUnreachableError`` when Ray is not initialised here or has no such actors.
    """
    if not ray.is_initialized():
        raise ClusterUnreachableError(
            f"this process does not belong to a Ray cluster, so cluster {name} cannot be found by "
            "name; call ray.init() first, or connect with the cluster's data directory"
        )
    found = [find(voter) for voter in controller_names(name)]
    handles = [handle for handle in found if handle is not None]
    if not handles:
        raise ClusterUnreachableError(
            f"no raykafka cluster called {name} runs on this Ray cluster; raykafka.start({name!r}) "
            "starts it"
        )
    return [RayController(handle) for handle in handles]


def join_ray() -> bool:
    """Join the Ray of ``RAY_ADDRESS``, or the one that ``ray start`` left on this machine.

    False when there is none. A Ray that another process runs for itself is not joined, since it
    would end with that process; ``RAY_ADDRESS=local`` joins none. Raises
    ``ClusterUnreachableError`` when ``RAY_ADDRESS`` names one that does not answer or lets nobody
    in.
    """
    if ray.is_initialized():
        return True
    if not _ray_answers():
        return False
    try:
        # By "auto" and not by its address: only then does Ray use the user's authentication token.
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        named = os.environ.get("RAY_ADDRESS", "")
        if named in ("", "auto"):
            return False
        raise ClusterUnreachableError(
            f"the Ray at RAY_ADDRESS={named} does not let this process in; if it uses tokens, set "
            "RAY_AUTH_MODE=token (Ray looks for the token in ~/.ray/auth_token)"
        ) from error
    return True


def _ray_answers() -> bool:
    """Whether the Ray that would be joined answers: one that is gone is tried for minutes."""
    named = os.environ.get("RAY_ADDRESS", "")
    if named == "local" or (named in ("", "auto") and not os.path.exists(ray_address_file())):
        return False
    if "://" in named:
        return True  # a Ray client's address: not a socket to look at
    try:
        address = canonicalize_bootstrap_address("auto") or ""
        host, _, port = address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        if named and named != "auto":
            raise ClusterUnreachableError(
                f"no Ray answers at RAY_ADDRESS={named}; start it, or unset RAY_ADDRESS"
            ) from None
        return False


def ray_address_file() -> str:
    """Where `ray start` notes the address of the Ray that it started on this machine."""
    folder = os.environ.get("RAY_TMPDIR")
    if not folder and sys.platform.startswith("linux"):
        folder = os.environ.get("TMPDIR")
    return os.path.join(folder or "/tmp", "ray", "ray_current_cluster")


def leave_ray() -> None:
    """Take this process out of its Ray; nothing happens when it belongs to none."""
    ray.shutdown()


def running_clusters() -> list[str]:
    """Names of the clusters on this process's Ray, sorted."""
    found = {cluster_of(name) for name in list_names("")}
    return sorted(name for name in found if name is not None)


def start_ray() -> None:
    """Start a Ray of this process's own: it ends with the process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        resources={LOOPBACK_RESOURCE: 1},
    )


def start_controller(
    name: str,
    data_dir: str | None,
    home: str,
    configs: Mapping[str, str],
    timeout_s: float,
) -> RayController:
    """Create the controller of a cluster, or find the one that runs; returns when it answers.

    ``data_dir`` None takes ``home`` for a new cluster and joins a running one whatever it has.

    Raises ``LogDirLockedError`` when another cluster uses ``data_dir``, ``InvalidConfigError`` when
    the running cluster has another one, and ``ClusterUnreachableError`` after ``timeout_s``.
    """
    node = _this_node()
    spec = ControllerSpec(
        name=controller_name(name),
        cluster_name=name,
        data_dir=data_dir or home,
        host=node.host,
        configs=dict(configs),
    )
    deadline = _clock.monotonic_ms() + int(timeout_s * 1000)
    while True:
        registered = controller_names(name)
        handle = find(registered[0]) if registered else None
        made = handle is None
        if made:
            try:
                controller = spawn_controller(MAKERS, spec, home, node)
            except ValueError:
                continue  # somebody else was faster, or the name of a dead one is still taken
        else:
            controller = RayController(handle)
        try:
            controller.access(max(0.001, (deadline - _clock.monotonic_ms()) / 1000))
        except NetworkError as error:
            if _clock.monotonic_ms() >= deadline:
                raise ClusterUnreachableError(
                    f"cluster {name} did not start in {timeout_s:g} s: {error.message}"
                ) from error
            _pause()
            continue
        except RaykafkaError:
            if made:
                controller.kill()
            raise
        if data_dir is not None:
            _check_same(controller, spec)
        return controller


def stop_controller(name: str, timeout_s: float) -> None:
    """Stop a cluster cleanly, then end its controller; returns when its name is free again.

    Raises ``ClusterUnreachableError`` when it does not run or does not stop in ``timeout_s``.
    """
    deadline = _clock.monotonic_ms() + int(timeout_s * 1000)
    controllers = find_controllers(name)
    while not _stop_one(controllers, deadline):
        if _clock.monotonic_ms() >= deadline:
            raise ClusterUnreachableError(f"cluster {name} did not stop in {timeout_s:g} s")
        _pause()
        controllers = find_controllers(name)
    for controller in controllers:
        controller.kill()
    while controller_names(name):
        if _clock.monotonic_ms() >= deadline:
            raise ClusterUnreachableError(f"Ray still lists controllers of {name} after their end")
        _pause()


def _stop_one(controllers: list[RayController], deadline: int) -> bool:
    """Whether one of them was active, and has stopped the cluster."""
    for controller in controllers:
        try:
            controller.stop(max(0.001, (deadline - _clock.monotonic_ms()) / 1000))
        except (NetworkError, NotControllerError):
            continue  # it may have died on the way, or another one is active
        return True
    return False


def _check_same(controller: RayController, spec: ControllerSpec) -> None:
    running = controller.spec(_CALL_S)
    if running.data_dir != spec.data_dir:
        raise InvalidConfigError(
            f"cluster {spec.cluster_name} runs already, on {running.data_dir}: use another name "
            f"for {spec.data_dir}, or leave data_dir out to join it"
        )


def _this_node() -> NodeInfo:
    """The node this process runs on: the data directory is a path there."""
    node_id = this_node_id()
    for node in alive_nodes():
        if node.node_id == node_id:
            return node
    raise ClusterUnreachableError(f"Ray does not list this process's node {node_id} as alive")


def _pause() -> None:
    time.sleep(_POLL_S)  # noqa: TID251  # Ray offers nothing to wait for here
