"""Plans of moves: how they are shown, kept in files and carried out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from raykafka.cli.output import note, print_json, print_table, progress, size_text
from raykafka.client.operating.planning import Move, MovePlan
from raykafka.model import TopicPartition

if TYPE_CHECKING:
    from raykafka.client.operating.operations import OnProgress

Command = TypeVar("Command", bound=Callable[..., Any])
_SHOWN = 40
"""Moves of a plan that are listed one by one for people."""


def yes_option(command: Command) -> Command:
    """``--yes``: no question before something happens."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)


def timeout_option(command: Command) -> Command:
    """``--timeout``: how long to wait for long work."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Stop waiting after this time; the cluster goes on.  [default: wait until it is done]",
    )(command)


def throttle_option(command: Command) -> Command:
    """``--throttle``: how fast replicas may be copied."""
    return click.option(
        "--throttle",
        type=click.IntRange(min=1),
        metavar="BYTES",
        help="Copy at most this many bytes per second into and out of each broker.",
    )(command)


def milliseconds(timeout_s: float | None) -> float | None:
    """A timeout in the clients' unit."""
    return None if timeout_s is None else timeout_s * 1000


@contextmanager
def bar(what: str, *, quiet: bool) -> Iterator[OnProgress]:
    """A progress bar on standard error; what is entered takes (done, total)."""
    with progress(what, 1, size=False, quiet=quiet) as shown:

        def tell_bar(done: int, total: int) -> None:
            shown.update(shown.task_ids[0], completed=done, total=max(1, total))

        yield tell_bar


def show_plan(plan: MovePlan) -> None:
    """What would be moved, and what the brokers hold before and after."""
    if not plan.moves:
        note("nothing to move")
        return
    shown = plan.moves[:_SHOWN]
    print_table(
        ("partition", "from brokers", "to brokers", "to copy"),
        [
            (move.place, list(move.before), list(move.after), size_text(move.size_bytes))
            for move in shown
        ],
    )
    if len(plan.moves) > len(shown):
        click.echo(f"... and {len(plan.moves) - len(shown)} more partitions")
    click.echo()
    after = {share.broker_id: share for share in plan.after}
    print_table(
        ("broker", "replicas", "then", "preferred leader of", "then", "size", "then"),
        [
            (
                share.broker_id,
                share.replicas,
                after[share.broker_id].replicas,
                share.leaders,
                after[share.broker_id].leaders,
                size_text(share.size_bytes),
                size_text(after[share.broker_id].size_bytes),
            )
            for share in plan.before
        ],
    )
    click.echo(f"\n{len(plan.moves)} partitions change, {size_text(plan.size_bytes)} to copy")


def plan_json(plan: MovePlan) -> dict[str, object]:
    """A plan for programs; ``partitions`` is what ``partition reassign apply`` reads."""
    return {
        **moves_json(plan.moves),
        "size_bytes": plan.size_bytes,
        "before": [share._asdict() for share in plan.before],
        "after": [share._asdict() for share in plan.after],
    }


def moves_json(moves: Iterable[Move]) -> dict[str, object]:
    """Moves in the format of Kafka's ``kafka-reassign-partitions``."""
    return {
        "version": 1,
        "partitions": [
            {
                "topic": move.place.topic,
                "partition": move.place.partition,
                "replicas": list(move.after),
            }
            for move in moves
        ],
    }


def moves_of_json(text: str) -> list[Move]:
    """The moves of such a document; raises ``click.ClickException`` that says what is wrong."""
    try:
        found = json.loads(text)["partitions"]
        return [
            Move(
                TopicPartition(str(each["topic"]), int(each["partition"])),
                (),
                tuple(int(broker) for broker in each["replicas"]),
            )
            for each in found
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(
            f"this is no plan ({error!r}); it looks like"
            ' {"partitions": [{"topic": "t", "partition": 0, "replicas": [1, 2]}]},'
            " as `raykafka partition reassign plan --json` prints it"
        ) from error


def tell(text: str, facts: Mapping[str, object], as_json: bool) -> None:
    """The same as a remark for people or as JSON for programs."""
    if as_json:
        print_json(facts)
    else:
        note(text)
