"""``raykafka partition``: move partitions and elect their leaders."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import click

from raykafka.cli.moves import (
    bar,
    milliseconds,
    moves_of_json,
    plan_json,
    show_plan,
    tell,
    throttle_option,
    timeout_option,
    yes_option,
)
from raykafka.cli.options import cluster_option, connect, json_option, quiet_option
from raykafka.cli.output import note, print_json, print_table, to_json
from raykafka.model import TopicPartition


@click.group()
def partition() -> None:
    """Move partitions between brokers and elect their leaders."""


@partition.group()
def reassign() -> None:
    """Move partitions: make a plan, apply it, watch it, cancel it.

    The old replicas are kept until all of the new ones are in sync.
    """


@reassign.command()
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True)
@cluster_option
@click.option("--brokers", "-b", metavar="ID,ID,...", help="Where to.  [default: all brokers]")
@click.option("--replication-factor", "-r", type=click.IntRange(min=1), help="Number of copies.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False), help="Write the plan to a file for apply."
)
@json_option
def plan(
    topics: tuple[str, ...],
    name: str,
    brokers: str | None,
    replication_factor: int | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Plan how to bring TOPICs to other brokers or to another number of copies.

    Nothing is moved. The file can be edited; Kafka's kafka-reassign-partitions has the same format.
    """
    with connect(name).admin() as admin:
        found = admin.plan_reassignment(
            topics, brokers=_brokers(brokers), replication_factor=replication_factor
        )
    document = plan_json(found)
    if output:
        Path(output).write_text(to_json(document, indent=2) + "\n")
    if as_json:
        print_json(document)
        return
    show_plan(found)
    if output:
        note(f"written to {output}; carry it out with `raykafka partition reassign apply {output}`")


@reassign.command()
@click.argument("file", type=click.File("r"))
@cluster_option
@click.option("--no-wait", is_flag=True, help="Return when the moves have begun.")
@throttle_option
@timeout_option
@yes_option
@json_option
@quiet_option
def apply(
    file: TextIO,
    name: str,
    no_wait: bool,
    throttle: int | None,
    timeout_s: float | None,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Carry out the plan in FILE (- for standard input)."""
    if no_wait and throttle:
        raise click.UsageError(
            "a throttle lasts as long as the command; with --no-wait, set"
            " leader.replication.throttled.rate and follower.replication.throttled.rate"
        )
    moves = moves_of_json(file.read())
    if not yes and moves:
        click.confirm(f"Move {len(moves)} partitions?", abort=True, err=True)
    with connect(name).admin() as admin:
        if no_wait:
            admin.alter_partition_reassignments({move.place: move.after for move in moves})
        else:
            with bar("moving partitions", quiet=quiet or as_json) as on_progress:
                admin.execute_moves(
                    moves,
                    throttle=throttle,
                    timeout_ms=milliseconds(timeout_s),
                    on_progress=on_progress,
                )
    text = f"{'moving' if no_wait else 'moved'} {len(moves)} partitions"
    tell(text, {"partitions": len(moves), "done": not no_wait}, as_json)


@reassign.command()
@cluster_option
@json_option
def status(name: str, as_json: bool) -> None:
    """Show what moves, and which of the new replicas are not in sync yet."""
    with connect(name).admin() as admin:
        found = admin.list_partition_reassignments()
    rows = [
        (
            place,
            [broker for broker in each.replicas if broker not in each.removing_replicas],
            each.adding_replicas,
            each.removing_replicas,
            [broker for broker in each.adding_replicas if broker not in each.isr],
        )
        for place, each in sorted(found.items())
    ]
    columns = ("partition", "target", "adding", "removing", "not in sync")
    if as_json:
        names = ("target", "adding", "removing", "not_in_sync")
        print_json(
            [
                {
                    "topic": place.topic,
                    "partition": place.partition,
                    **dict(zip(names, others, strict=True)),
                }
                for place, *others in rows
            ]
        )
    elif rows:
        print_table(columns, rows)
    else:
        note("nothing moves")


@reassign.command()
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@cluster_option
@yes_option
@json_option
def cancel(topics: tuple[str, ...], name: str, yes: bool, as_json: bool) -> None:
    """Cancel the moves of TOPICs, or all: the replicas are again those from before."""
    with connect(name).admin() as admin:
        found = [
            place
            for place in admin.list_partition_reassignments()
            if not topics or place.topic in topics
        ]
        if not yes and found:
            click.confirm(f"Cancel the moves of {len(found)} partitions?", abort=True, err=True)
        if found:
            admin.alter_partition_reassignments(dict.fromkeys(found))
    tell(f"cancelled {len(found)} moves", {"cancelled": len(found)}, as_json)


@partition.command("elect-leaders")
@click.argument("places", metavar="[TOPIC:PARTITION]...", nargs=-1)
@cluster_option
@click.option(
    "--unclean",
    is_flag=True,
    help="Any replica, where nobody leads: records that it lacks are lost.",
)
@yes_option
@json_option
def elect_leaders(
    places: tuple[str, ...], name: str, unclean: bool, yes: bool, as_json: bool
) -> None:
    """Elect the preferred leaders of partitions, or of all that have another one."""
    chosen = [_place(text) for text in places] or None
    if unclean and not yes:
        click.confirm(
            "Acknowledged records that the new leaders lack are lost. Go on?", abort=True, err=True
        )
    with connect(name).admin() as admin:
        elected = admin.elect_leaders("unclean" if unclean else "preferred", chosen)
    facts = {"elected": [{"topic": p.topic, "partition": p.partition} for p in elected]}
    tell(f"elected leaders of {len(elected)} partitions", facts, as_json)


def _brokers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} are no broker ids; use 0,1,2") from None


def _place(text: str) -> TopicPartition:
    topic, _, number = text.rpartition(":")
    if not topic or not number.isdigit():
        raise click.BadParameter(f"{text!r} is no partition; use TOPIC:NUMBER")
    return TopicPartition(topic, int(number))
