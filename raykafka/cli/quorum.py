"""``raykafka quorum``: the controllers that hold the metadata."""

from __future__ import annotations

import click

from raykafka.cli.options import cluster_option, connect, json_option
from raykafka.cli.output import all_fields, print_facts, print_json, print_table


@click.group()
def quorum() -> None:
    """Look at the controllers that hold the cluster's metadata."""


@quorum.command()
@cluster_option
@json_option
def describe(name: str, as_json: bool) -> None:
    """Show the voters, which of them is active, and how far the others are."""
    with connect(name).admin() as admin:
        found = admin.describe_quorum()
    if as_json:
        print_json(all_fields(found))
        return
    print_facts(
        [
            ("active", found.leader_id if found.leader_id >= 0 else "being elected"),
            ("epoch", found.leader_epoch),
            ("high watermark", found.high_watermark),
            ("snapshot up to", found.log_start_offset),
        ]
    )
    click.echo()
    columns = ("voter", "role", "listens on", "log end", "lag", "heard", "directory")
    print_table(
        columns,
        [
            (
                each.replica_id,
                _role(each.replica_id == found.leader_id, each.voter),
                f"{each.host}:{each.port}" if each.port else None,
                each.log_end_offset if each.log_end_offset >= 0 else None,
                each.lag if each.lag >= 0 else None,
                f"{each.heard_ms} ms ago" if each.heard_ms >= 0 else None,
                each.directory_id,
            )
            for each in found.replicas
        ],
    )


def _role(is_leader: bool, is_voter: bool) -> str:
    if is_leader:
        return "active"
    return "voter" if is_voter else "observer"
