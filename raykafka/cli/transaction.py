"""``raykafka transaction``: look at transactions, and end those that nobody ends."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click

from raykafka import PreparedTransaction, TopicPartition
from raykafka.cli.options import cluster_option, connect, json_option
from raykafka.cli.output import all_fields, note, print_facts, print_json, print_table
from raykafka.errors import InvalidTxnStateError

if TYPE_CHECKING:
    from raykafka.client.admin import Admin
    from raykafka.protocol.txn_messages import ProducerInfo

_STATES = (
    "Empty",
    "Ongoing",
    "Prepared",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
)
_ids_argument = click.argument(
    "transactional_ids", metavar="TRANSACTIONAL_ID...", nargs=-1, required=True
)
_handle_argument = click.argument("which", metavar="TRANSACTIONAL_ID|HANDLE")


@click.group()
def transaction() -> None:
    """Look at transactions, decide over prepared ones, end those that hang."""


@transaction.command("list")
@cluster_option
@click.option(
    "--state", "states", multiple=True, type=click.Choice(_STATES), help="May be repeated."
)
@click.option("--producer-id", "producer_ids", multiple=True, type=int, help="May be repeated.")
@click.option(
    "--longer-than", type=click.IntRange(min=0), metavar="MS", help="Open for more milliseconds."
)
@json_option
def list_transactions(
    name: str,
    states: tuple[str, ...],
    producer_ids: tuple[int, ...],
    longer_than: int | None,
    as_json: bool,
) -> None:
    """List transactional ids, their producers and states."""
    with connect(name).admin() as admin:
        found = admin.list_transactions(
            states=states,
            producer_ids=producer_ids,
            min_duration_ms=-1 if longer_than is None else longer_than,
        )
    if as_json:
        print_json(all_fields(found))
        return
    rows = [(each.transactional_id, str(each.producer_id), each.state) for each in found]
    print_table(("transactional id", "producer id", "state"), rows)


@transaction.command()
@_ids_argument
@cluster_option
@json_option
def describe(transactional_ids: tuple[str, ...], name: str, as_json: bool) -> None:
    """Show producer, partitions, age and time-out of transactions."""
    with connect(name).admin() as admin:
        found = list(admin.describe_transactions(transactional_ids).values())
    if as_json:
        print_json(all_fields(found))
        return
    for each in found:
        print_facts(
            [
                ("transactional id", each.transactional_id),
                ("state", each.state),
                ("producer id", str(each.producer_id)),
                ("producer epoch", str(each.producer_epoch)),
                ("open since", _time(each.start_ms)),
                ("timeout", f"{each.timeout_ms:,} ms"),
                ("two phases", each.two_phase),
                ("partitions", [f"{part.topic}-{part.partition}" for part in each.partitions]),
            ]
        )


@transaction.command()
@click.argument("topic")
@cluster_option
@click.option("--partition", "-p", type=click.IntRange(min=0), help="Only this one.")
@json_option
def producers(topic: str, name: str, partition: int | None, as_json: bool) -> None:
    """Show who writes to TOPIC, and where their open transactions begin."""
    with connect(name).admin() as admin:
        [described] = admin.describe_topics([topic])
        numbers = range(len(described.partitions)) if partition is None else [partition]
        found = admin.describe_producers([(topic, number) for number in numbers])
    if as_json:
        print_json(
            [
                {"topic": place.topic, "partition": place.partition, **all_fields(each)}
                for place, each in _each(found)
            ]
        )
        return
    columns = ("partition", "producer id", "epoch", "last sequence", "last wrote", "open since")
    rows = [
        (
            place.partition,
            str(each.producer_id),
            each.producer_epoch,
            each.last_sequence,
            _time(each.last_timestamp_ms),
            each.transaction_start_offset if each.transaction_start_offset >= 0 else None,
        )
        for place, each in _each(found)
    ]
    print_table(columns, rows)


def _each(
    found: Mapping[TopicPartition, Iterable[ProducerInfo]],
) -> list[tuple[TopicPartition, ProducerInfo]]:
    return [(place, each) for place, listed in sorted(found.items()) for each in listed]


@transaction.command("find-hanging")
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@cluster_option
@click.option(
    "--max-timeout-ms",
    type=click.IntRange(min=0),
    default=900_000,
    show_default=True,
    help="Leave out what was written to within this time.",
)
@json_option
def find_hanging(topics: tuple[str, ...], name: str, max_timeout_ms: int, as_json: bool) -> None:
    """Find transactions that are open in a partition and that no coordinator will end.

    Looks at all topics if none is given. End one with `raykafka transaction abort`.
    """
    with connect(name).admin() as admin:
        found = admin.find_hanging_transactions(topics or None, max_timeout_ms=max_timeout_ms)
    if as_json:
        print_json([each._asdict() for each in found])
        return
    columns = ("topic", "partition", "start offset", "producer id", "epoch", "last wrote", "id")
    rows = [
        (
            each.topic,
            each.partition,
            each.start_offset,
            str(each.producer_id),
            each.producer_epoch,
            _time(each.last_timestamp_ms),
            each.transactional_id or None,
        )
        for each in found
    ]
    print_table(columns, rows)


@transaction.command()
@click.argument("topic")
@click.argument("partition", type=click.IntRange(min=0))
@click.argument("start_offset", type=click.IntRange(min=0))
@cluster_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def abort(
    topic: str, partition: int, start_offset: int, name: str, yes: bool, as_json: bool
) -> None:
    """Abort the transaction that hangs in a PARTITION of TOPIC from START_OFFSET on.

    Its coordinator is not asked: only for what `find-hanging` has found. What a living producer has
    open is ended with `raykafka transaction fence`.
    """
    place = TopicPartition(topic, partition)
    with connect(name).admin() as admin:
        for found in admin.describe_producers([place])[place]:
            if found.transaction_start_offset == start_offset:
                break
        else:
            raise InvalidTxnStateError(f"no open transaction of {place} begins at {start_offset}")
        what = f"the transaction of producer id {found.producer_id} in {topic}-{partition}"
        if not yes:
            click.confirm(f"Abort {what} without asking its coordinator?", abort=True, err=True)
        admin.abort_transaction(
            place,
            producer_id=found.producer_id,
            producer_epoch=found.producer_epoch,
            start_offset=start_offset,
        )
    told = {"topic": topic, "partition": partition, "producer_id": found.producer_id}
    _tell(f"aborted {what}", told, as_json)


@transaction.command()
@_ids_argument
@cluster_option
@json_option
def fence(transactional_ids: tuple[str, ...], name: str, as_json: bool) -> None:
    """Lock out the producers of transactional ids and abort what they have open.

    What is prepared stays prepared.
    """
    with connect(name).admin() as admin:
        admin.fence_producers(transactional_ids)
    _tell(f"fenced {', '.join(transactional_ids)}", {"fenced": transactional_ids}, as_json)


@transaction.command("commit-prepared")
@_handle_argument
@cluster_option
@json_option
def commit_prepared(which: str, name: str, as_json: bool) -> None:
    """Commit a prepared transaction.

    It is named by its transactional id, or by the JSON that `PreparedTransaction.to_json` makes:
    that one says exactly which transaction, so it may be given again.
    """
    with connect(name).admin() as admin:
        prepared = _prepared(admin, which)
        admin.commit_prepared(prepared)
    _tell(f"committed {prepared.transactional_id}", _decided(prepared, "committed"), as_json)


@transaction.command("abort-prepared")
@_handle_argument
@cluster_option
@json_option
def abort_prepared(which: str, name: str, as_json: bool) -> None:
    """Abort a prepared transaction; see `commit-prepared` for how it is named."""
    with connect(name).admin() as admin:
        prepared = _prepared(admin, which)
        admin.abort_prepared(prepared)
    _tell(f"aborted {prepared.transactional_id}", _decided(prepared, "aborted"), as_json)


def _prepared(admin: Admin, which: str) -> PreparedTransaction:
    if which.lstrip().startswith("{"):
        return PreparedTransaction.from_json(which)
    for prepared in admin.list_prepared():
        if prepared.transactional_id == which:
            return prepared
    raise InvalidTxnStateError(f"no transaction of {which!r} is prepared")


def _decided(prepared: PreparedTransaction, what: str) -> dict[str, object]:
    return {
        "transactional_id": prepared.transactional_id,
        "producer_id": prepared.producer_id,
        "producer_epoch": prepared.producer_epoch,
        "outcome": what,
    }


def _time(at_ms: int) -> str | None:
    if at_ms < 0:
        return None
    at = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.timezone.utc)
    return at.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00") + "Z"


def _tell(text: str, facts: Mapping[str, object], as_json: bool) -> None:
    """The same as a remark for people or as JSON for programs."""
    if as_json:
        print_json(facts)
    else:
        note(text)
