"""``raykafka share-group``: look at share groups, move where they begin, delete them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from raykafka import TopicPartition
from raykafka.cli.group import group_argument, members_of, partitions_option, topics_option
from raykafka.cli.group_facts import reset_options, reset_way, write_plan
from raykafka.cli.options import (
    cluster_option,
    complete_keys,
    connect,
    json_option,
    parse_settings,
)
from raykafka.cli.output import all_fields, note, print_facts, print_json, print_table
from raykafka.config import SHARE_GROUP
from raykafka.errors import GroupIdNotFoundError

if TYPE_CHECKING:
    from raykafka.client.operating.share_group_operations import ShareGroupOffset
    from raykafka.protocol.group_messages import DescribedGroup


@click.group("share-group")
def share_group() -> None:
    """Look at share groups, move where they begin, delete them."""


@share_group.command("list")
@cluster_option
@json_option
def list_share_groups(name: str, as_json: bool) -> None:
    """List share groups with their state and number of members."""
    with connect(name).admin() as admin:
        found = admin.list_share_groups()
    if as_json:
        print_json(all_fields(found))
        return
    rows = [(each.group_id, each.state, each.members) for each in found]
    print_table(("group", "state", "members"), rows)


@share_group.command()
@group_argument
@cluster_option
@json_option
def describe(group_id: str, name: str, as_json: bool) -> None:
    """Show the members of GROUP, its settings, and how far it is.

    Everything before `start` is done. `left` counts the records from there to the end: some of them
    may be done, too, or be worked on.
    """
    with connect(name).admin() as admin:
        offsets = admin.list_share_group_offsets(group_id)
        configs = admin.describe_share_group_configs(group_id)
        found: DescribedGroup | None = None
        try:
            [found] = admin.describe_share_groups([group_id])
        except GroupIdNotFoundError:
            if not offsets and not configs:
                raise
    if as_json:
        group = {} if found is None else all_fields(found)
        print_json({**group, "configs": configs, "offsets": _as_json(offsets)})
        return
    known = [each.lag for each in offsets if each.lag is not None]
    print_facts(
        [
            ("group", group_id),
            ("state", "Empty" if found is None else found.state),
            ("members", 0 if found is None else len(found.members)),
            ("left", sum(known) if known else None),
            *sorted(configs.items()),
        ]
    )
    if found is not None and found.members:
        click.echo()
        columns = ("member", "instance", "client", "host", "epoch", "reads")
        print_table(columns, members_of(found))
    if offsets:
        click.echo()
        rows = [(str(e.partition), e.start_offset, e.log_end_offset, e.lag) for e in offsets]
        print_table(("partition", "start", "end", "left"), rows)


def _as_json(offsets: list[ShareGroupOffset]) -> list[dict[str, object]]:
    return [
        {
            "topic": each.partition.topic,
            "partition": each.partition.partition,
            "start_offset": each.start_offset,
            "log_end_offset": each.log_end_offset,
            "lag": each.lag,
        }
        for each in offsets
    ]


@share_group.command()
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
    """Move where GROUP begins, which must have no members.

    Shows what would change; --execute does it. Without --topic or --partition it is about every
    partition that the group has begun to read. Deliveries and acknowledgements behind the old
    offset are forgotten.
    """
    way = reset_way(to, to_offset, to_time, shift_by, from_file)
    with connect(name).admin() as admin:
        changes = admin.reset_share_group_offsets(
            group_id,
            **way,
            topics=topics or None,
            partitions=partitions or None,
            execute=execute,
        )
    write_plan(changes, as_json=as_json, executed=execute)


@share_group.command()
@group_argument
@cluster_option
@click.option(
    "--set",
    "-s",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_keys(SHARE_GROUP),
    help="A setting of the group; may be repeated.",
)
@click.option("--unset", "unset", multiple=True, metavar="KEY", help="Back to the default.")
@json_option
def alter(
    group_id: str, name: str, settings: tuple[str, ...], unset: tuple[str, ...], as_json: bool
) -> None:
    """Change settings of GROUP: where it begins, leases, deliveries, dead letters.

    The group need not exist yet. `raykafka config list share-group` shows the keys.
    """
    if not settings and not unset:
        raise click.UsageError("say what: --set KEY=VALUE or --unset KEY")
    changes: dict[str, object] = {**parse_settings(settings), **dict.fromkeys(unset)}
    with connect(name).admin() as admin:
        configs = admin.alter_share_group_configs(group_id, changes)
    if as_json:
        print_json(configs)
    else:
        print_facts(sorted(configs.items()) or [("settings", None)])


@share_group.command()
@click.argument("group_ids", metavar="GROUP...", nargs=-1, required=True)
@cluster_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def delete(group_ids: tuple[str, ...], name: str, yes: bool, as_json: bool) -> None:
    """Delete share groups with their offsets and settings; they must have no members."""
    listed = ", ".join(group_ids)
    if not yes:
        click.confirm(f"Delete {listed}, offsets and settings?", abort=True, err=True)
    with connect(name).admin() as admin:
        admin.delete_share_groups(group_ids)
    if as_json:
        print_json({"deleted": group_ids})
    else:
        note(f"deleted {listed}")
