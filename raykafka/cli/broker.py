"""``raykafka broker``: see, drain, restart and decommission brokers."""

from __future__ import annotations

import click

from raykafka.cli.moves import (
    bar,
    milliseconds,
    plan_json,
    show_plan,
    tell,
    throttle_option,
    timeout_option,
    yes_option,
)
from raykafka.cli.options import cluster_option, connect, json_option, quiet_option
from raykafka.cli.output import all_fields, print_json, print_table, size_text

_broker_argument = click.argument("broker_id", metavar="BROKER", type=click.IntRange(min=0))


@click.group()
def broker() -> None:
    """See, drain, restart and decommission brokers.

    A broker runs on every Ray node; one that joins gets a broker by itself, which takes new topics.
    `raykafka rebalance` gives it its share of the old ones.
    """


@broker.command("list")
@cluster_option
@json_option
def list_brokers(name: str, as_json: bool) -> None:
    """List all brokers, how they are and what they hold."""
    with connect(name).admin() as admin:
        brokers = admin.describe_brokers()
    if as_json:
        print_json(all_fields(brokers))
        return
    rows = [
        (
            each.broker_id,
            each.state,
            each.host,
            each.rack or None,
            f"{each.alive_slots} of {each.slots}",
            each.replicas,
            each.leaders,
            each.out_of_sync,
            size_text(each.usable_bytes) if each.usable_bytes >= 0 else None,
        )
        for each in brokers
    ]
    columns = ("broker", "state", "host", "rack", "actors", "replicas", "leads", "out of sync")
    print_table((*columns, "free disk"), rows)


@broker.command()
@_broker_argument
@cluster_option
@click.option("--plan", "plan_only", is_flag=True, help="Only show what would be moved.")
@throttle_option
@timeout_option
@yes_option
@json_option
@quiet_option
def drain(
    broker_id: int,
    name: str,
    plan_only: bool,
    throttle: int | None,
    timeout_s: float | None,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Move everything away from BROKER; it takes nothing new until `broker resume`."""
    with connect(name).admin() as admin:
        plan = admin.plan_drain([broker_id])
        if plan_only and as_json:
            print_json(plan_json(plan))
            return
        if not as_json and not quiet:
            show_plan(plan)
        if plan_only:
            return
        if not yes:
            click.confirm(f"Drain broker {broker_id}?", abort=True, err=True)
        with bar("moving partitions", quiet=quiet or as_json) as on_progress:
            admin.drain_broker(
                broker_id,
                throttle=throttle,
                timeout_ms=milliseconds(timeout_s),
                on_progress=on_progress,
            )
    facts = {"broker": broker_id, "moved": len(plan.moves), "size_bytes": plan.size_bytes}
    tell(f"broker {broker_id} is empty, and takes nothing new", facts, as_json)


@broker.command()
@_broker_argument
@cluster_option
@json_option
def resume(broker_id: int, name: str, as_json: bool) -> None:
    """Let a drained BROKER take new replicas again; what was moved stays where it is."""
    with connect(name).admin() as admin:
        admin.resume_broker(broker_id)
    tell(f"broker {broker_id} takes new replicas again", {"broker": broker_id}, as_json)


@broker.command()
@_broker_argument
@cluster_option
@throttle_option
@timeout_option
@yes_option
@json_option
@quiet_option
def decommission(
    broker_id: int,
    name: str,
    throttle: int | None,
    timeout_s: float | None,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Drain BROKER, stop it and forget it; no broker runs on its node from then on."""
    with connect(name).admin() as admin:
        plan = admin.plan_drain([broker_id])
        if not as_json and not quiet:
            show_plan(plan)
        if not yes:
            click.confirm(f"Decommission broker {broker_id} for good?", abort=True, err=True)
        with bar("moving partitions", quiet=quiet or as_json) as on_progress:
            admin.decommission_broker(
                broker_id,
                throttle=throttle,
                timeout_ms=milliseconds(timeout_s),
                on_progress=on_progress,
            )
    facts = {"broker": broker_id, "moved": len(plan.moves), "size_bytes": plan.size_bytes}
    tell(f"broker {broker_id} is gone; its node can be shut down", facts, as_json)


@broker.command()
@click.argument("broker_ids", metavar="[BROKER]...", type=click.IntRange(min=0), nargs=-1)
@cluster_option
@click.option("--rolling", is_flag=True, help="Restart all brokers, one after the other.")
@click.option(
    "--force", is_flag=True, help="Also where writes with acks=all are refused meanwhile."
)
@timeout_option
@json_option
@quiet_option
def restart(
    broker_ids: tuple[int, ...],
    name: str,
    rolling: bool,
    force: bool,
    timeout_s: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Restart brokers one after the other; each hands over leadership before it stops.

    The next one waits until the last is back and all of its replicas are in sync, so topics with
    more replicas than min.insync.replicas are written and read throughout.
    """
    if bool(broker_ids) == rolling:
        raise click.UsageError("name brokers, or use --rolling for all of them")
    with (
        connect(name).admin() as admin,
        bar("restarting brokers", quiet=quiet or as_json) as on_progress,
    ):
        chosen = list(broker_ids) or [
            each.broker_id for each in admin.describe_brokers() if each.state != "fenced"
        ]
        admin.restart_brokers(
            chosen, force=force, timeout_ms=milliseconds(timeout_s), on_progress=on_progress
        )
    listed = ", ".join(map(str, chosen))
    noun = "brokers" if len(chosen) > 1 else "broker"
    tell(f"restarted {noun} {listed}", {"restarted": chosen}, as_json)
