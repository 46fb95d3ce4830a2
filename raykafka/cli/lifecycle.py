"""``raykafka up``, ``down`` and ``status``."""

from __future__ import annotations

import importlib

import click

import raykafka
from raykafka.cli.options import (
    cluster_option,
    complete_keys,
    connect,
    json_option,
    parse_settings,
    quiet_option,
)
from raykafka.cli.output import all_fields, note, print_facts, print_json, print_table, waiting
from raykafka.cli.ray_head import ensure_ray, started_ray, stop_ray
from raykafka.config import BROKER, BrokerConfig
from raykafka.protocol.messages import DescribeClusterResponse
from raykafka.protocol.quorum_messages import DescribeQuorumResponse


@click.command()
@cluster_option
@click.option(
    "--data-dir",
    "-d",
    type=click.Path(file_okay=False),
    help="Where the log is kept.  [default: ~/.raykafka/NAME]",
)
@click.option(
    "--config",
    "-c",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_keys(BROKER),
    help="A broker setting such as partition.actors=2; may be repeated.",
)
@json_option
@quiet_option
def up(
    name: str, data_dir: str | None, settings: tuple[str, ...], as_json: bool, quiet: bool
) -> None:
    """Start a cluster, or find the one that runs.

    Joins the Ray that runs on this machine (or at RAY_ADDRESS). Where there is none, one is started
    that stays until `raykafka down`; the cluster then listens on loopback only.
    """
    configs = parse_settings(settings)
    BrokerConfig.parse(configs)
    with waiting("starting", quiet=quiet):
        if ensure_ray():
            configs.setdefault("listener.host", "127.0.0.1")
        cluster = raykafka.start(name, data_dir=data_dir, configs=configs)
        status_now = cluster.status()
    if as_json:
        print_json(all_fields(status_now))
    elif not quiet:
        controller = next(a for a in status_now.actors if a.role == "controller")
        note(f"cluster {name} is up: its controller listens on {controller.host}:{controller.port}")


@click.command()
@cluster_option
@click.option("--keep-ray", is_flag=True, help="Leave a Ray that `raykafka up` started running.")
@quiet_option
def down(name: str, keep_ray: bool, quiet: bool) -> None:
    """Stop a cluster cleanly; its data stay.

    A Ray that `raykafka up` started is stopped too when no other cluster runs on it.
    """
    stopped_ray = False
    with waiting("stopping", quiet=quiet):
        try:
            connect(name).stop()
        finally:
            if not keep_ray and started_ray():
                stopped_ray = _stop_idle_ray()
    if not quiet:
        note(f"cluster {name} is down" + (", and so is its Ray" if stopped_ray else ""))


def _stop_idle_ray() -> bool:
    runtime = importlib.import_module("raykafka.ray_runtime")
    if runtime.join_ray() and runtime.running_clusters():
        return False
    runtime.leave_ray()
    return stop_ray()


@click.command()
@cluster_option
@json_option
def status(name: str, as_json: bool) -> None:
    """Show a cluster's brokers, actors and health."""
    with connect(name).admin() as admin:
        found = admin.describe_cluster()
        quorum = admin.describe_quorum()
    if as_json:
        print_json({**all_fields(found), "quorum": all_fields(quorum)})
        return
    print_facts(
        [
            ("cluster", found.cluster_name),
            ("id", found.cluster_id),
            ("health", _health(found)),
            ("topics", found.topics),
            ("partitions", found.partitions),
            ("moving", found.reassigning_partitions),
            ("controllers", _controllers(quorum)),
        ]
    )
    click.echo()
    print_table(
        ("broker", "host", "rack", "alive"),
        [(b.broker_id, b.host, b.rack or None, b.alive) for b in found.brokers],
    )
    click.echo()
    print_table(
        ("actor", "state", "pid", "listens on", "partitions"),
        [
            (
                actor.name,
                actor.state,
                str(actor.pid) if actor.pid else None,
                f"{actor.host}:{actor.port}" if actor.port else None,
                actor.partitions if actor.role == "partition" else None,
            )
            for actor in found.actors
        ],
    )


def _controllers(quorum: DescribeQuorumResponse) -> str:
    """Such as: voter 1 of 0, 1, 2 is active in epoch 7, the others are 0 records behind."""
    voters = [each for each in quorum.replicas if each.voter]
    ids = ", ".join(str(each.replica_id) for each in voters)
    if quorum.leader_id < 0:
        return f"voters {ids}, one is being elected"
    text = f"voter {quorum.leader_id} of {ids} is active in epoch {quorum.leader_epoch}"
    lag = max((each.lag for each in voters), default=0)
    return text if len(voters) == 1 else f"{text}, the others are up to {lag} records behind"


def _health(found: DescribeClusterResponse) -> str:
    dead = sum(actor.state != "alive" for actor in found.actors)
    problems = []
    if found.offline_partitions:
        problems.append(f"{found.offline_partitions} partitions without leader")
    if found.under_min_isr_partitions:
        problems.append(f"{found.under_min_isr_partitions} partitions refuse acks=all")
    if found.under_replicated_partitions:
        problems.append(f"{found.under_replicated_partitions} partitions under-replicated")
    if dead:
        problems.append(f"{dead} actors not alive")
    return ", ".join(problems) or "ok"
