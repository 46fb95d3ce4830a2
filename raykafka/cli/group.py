"""``raykafka group``: look at consumer groups, move their offsets, delete them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from raykafka import TopicPartition
from raykafka.cli.group_facts import (
    lag_columns,
    lag_json,
    lag_rows,
    reset_options,
    reset_way,
    watch_lag,
    write_plan,
)
from raykafka.cli.options import cluster_option, connect, json_option
from raykafka.cli.output import all_fields, note, print_facts, print_json, print_table

if TYPE_CHECKING:
    from raykafka.protocol.group_messages import DescribedGroup

_STATES = ("Empty", "Assigning", "Reconciling", "Stable", "Dead")
group_argument = click.argument("group_id", metavar="GROUP")
topics_option = click.option(
    "--topic", "-t", "topics", multiple=True, help="Only this topic; may be repeated."
)


def place(text: str) -> TopicPartition:
    """``TOPIC:PARTITION``."""
    topic, found, number = str(text).rpartition(":")
    if not found or not topic or not number.isdigit():
        raise click.BadParameter(f"{text!r} is not of the form TOPIC:PARTITION")
    return TopicPartition(topic, int(number))


partitions_option = click.option(
    "--partition",
    "-p",
    "partitions",
    multiple=True,
    type=place,
    metavar="TOPIC:PARTITION",
    help="Only this partition; may be repeated.",
)


@click.group()
def group() -> None:
    """Look at consumer groups, move their offsets, delete them."""


@group.command("list")
@cluster_option
@click.option(
    "--state", "states", multiple=True, type=click.Choice(_STATES), help="May be repeated."
)
@json_option
def list_groups(name: str, states: tuple[str, ...], as_json: bool) -> None:
    """List all groups with their state and number of members."""
    with connect(name).admin() as admin:
        found = admin.list_groups(states=states)
    if as_json:
        print_json(all_fields(found))
        return
    rows = [(each.group_id, each.type, each.state, each.members) for each in found]
    print_table(("group", "type", "state", "members"), rows)


@group.command()
@group_argument
@cluster_option
@json_option
def describe(group_id: str, name: str, as_json: bool) -> None:
    """Show the members of GROUP, what they read, and how far behind they are."""
    with connect(name).admin() as admin:
        [found] = admin.describe_consumer_groups([group_id])
        lag = admin.consumer_group_lag(group_id)
    if as_json:
        print_json({**all_fields(found), "offsets": lag_json(lag)})
        return
    known = [each.lag for each in lag if each.lag is not None]
    print_facts(
        [
            ("group", found.group_id),
            ("type", found.type),
            ("state", found.state),
            ("assignor", found.assignor or None),
            ("epoch", found.group_epoch),
            ("members", len(found.members)),
            ("lag", sum(known) if known else None),
        ]
    )
    if found.members:
        click.echo()
        print_table(("member", "instance", "client", "host", "epoch", "owns"), members_of(found))
    if lag:
        click.echo()
        print_table(lag_columns(), lag_rows(lag))


def members_of(found: DescribedGroup) -> list[tuple[object, ...]]:
    """One member a line."""
    return [
        (
            member.member_id,
            member.instance_id or None,
            member.client_id or None,
            member.host or None,
            member.member_epoch,
            [f"{owned.topic}: {_numbers(owned.partitions)}" for owned in member.assignment],
        )
        for member in found.members
    ]


def _numbers(partitions: list[int]) -> str:
    """``0-3 7``."""
    runs: list[list[int]] = []
    for number in sorted(partitions):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


@group.command()
@group_argument
@cluster_option
@reset_options
@topics_option
@partitions_option
@click.option("--execute", is_flag=True, help="Do it; without this the plan is shown only.")
@json_option
def reset(
    group_id: str,
    name: str,
    to: str | None,
    to_offset: int | None,
    to_time: int | None,
    shift_by: int | None,
    from_file: str | None,
    topics: tuple[str, ...],
    partitions: tuple[TopicPartition, ...],
    execute: bool,
    as_json: bool,
) -> None:
    """Move the committed offsets of GROUP, which must have no members.

    Shows what would change; --execute does it. Without --topic or --partition it is about every
    partition that the group has committed. What lies outside of a partition becomes its first
    record or its end.
    """
    way = reset_way(to, to_offset, to_time, shift_by, from_file)
    with connect(name).admin() as admin:
        changes = admin.reset_consumer_group_offsets(
            group_id,
            **way,
            topics=topics or None,
            partitions=partitions or None,
            execute=execute,
        )
    write_plan(changes, as_json=as_json, executed=execute)


@group.command()
@click.argument("group_ids", metavar="GROUP...", nargs=-1, required=True)
@cluster_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def delete(group_ids: tuple[str, ...], name: str, yes: bool, as_json: bool) -> None:
    """Delete groups with their committed offsets; they must have no members."""
    listed = ", ".join(group_ids)
    if not yes:
        click.confirm(f"Delete {listed} and the offsets committed?", abort=True, err=True)
    with connect(name).admin() as admin:
        admin.delete_consumer_groups(group_ids)
    if as_json:
        print_json({"deleted": group_ids})
    else:
        note(f"deleted {listed}")


@group.command("delete-offsets")
@group_argument
@cluster_option
@topics_option
@partitions_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def delete_offsets(
    group_id: str,
    name: str,
    topics: tuple[str, ...],
    partitions: tuple[TopicPartition, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Forget what GROUP has committed for topics that none of its members subscribes to."""
    if not topics and not partitions:
        raise click.UsageError("say which: --topic or --partition")
    with connect(name).admin() as admin:
        committed = admin.list_consumer_group_offsets(group_id)
        places = sorted({p for p in committed if p.topic in topics} | set(partitions))
        listed = ", ".join(map(str, places)) or "nothing"
        if places and not yes:
            click.confirm(f"Forget the offsets of {group_id} for {listed}?", abort=True, err=True)
        if places:
            admin.delete_consumer_group_offsets(group_id, places)
    if as_json:
        print_json({"deleted": [p._asdict() for p in places]})
    else:
        note(f"group {group_id} has forgotten its offsets for {listed}")


@group.command("remove-members")
@group_argument
@cluster_option
@click.option("--member", "-m", "members", multiple=True, help="Id of a member; may be repeated.")
@click.option(
    "--instance", "-i", "instances", multiple=True, help="group.instance.id; may be repeated."
)
@click.option("--all", "everybody", is_flag=True, help="All of them.")
@json_option
def remove_members(
    group_id: str,
    name: str,
    members: tuple[str, ...],
    instances: tuple[str, ...],
    everybody: bool,
    as_json: bool,
) -> None:
    """Remove members from GROUP; their partitions go to others.

    One that was killed, or a static member that does not come back, then need not be waited for. A
    consumer that is alive joins again.
    """
    if everybody == bool(members or instances):
        raise click.UsageError("say who: --member, --instance or --all")
    with connect(name).admin() as admin:
        removed = admin.remove_members_from_consumer_group(
            group_id, member_ids=members, group_instance_ids=instances
        )
    if as_json:
        print_json(all_fields(removed))
    else:
        note(f"removed {len(removed)} member{'s' if len(removed) != 1 else ''} of {group_id}")


@group.command()
@group_argument
@cluster_option
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True, metavar="SECONDS",
    help="Time between two looks.",
)  # fmt: skip
@click.option("--count", "-c", type=click.IntRange(min=1), help="Stop after so many looks.")
@json_option
def watch(group_id: str, name: str, interval: float, count: int | None, as_json: bool) -> None:
    """Show how far GROUP is behind, again and again until interrupted.

    The rate is that of the commits; with --json each look is one line.
    """
    with connect(name).admin() as admin:
        try:
            watch_lag(admin, group_id, interval, count, as_json=as_json)
        except KeyboardInterrupt:
            return
