"""What ``raykafka group`` shows: lag, plans of resets, and both over time."""

from __future__ import annotations

import csv
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click
from rich.console import Console
from rich.live import Live

from raykafka import TopicPartition
from raykafka.cli.options import moment
from raykafka.cli.output import note, print_json, print_table, table_of, to_json
from raykafka.clock import SystemClock

if TYPE_CHECKING:
    from raykafka.client.admin import Admin
    from raykafka.client.operating.group_operations import PartitionLag
    from raykafka.client.operating.offset_resets import OffsetChange

Command = TypeVar("Command", bound=Callable[..., Any])


def reset_options(command: Command) -> Command:
    """Where to reset offsets to, one way or another."""
    for option in (
        click.option(
            "--from-file",
            type=click.Path(exists=True, dir_okay=False),
            help="To the offsets in a CSV file of lines topic,partition,offset.",
        ),
        click.option(
            "--shift-by", type=int, metavar="N", help="N records on, or back if N is negative."
        ),
        click.option(
            "--to-time",
            type=moment,
            metavar="TIME",
            help="To the first record at or after this time: 2013-01-31T18:00, milliseconds since "
            "the epoch, or an age such as 15m, 2h, 7d.",
        ),
        click.option("--to-offset", type=click.IntRange(min=0), help="To this offset."),
        click.option(
            "--to",
            type=click.Choice(("earliest", "latest", "current")),
            help="To the first record, to the end, or not at all (to see what is committed).",
        ),
    ):
        command = option(command)
    return command


class ResetWays(TypedDict):
    """Where to reset offsets to, as ``Admin`` takes it."""

    to: str | None
    to_offset: int | None
    to_time: int | None
    shift_by: int | None
    offsets: dict[TopicPartition | tuple[str, int], int] | None


def reset_way(
    to: str | None,
    to_offset: int | None,
    to_time: int | None,
    shift_by: int | None,
    from_file: str | None,
) -> ResetWays:
    """What ``reset_options`` gave; raises ``click.UsageError`` unless it is exactly one."""
    ways = (to, to_offset, to_time, shift_by, from_file)
    if sum(way is not None for way in ways) != 1:
        raise click.UsageError(
            "use exactly one of --to, --to-offset, --to-time, --shift-by and --from-file"
        )
    return ResetWays(
        to=to,
        to_offset=to_offset,
        to_time=to_time,
        shift_by=shift_by,
        offsets=None if from_file is None else read_offsets(from_file),
    )


def read_offsets(path: str) -> dict[TopicPartition | tuple[str, int], int]:
    """Lines of ``topic,partition,offset``; raises ``click.BadParameter`` with the line's number."""
    offsets: dict[TopicPartition | tuple[str, int], int] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row or (number == 1 and row[0].strip().strip('"').lower() == "topic"):
                continue
            try:
                topic, partition, offset = row
                offsets[TopicPartition(topic.strip(), int(partition))] = int(offset)
            except ValueError:
                raise click.BadParameter(
                    f"line {number} of {path} is not topic,partition,offset"
                ) from None
    return offsets


def write_plan(changes: Sequence[OffsetChange], *, as_json: bool, executed: bool) -> None:
    """The offsets that a reset changes, or has changed."""
    if as_json:
        print_json(
            {
                "executed": executed,
                "offsets": [
                    {
                        "topic": each.partition.topic,
                        "partition": each.partition.partition,
                        "before": each.before,
                        "after": each.after,
                        "note": each.note,
                    }
                    for each in changes
                ],
            }
        )
        return
    rows = [(str(each.partition), each.before, each.after, each.note) for each in changes]
    print_table(("partition", "committed", "new", "note"), rows)
    if not executed:
        note("nothing was changed; --execute does it")


def lag_columns() -> tuple[str, ...]:
    """Of ``lag_rows``."""
    return ("partition", "committed", "end", "lag", "member", "host")


def lag_rows(lag: Iterable[PartitionLag]) -> list[tuple[object, ...]]:
    """One partition a line."""
    return [
        (
            str(each.partition),
            each.committed,
            each.log_end_offset,
            each.lag,
            each.client_id or each.member_id or None,
            each.host or None,
        )
        for each in lag
    ]


def lag_json(lag: Iterable[PartitionLag]) -> list[dict[str, object]]:
    """The same for programs."""
    return [
        {
            **{name: value for name, value in each._asdict().items() if name != "partition"},
            "topic": each.partition.topic,
            "partition": each.partition.partition,
        }
        for each in lag
    ]


def watch_lag(
    admin: Admin, group_id: str, interval_s: float, count: int | None, *, as_json: bool
) -> None:
    """Show the lag every ``interval_s``, ``count`` times; in place on a terminal."""
    clock = SystemClock()
    pause = threading.Event()
    live = None
    if not as_json and sys.stdout.isatty():
        live = Live(console=Console(), auto_refresh=False)
        live.start()
    try:
        before: dict[TopicPartition, int | None] = {}
        looked_ms = clock.monotonic_ms()
        looks = 0
        while True:
            lag = admin.consumer_group_lag(group_id)
            now_ms = clock.monotonic_ms()
            if as_json:
                click.echo(to_json({"group": group_id, "offsets": lag_json(lag)}))
            else:
                rates = _rates(lag, before, now_ms - looked_ms)
                rows = [(*row, rate) for row, rate in zip(lag_rows(lag), rates, strict=True)]
                columns = (*lag_columns(), "commits/s")
                if live is None:
                    print_table(columns, rows)
                else:
                    live.update(table_of(columns, rows, group_id), refresh=True)
            before = {each.partition: each.committed for each in lag}
            looked_ms = now_ms
            looks += 1
            if looks == count:
                return
            pause.wait(interval_s)
    finally:
        if live is not None:
            live.stop()


def _rates(
    lag: Iterable[PartitionLag], before: dict[TopicPartition, int | None], elapsed_ms: int
) -> list[int | None]:
    """Records per second that were committed since the last look."""
    rates: list[int | None] = []
    for each in lag:
        last = before.get(each.partition)
        if last is None or each.committed is None or elapsed_ms <= 0:
            rates.append(None)
        else:
            rates.append(round((each.committed - last) * 1000 / elapsed_ms))
    return rates
