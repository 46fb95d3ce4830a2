"""``raykafka produce``."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, BinaryIO

import click

from raykafka.cli.inputs import FORMATS, Input, InputOptions, chunks, format_of
from raykafka.cli.options import (
    cluster_option,
    complete_keys,
    connect,
    json_option,
    parse_settings,
    quiet_option,
)
from raykafka.cli.output import note, print_json, progress
from raykafka.config import PRODUCER

if TYPE_CHECKING:
    import pyarrow as pa

    from raykafka.client.producer import Producer
    from raykafka.client.producing.futures import TableFuture
    from raykafka.runtime import Cluster

_UNACKNOWLEDGED = 8


@click.command()
@click.argument("topic")
@click.argument("file", type=click.File("rb"), default="-")
@cluster_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="What the input is. By default told by the file's name (.csv, .tsv, .json, .jsonl, "
    ".parquet); otherwise lines, or JSON lines for a typed topic.",
)
@click.option("--key", default="", help="Field or column whose value is the record's key.")
@click.option("--key-separator", default="", help="Lines are KEY<separator>VALUE.")
@click.option("--partition", type=click.IntRange(min=0), help="Write to this partition only.")
@click.option(
    "--delimiter", help="What separates the fields of CSV.  [default: a comma; a tab for .tsv]"
)
@click.option("--null", default="", help="How CSV writes a missing value.  [default: nothing]")
@click.option(
    "--producer-config",
    "-X",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_keys(PRODUCER),
    help="A producer setting such as compression.type=zstd; may be repeated.",
)
@json_option
@quiet_option
def produce(
    topic: str,
    file: BinaryIO,
    name: str,
    format_: str | None,
    key: str,
    key_separator: str,
    partition: int | None,
    delimiter: str | None,
    null: str,
    producer_config: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the records of FILE, or of standard input, to TOPIC.

    Untyped topics take a line, a JSON text, or a row (as a JSON object) as a record's value. Typed
    topics take rows whose columns have the names of the topic's. Ends with an error unless every
    record was acknowledged; records before the one that failed have been written then.
    """
    if key and key_separator:
        raise click.UsageError("use one of --key and --key-separator")
    settings = parse_settings(producer_config)
    cluster = connect(name)
    schema = _typed_schema(cluster, topic)
    source = _input(file)
    options = InputOptions(
        format=format_ or format_of(source.name, typed=schema is not None),
        schema=schema,
        key=key,
        key_separator=key_separator,
        delimiter=delimiter or ("\t" if source.name.endswith(".tsv") else ","),
        null=null,
    )
    if key_separator and options.format != "lines":
        raise click.UsageError(f"--key-separator is for lines, not for {options.format}")
    started = time.perf_counter()
    with cluster.producer(**settings) as producer:
        records = _send(producer, topic, source, options, partition, quiet=quiet)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"topic": topic, "records": records, "seconds": round(seconds, 3)})
    elif not quiet:
        noun = "record" if records == 1 else "records"
        note(f"{records:,} {noun} written to {topic} in {seconds:.1f} s")


def _typed_schema(cluster: Cluster, topic: str) -> pa.Schema | None:
    """The topic's columns; None for an untyped one, whose only column is ``value: binary``."""
    schema = cluster.topic(topic).schema()
    untyped = schema.names == ["value"] and str(schema.types[0]) == "binary"
    return None if untyped else schema


def _input(file: BinaryIO) -> Input:
    name = getattr(file, "name", "-")
    if name in ("<stdin>", "-") or not isinstance(name, str):
        return Input(file, "-", None)
    size = os.path.getsize(name) if os.path.isfile(name) else None
    return Input(file, name, size)


def _send(
    producer: Producer,
    topic: str,
    source: Input,
    options: InputOptions,
    partition: int | None,
    *,
    quiet: bool,
) -> int:
    records = 0
    waiting: deque[TableFuture] = deque()
    with progress("writing", source.total_bytes, size=True, quiet=quiet) as bar:
        for table in chunks(source, options):
            if not table.num_rows:
                continue
            waiting.append(
                producer.send_table(topic, table, key=options.key_column, partition=partition)
            )
            while len(waiting) > _UNACKNOWLEDGED or (waiting and waiting[0].done()):
                waiting.popleft().get()
            records += table.num_rows
            bar.update(bar.task_ids[0], completed=source.position)
        for future in waiting:
            future.get()
    return records
