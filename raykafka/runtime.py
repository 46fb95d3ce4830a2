"""The composition root: starts clusters on Ray, finds running ones, and hands out their clients.

Only what needs Ray loads it: a cluster of this machine is found by the file that its controller
keeps in the cluster's directory.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import os
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raykafka.actors.endpoint_file import ENDPOINT_FILE, endpoint_file, read_endpoint_file
from raykafka.actors.ports import ClusterAccess
from raykafka.client.admin import Admin, NewTopic
from raykafka.client.cluster.bootstrap import Bootstrap, BootstrapInfo, StaticBootstrap
from raykafka.client.cluster.file_bootstrap import FileBootstrap
from raykafka.client.consumer import Consumer
from raykafka.client.handle import TopicHandle
from raykafka.client.handles.shared_clients import shared_clients
from raykafka.client.producer import Producer
from raykafka.client.share_consumer import ShareConsumer
from raykafka.clock import Clock, SystemClock
from raykafka.config import BrokerConfig
from raykafka.errors import (
    ClusterUnreachableError,
    InvalidRequestError,
    TopicAlreadyExistsError,
)
from raykafka.model import Endpoint
from raykafka.places import cluster_home
from raykafka.protocol.messages import DescribeClusterResponse

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_MS = 5_000
_POLL_S = 0.02

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]/]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class RayBootstrap:
    """Finds a cluster by its name in Ray, and outside of Ray by the file on this machine."""

    name: str
    file: str = ""
    """Endpoint file for processes of this machine that do not belong to the Ray cluster."""

    def __call__(self) -> BootstrapInfo:
        """Where the controller listens now.

        Raises ``ClusterUnreachableError`` when no such cluster answers.
        """
        if is_ray_loaded() or not self.file:
            access: ClusterAccess = _ray_runtime().find_access(self.name)
        else:
            access = read_endpoint_file(self.file)
        return BootstrapInfo(
            access.cluster_id,
            access.cluster_name,
            access.controller,
            access.secret,
            access.controllers,
        )


class Cluster:
    """A running cluster; made by ``start`` and ``connect``.

    In a ``with`` block a cluster that was started is stopped at the end, one that was connected to
    is left running. Clients are closed by whoever asked for them.
    """

    def __init__(self, name: str, bootstrap: Bootstrap, *, started: bool = False) -> None:
        """Use ``start`` or ``connect``."""
        self.name = name
        self.bootstrap = bootstrap
        """Finds the controller, also after it was restarted; picklable."""
        self._started = started

    def __repr__(self) -> str:
        return f"Cluster({self.name!r})"

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            self.stop()

    def producer(self, **settings: Any) -> Producer:
        """A producer; ``settings`` are the keys of the producer table, with underscores."""
        return Producer(self.bootstrap, **settings)

    def consumer(self, **settings: Any) -> Consumer:
        """A consumer; ``settings`` are the keys of the consumer table, with underscores."""
        return Consumer(self.bootstrap, **settings)

    def share_consumer(self, **settings: Any) -> ShareConsumer:
        """A member of a share group; ``settings`` are those of ``ShareConsumer``."""
        return ShareConsumer(self.bootstrap, **settings)

    def admin(self) -> Admin:
        """A client for topics, configuration, and what runs where."""
        return Admin(self.bootstrap)

    def topic(
        self,
        name: str,
        *,
        create: bool = False,
        num_partitions: int = -1,
        schema: pa.Schema | None = None,
        configs: Mapping[str, str] | None = None,
    ) -> TopicHandle:
        """A handle on a topic, small and picklable, for any Ray task or actor.

        With ``create`` the topic is made unless it exists; ``num_partitions`` (-1: the cluster's
        default), ``schema`` (makes it a typed topic) and ``configs`` are those of the new one.
        Raises ``InvalidTopicError``, ``InvalidConfigError``, ``ClusterUnreachableError``.
        """
        if create:
            topic = NewTopic(
                name,
                num_partitions=num_partitions,
                topic_configs=dict(configs or {}),
                schema=schema,
            )
            with self.admin() as admin, contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics([topic])
        return TopicHandle(self.bootstrap, name)

    def status(self) -> DescribeClusterResponse:
        """Brokers and actors with their states, and how many partitions are served."""
        with self.admin() as admin:
            return admin.describe_cluster()

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop the cluster cleanly; its data stay. Ray goes on.

        Raises ``ClusterUnreachableError`` when the cluster's Ray cannot be reached from here, or it
        does not stop in ``timeout_s``.
        """
        _joined_ray(self.name).stop_controller(self.name, timeout_s)
        # Handles in this process share clients, which would go on looking for the cluster.
        shared_clients.forget(self.bootstrap)

    def restart(
        self, *, configs: Mapping[str, str] | None = None, timeout_s: float = START_TIMEOUT_S
    ) -> Cluster:
        """Stop cleanly and start on the same directory; ``configs`` None keeps the settings."""
        runtime = _joined_ray(self.name)
        spec = runtime.find_spec(self.name)
        self.stop(timeout_s=timeout_s)
        return start(
            self.name,
            data_dir=spec.data_dir,
            configs=spec.configs if configs is None else configs,
            timeout_s=timeout_s,
        )


def start(
    name: str = "default",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    configs: Mapping[str, str] | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Cluster:
    """Start a cluster, or find the one of that name that runs on this Ray.

    Joins the Ray this process belongs to, else that of ``RAY_ADDRESS`` or of ``ray start``, else
    starts one that ends with this process. ``data_dir`` is by default ``~/.raykafka/<name>``;
    ``configs`` are broker keys such as ``{"partition.actors": "2"}``. A cluster that runs already
    keeps its settings.

    Raises ``InvalidConfigError`` for unknown keys and invalid values, and when the cluster runs
    already on another directory; ``LogDirLockedError`` when another cluster uses the directory;
    ``ClusterUnreachableError`` when it does not answer in ``timeout_s``.
    """
    settings = {key: str(value) for key, value in (configs or {}).items()}
    BrokerConfig.parse(settings)
    home = cluster_home(name)
    directory = None if data_dir is None else os.path.abspath(os.fspath(data_dir))
    runtime = _ray_runtime()
    if not runtime.join_ray():
        runtime.start_ray()
    clock = SystemClock()
    deadline_ms = clock.monotonic_ms() + int(timeout_s * 1000)
    runtime.start_controller(name, directory, home, settings, timeout_s)
    bootstrap = RayBootstrap(name, os.path.join(home, ENDPOINT_FILE))
    cluster = Cluster(name, bootstrap, started=True)
    _wait_until_ready(cluster, deadline_ms, clock)
    return cluster


def connect(
    target: str = "default",
    *,
    secret: bytes | str | None = None,
    timeout_ms: int = CONNECT_TIMEOUT_MS,
) -> Cluster:
    """Connect to a running cluster by its name, its data directory, or its controller's address.

    A name is looked up in the Ray this process belongs to, then among the clusters of this machine,
    then in the Ray that ``start`` would join. A directory is written with a slash (``./data``). An
    address ``host:port`` needs the cluster's ``secret``: its bytes, or the text that stands for
    them in ``endpoint.json``.

    Raises ``ClusterUnreachableError`` when no such cluster answers, ``InvalidRequestError`` for an
    address without secret, ``ClusterAuthorizationFailedError`` for a wrong one.
    """
    address = _ADDRESS.fullmatch(target)
    if address is not None:
        if secret is None:
            raise InvalidRequestError(
                f"connecting to {target} needs the cluster's secret; it is in the file "
                f"{ENDPOINT_FILE} of the cluster's data directory"
            )
        if isinstance(secret, str):
            secret = _secret_of(secret)
        endpoint = Endpoint(address["host"].strip("[]"), int(address["port"]))
        return _answering(StaticBootstrap(BootstrapInfo("", "", endpoint, secret)), timeout_ms)
    if os.sep in target:
        return _answering(FileBootstrap(endpoint_file(os.path.abspath(target))), timeout_ms)
    return _connect_by_name(target, timeout_ms)


def _secret_of(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except ValueError:
        raise InvalidRequestError(
            f"the secret is not what stands as secret in {ENDPOINT_FILE} of the cluster's data "
            "directory: that is base64"
        ) from None


def _connect_by_name(name: str, timeout_ms: int) -> Cluster:
    file = endpoint_file(cluster_home(name))
    if is_ray_loaded():
        try:
            return _answering(RayBootstrap(name, file), timeout_ms)
        except ClusterUnreachableError:
            if not os.path.exists(file):
                raise
    if os.path.exists(file):
        try:
            return _answering(FileBootstrap(file), timeout_ms)
        except ClusterUnreachableError:
            if not _ray_runtime().join_ray():
                raise
    elif not _ray_runtime().join_ray():
        raise ClusterUnreachableError(
            f"no cluster called {name} has left its address in {file}, and no Ray runs here that "
            f"could be asked; raykafka.start({name!r}) or `raykafka up --name {name}` starts one"
        )
    return _answering(RayBootstrap(name, file), timeout_ms)


def _answering(bootstrap: Bootstrap, timeout_ms: int) -> Cluster:
    bootstrap()  # clients would try again for a while, but what is not there need not be waited for
    with Admin(bootstrap, request_timeout_ms=timeout_ms) as admin:
        name = admin.describe_cluster().cluster_name
    return Cluster(name, bootstrap)


def _wait_until_ready(cluster: Cluster, deadline_ms: int, clock: Clock) -> None:
    """Return when a broker and all of its partition actors live."""
    waiting = threading.Event()
    with cluster.admin() as admin:
        while not _is_ready(admin.describe_cluster()):
            if clock.monotonic_ms() > deadline_ms:
                raise ClusterUnreachableError(
                    f"the controller of cluster {cluster.name} runs, but its brokers and partition "
                    "actors do not; `raykafka status` and the logs below /tmp/ray tell more"
                )
            waiting.wait(_POLL_S)


def _is_ready(cluster: DescribeClusterResponse) -> bool:
    actors = [actor for actor in cluster.actors if actor.role == "partition"]
    living = any(broker.alive for broker in cluster.brokers)
    return living and bool(actors) and all(actor.state == "alive" for actor in actors)


def is_ray_loaded() -> bool:
    """Whether this process belongs to a Ray cluster; does not load Ray to find out."""
    ray: Any = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _ray_runtime() -> Any:
    # Not at the top: loading Ray takes longer than most commands need in all.
    return importlib.import_module("raykafka.ray_runtime")


def _joined_ray(name: str) -> Any:
    runtime = _ray_runtime()
    if not runtime.join_ray():
        raise ClusterUnreachableError(
            f"cluster {name} can only be stopped from its Ray: end the process that started it, or "
            "call this where that Ray can be joined (RAY_ADDRESS)"
        )
    return runtime
