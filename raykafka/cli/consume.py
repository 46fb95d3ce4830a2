"""``raykafka consume``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from raykafka.cli.membership import copy_as_member, copy_as_share_member
from raykafka.cli.options import cluster_option, connect, moment, quiet_option
from raykafka.cli.output import progress
from raykafka.cli.records import METADATA, ROWS_AT_ONCE, WAIT_MS, RecordWriter, writer_for
from raykafka.errors import OffsetOutOfRangeError, UnknownTopicOrPartitionError
from raykafka.model import TopicPartition

if TYPE_CHECKING:
    from raykafka.client.consumer import Consumer


def start_offset(text: str) -> str | int:
    """``earliest``, ``latest``, an offset, or ``-N`` for the last N of each partition."""
    text = str(text).strip()
    if text in ("earliest", "latest"):
        return text
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not earliest, latest or a whole number") from None


@click.command()
@click.argument("topic")
@cluster_option
@click.option("--from-beginning", is_flag=True, help="Start at the first record (the default).")
@click.option(
    "--from-offset",
    type=start_offset,
    metavar="OFFSET",
    help="Start at this offset in every partition: a number, earliest, latest, or -N for the last "
    "N records of each partition.",
)
@click.option(
    "--from-time",
    type=moment,
    metavar="TIME",
    help="Start at the first record at or after this time: 2013-01-31T18:00, milliseconds since "
    "the epoch, or an age such as 15m, 2h, 7d.",
)
@click.option(
    "--partition", "-p", "numbers", type=click.IntRange(min=0), multiple=True,
    help="Read this partition only; may be repeated.",
)  # fmt: skip
@click.option(
    "--group",
    "-g",
    "group_id",
    metavar="GROUP",
    help="Read as a member of this consumer group: what its other members do not have, from where "
    "the group has come to; what was printed is committed.",
)
@click.option(
    "--share-group",
    "share_group_id",
    metavar="GROUP",
    help="Read as a member of this share group, next to others; what was printed is accepted.",
)
@click.option("--count", "-c", type=click.IntRange(min=1), help="Stop after so many records.")
@click.option("--columns", help="Typed topics: read only these columns, separated by commas.")
@click.option("--follow", "-f", is_flag=True, help="Wait for new records until interrupted.")
@click.option(
    "--committed", is_flag=True, help="Leave out records of aborted and of open transactions."
)
@click.option("--meta", is_flag=True, help="Show partition, offset, time and key as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per record.")
@quiet_option
def consume(
    topic: str,
    name: str,
    from_beginning: bool,
    from_offset: str | int | None,
    from_time: int | None,
    numbers: tuple[int, ...],
    group_id: str | None,
    share_group_id: str | None,
    count: int | None,
    columns: str | None,
    follow: bool,
    committed: bool,
    meta: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print the records of TOPIC.

    Prints what is there now and ends; with --follow it goes on until interrupted. A record of an
    untyped topic is a line, one of a typed topic a row of columns; --json prints key, offset and
    the rest as well.
    """
    if sum((from_beginning, from_offset is not None, from_time is not None)) > 1:
        raise click.UsageError("use one of --from-beginning, --from-offset and --from-time")
    settings = {"columns": columns} if columns else {}
    if committed:
        settings["isolation_level"] = "read_committed"
    cluster = connect(name)
    writer = writer_for(topic, as_json=as_json, meta=meta)
    if group_id is not None or share_group_id is not None:
        somewhere = from_beginning or from_offset is not None or from_time is not None or numbers
        _check_member(group_id, share_group_id, somewhere=bool(somewhere), committed=committed)
        with _ends_quietly(follow):
            if share_group_id is not None:
                with cluster.admin() as admin:
                    admin.describe_topics([topic])  # raises for one that does not exist
                with cluster.share_consumer(group_id=share_group_id, **settings) as sharing:
                    copy_as_share_member(sharing, topic, count, writer, follow=follow)
                return
            with cluster.consumer(
                auto_offset_reset="earliest", group_id=group_id, **settings
            ) as consumer:
                copy_as_member(consumer, topic, count, writer, follow=follow)
        return
    with cluster.consumer(auto_offset_reset="earliest", **settings) as consumer:
        partitions = _partitions(consumer, topic, numbers)
        consumer.assign(partitions)
        ends = None if follow else consumer.end_offsets(partitions)
        _seek(consumer, partitions, from_offset, from_time)
        with _ends_quietly(follow):
            _copy(consumer, ends, count, writer, quiet=quiet)


@contextmanager
def _ends_quietly(follow: bool) -> Iterator[None]:
    """Interrupting is how --follow ends."""
    try:
        yield
    except KeyboardInterrupt:
        if not follow:
            raise


def _check_member(
    group_id: str | None, share_group_id: str | None, *, somewhere: bool, committed: bool
) -> None:
    if group_id is not None and share_group_id is not None:
        raise click.UsageError("use one of --group and --share-group")
    if somewhere and share_group_id is not None:
        raise click.UsageError(
            "a share group reads what is not done; move that with `raykafka share-group reset`"
        )
    if somewhere:
        raise click.UsageError(
            "a group reads on from what it has committed; move that with `raykafka group reset`"
        )
    if committed and share_group_id is not None:
        raise click.UsageError(
            "a share group has an isolation level of its own: `raykafka share-group alter` sets "
            "share.isolation.level"
        )


def _partitions(consumer: Consumer, topic: str, numbers: tuple[int, ...]) -> list[TopicPartition]:
    found = consumer.partitions_for_topic(topic)
    if found is None:
        raise UnknownTopicOrPartitionError(
            f"topic {topic} does not exist; `raykafka topic list` shows those that do"
        )
    unknown = set(numbers) - found
    if unknown:
        raise UnknownTopicOrPartitionError(
            f"topic {topic} has partitions 0 to {max(found)}, not {min(unknown)}"
        )
    return [TopicPartition(topic, number) for number in sorted(numbers or found)]


def _seek(
    consumer: Consumer,
    partitions: list[TopicPartition],
    from_offset: str | int | None,
    from_time: int | None,
) -> None:
    if from_time is not None:
        times = consumer.offsets_for_times(dict.fromkeys(partitions, from_time))
        for partition, found in times.items():
            if found is None:
                consumer.seek_to_end(partition)
            else:
                consumer.seek(partition, found.offset)
    elif from_offset == "latest":
        consumer.seek_to_end()
    elif isinstance(from_offset, int):
        starts = consumer.beginning_offsets(partitions)
        ends = consumer.end_offsets(partitions)
        longest = max(ends, key=ends.__getitem__)
        if from_offset > ends[longest]:
            raise OffsetOutOfRangeError(
                f"no partition has offset {from_offset}; {longest} goes furthest and ends at "
                f"{ends[longest]}"
            )
        for partition, end in ends.items():
            wanted = from_offset if from_offset >= 0 else end + from_offset
            consumer.seek(partition, max(starts[partition], min(wanted, end)))
    else:
        consumer.seek_to_beginning()


def _copy(
    consumer: Consumer,
    ends: dict[TopicPartition, int] | None,
    count: int | None,
    writer: RecordWriter,
    *,
    quiet: bool,
) -> None:
    """Print until ``count`` records were printed or ``ends`` are reached; None never is."""
    total = None
    if ends is not None:
        left = sum(max(0, end - consumer.position(tp)) for tp, end in ends.items())
        total = left if count is None else min(left, count)
    bar = progress("reading", total, size=False, quiet=quiet or writer.to_terminal or ends is None)
    written = 0
    with bar:
        while count is None or written < count:
            if ends is not None and not _pause_finished(consumer, ends):
                return
            limit = ROWS_AT_ONCE if count is None else min(ROWS_AT_ONCE, count - written)
            for batch in consumer.poll_batches(WAIT_MS, limit, metadata=METADATA):
                rows = batch.batch
                if ends is not None:
                    rows = rows.slice(0, max(0, ends[batch.partition] - batch.base_offset))
                written += writer.write(batch.partition, rows)
            writer.flush()
            bar.update(bar.task_ids[0], completed=written)


def _pause_finished(consumer: Consumer, ends: dict[TopicPartition, int]) -> bool:
    """Ask no more of partitions that are read up to their end; False when all are."""
    finished = {tp for tp, end in ends.items() if consumer.position(tp) >= end}
    for partition in finished - consumer.paused():
        consumer.pause(partition)
    return len(finished) < len(ends)
