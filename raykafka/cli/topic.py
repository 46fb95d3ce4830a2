"""``raykafka topic``: create, look at, alter and delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

import raykafka
from raykafka.cli.columns import columns_text, parse_columns, schema_of_file
from raykafka.cli.options import (
    cluster_option,
    complete_keys,
    connect,
    json_option,
    parse_settings,
)
from raykafka.cli.output import note, print_facts, print_json, print_table, size_text
from raykafka.cli.topic_facts import TopicFacts, topic_facts
from raykafka.config import TOPIC
from raykafka.internal_topics import INTERNAL_TOPICS
from raykafka.protocol.messages import ConfigChange, ConfigResource

if TYPE_CHECKING:
    import pyarrow as pa

_config_option = click.option(
    "--config",
    "-c",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_keys(TOPIC),
    help="A topic setting such as retention.ms=3600000; may be repeated.",
)


@click.group()
def topic() -> None:
    """Create, look at, alter and delete topics."""


@topic.command()
@click.argument("topic_name", metavar="TOPIC")
@cluster_option
@click.option("--partitions", "-p", type=click.IntRange(min=1), help="Number of partitions.")
@click.option("--replication-factor", "-r", type=click.IntRange(min=1), help="Number of copies.")
@click.option(
    "--replica-assignment",
    metavar="ID:ID,ID:ID,...",
    help="Brokers of each partition, preferred leader first, in the place of the two numbers.",
)
@_config_option
@click.option(
    "--columns",
    help="Makes a typed topic: `id: int64 not null, name: string, at: timestamp[ms]`.",
)
@click.option(
    "--columns-from",
    type=click.Path(exists=True, dir_okay=False),
    help="Makes a typed topic with the columns of a Parquet, Arrow or CSV file.",
)
@click.option("--key-column", help="Typed topics: the column that is the record's key.")
@click.option("--if-not-exists", is_flag=True, help="Do nothing if the topic exists.")
@json_option
def create(
    topic_name: str,
    name: str,
    partitions: int | None,
    replication_factor: int | None,
    replica_assignment: str | None,
    settings: tuple[str, ...],
    columns: str | None,
    columns_from: str | None,
    key_column: str | None,
    if_not_exists: bool,
    as_json: bool,
) -> None:
    """Create TOPIC; where a number is not given, the cluster's default is taken."""
    if columns and columns_from:
        raise click.UsageError("use one of --columns and --columns-from")
    configs = parse_settings(settings)
    if key_column:
        configs["key.column"] = key_column
    new = raykafka.NewTopic(
        topic_name,
        num_partitions=partitions or -1,
        replication_factor=replication_factor or -1,
        topic_configs=configs,
        schema=_schema(columns, columns_from),
        replica_assignments=_assignments(replica_assignment),
    )
    with connect(name).admin() as admin:
        created = True
        try:
            admin.create_topics([new])
        except raykafka.errors.TopicAlreadyExistsError:
            if not if_not_exists:
                raise
            created = False
        number = len(admin.describe_topics([topic_name])[0].partitions)
    verb = "created" if created else "exists already:"
    text = f"{verb} topic {topic_name} with {number} partition{'s' if number > 1 else ''}"
    _tell(text, {"topic": topic_name, "partitions": number, "created": created}, as_json)


def _assignments(text: str | None) -> dict[int, list[int]]:
    """``0:1,1:2`` as kafka-topics has it: partitions apart by commas, their brokers by colons."""
    if text is None:
        return {}
    try:
        return {
            index: [int(broker) for broker in part.split(":")]
            for index, part in enumerate(text.split(","))
        }
    except ValueError:
        raise click.BadParameter(f"{text!r} is no assignment; use 0:1,1:2") from None


def _schema(columns: str | None, columns_from: str | None) -> pa.Schema | None:
    if columns:
        return parse_columns(columns)
    return schema_of_file(columns_from) if columns_from else None


@topic.command("list")
@cluster_option
@click.option("--internal", is_flag=True, help="List the topics of coordinators too.")
@json_option
def list_topics(name: str, internal: bool, as_json: bool) -> None:
    """List all topics with what they hold."""
    with connect(name).admin() as admin:
        found = topic_facts(admin)
    found = [facts for facts in found if internal or facts.name not in INTERNAL_TOPICS]
    if as_json:
        print_json([facts.summary() for facts in found])
        return
    rows = [
        (
            facts.name,
            len(facts.partitions),
            "typed" if facts.schema is not None else "untyped",
            facts.records,
            size_text(facts.size_bytes),
            facts.health,
        )
        for facts in found
    ]
    print_table(("topic", "partitions", "kind", "records", "size", "health"), rows)


@topic.command()
@click.argument("topic_name", metavar="TOPIC")
@cluster_option
@json_option
def describe(topic_name: str, name: str, as_json: bool) -> None:
    """Show the partitions, columns and settings of TOPIC, and what is damaged."""
    resource = ConfigResource("topic", topic_name)
    with connect(name).admin() as admin:
        facts = topic_facts(admin, topic_name)[0]
        entries = admin.describe_configs([resource])[resource]
    if as_json:
        configs = {e.name: {"value": e.value, "source": e.source} for e in entries}
        print_json({**facts.details(), "configs": configs})
        return
    _print_details(facts)
    click.echo()
    print_table(
        ("setting", "value", "set by"), [(e.name, e.value or None, e.source) for e in entries]
    )


def _print_details(facts: TopicFacts) -> None:
    print_facts(
        [
            ("topic", facts.name),
            ("id", facts.topic_id),
            ("records", facts.records),
            ("size", size_text(facts.size_bytes)),
            ("health", facts.health),
            ("key column", facts.key_column or None),
            ("columns", None if facts.schema is None else columns_text(facts.schema)),
        ]
    )
    rows = [
        (
            part.number,
            part.leader if part.leader >= 0 else "none",
            part.replicas,
            part.isr,
            part.eligible,
            part.log_start_offset,
            part.log_end_offset,
            None if part.size_bytes is None else size_text(part.size_bytes),
            part.segments,
            [f"{start} to {end - 1}" for start, end in part.damaged],
        )
        for part in facts.partitions
    ]
    click.echo()
    print_table(
        (
            "partition",
            "leader",
            "replicas",
            "in sync",
            "eligible",
            "first",
            "end",
            "size",
            "segments",
            "damaged",
        ),
        rows,
    )
    for part in facts.partitions:
        if part.problem:
            click.echo(f"\npartition {part.number}: {part.problem}")


@topic.command()
@click.argument("topic_name", metavar="TOPIC")
@cluster_option
@_config_option
@click.option(
    "--delete-config",
    "-d",
    "resets",
    multiple=True,
    metavar="KEY",
    help="Set this key back to the cluster's default; may be repeated.",
)
@json_option
def alter(
    topic_name: str, name: str, settings: tuple[str, ...], resets: tuple[str, ...], as_json: bool
) -> None:
    """Change settings of TOPIC; the others stay as they are."""
    changes = [ConfigChange(key, value) for key, value in parse_settings(settings).items()]
    changes += [ConfigChange(key, op="delete") for key in resets]
    if not changes:
        raise click.UsageError("give at least one --config or --delete-config")
    with connect(name).admin() as admin:
        admin.incremental_alter_configs({ConfigResource("topic", topic_name): changes})
    names = [change.name for change in changes]
    told = {"topic": topic_name, "changed": names}
    _tell(f"changed {', '.join(names)} of topic {topic_name}", told, as_json)


@topic.command()
@click.argument("topic_names", metavar="TOPIC...", nargs=-1, required=True)
@cluster_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def delete(topic_names: tuple[str, ...], name: str, yes: bool, as_json: bool) -> None:
    """Delete topics and all their records."""
    listed = ", ".join(topic_names)
    if not yes:
        click.confirm(f"Delete {listed} and all records in it?", abort=True, err=True)
    with connect(name).admin() as admin:
        admin.delete_topics(topic_names)
    _tell(f"deleted {listed}", {"deleted": topic_names}, as_json)


@topic.command("add-partitions")
@click.argument("topic_name", metavar="TOPIC")
@click.argument("total", type=click.IntRange(min=2))
@cluster_option
@json_option
def add_partitions(topic_name: str, total: int, name: str, as_json: bool) -> None:
    """Give TOPIC more partitions, TOTAL in all.

    Records stay where they are; from then on keys map to other partitions than before.
    """
    with connect(name).admin() as admin:
        admin.create_partitions({topic_name: total})
    told = {"topic": topic_name, "partitions": total}
    _tell(f"topic {topic_name} has {total} partitions", told, as_json)


@topic.command("add-columns")
@click.argument("topic_name", metavar="TOPIC")
@click.argument("columns")
@cluster_option
@json_option
def add_columns(topic_name: str, columns: str, name: str, as_json: bool) -> None:
    """Add COLUMNS, such as `city: string, zip: int32`, to a typed TOPIC.

    Older records have nulls there.
    """
    added = parse_columns(columns)
    with connect(name).admin() as admin:
        schema_id = admin.add_columns(topic_name, added)
    text = f"topic {topic_name} has {len(added)} more column{'s' if len(added) > 1 else ''}"
    _tell(text, {"topic": topic_name, "added": added.names, "schema_id": schema_id}, as_json)


def _tell(text: str, facts: Mapping[str, object], as_json: bool) -> None:
    """The same as a remark for people or as JSON for programs."""
    if as_json:
        print_json(facts)
    else:
        note(text)
