"""``raykafka rebalance``: level the load of all brokers."""

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
from raykafka.cli.output import note, print_json


@click.command()
@cluster_option
@click.option("--execute", is_flag=True, help="Carry the plan out.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=5,
    show_default=True,
    metavar="PERCENT",
    help="Leave brokers alone that are this close to their share.",
)
@throttle_option
@timeout_option
@yes_option
@json_option
@quiet_option
def rebalance(
    name: str,
    execute: bool,
    tolerance: float,
    throttle: int | None,
    timeout_s: float | None,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show how to level replicas, bytes and leaders over the brokers; --execute does it.

    As few replicas as possible move, never two of a partition to one broker, and never out of a
    rack that has no other one.
    """
    with connect(name).admin() as admin:
        plan = admin.plan_rebalance(tolerance=tolerance / 100)
        if as_json and not execute:
            print_json(plan_json(plan))
            return
        if not as_json and not quiet:
            show_plan(plan)
        if not execute:
            if plan.moves:
                note("nothing was moved; do it with --execute")
            return
        if plan.moves and not yes:
            click.confirm(f"Move {len(plan.moves)} partitions?", abort=True, err=True)
        with bar("moving partitions", quiet=quiet or as_json) as on_progress:
            admin.execute_moves(
                plan,
                throttle=throttle,
                timeout_ms=milliseconds(timeout_s),
                on_progress=on_progress,
            )
    tell(f"moved {len(plan.moves)} partitions", plan_json(plan), as_json)
