"""The ``raykafka`` command: its groups load only when they are used, so that help is quick."""

from __future__ import annotations

import importlib

import click

from raykafka import __version__
from raykafka.errors import RaykafkaError

_COMMANDS = {
    "up": ("lifecycle", "Start a cluster, or find the one that runs."),
    "down": ("lifecycle", "Stop a cluster; its data stay."),
    "status": ("lifecycle", "Show a cluster's brokers, actors and health."),
    "topic": ("topic", "Create, look at, alter and delete topics."),
    "partition": ("partition", "Move partitions between brokers, elect leaders."),
    "broker": ("broker", "See, drain, restart and decommission brokers."),
    "quorum": ("quorum", "Look at the controllers that hold the metadata."),
    "rebalance": ("rebalance", "Level the load of all brokers."),
    "group": ("group", "Look at consumer groups, move their offsets, delete them."),
    "share-group": ("share_group", "Look at share groups, move where they begin, delete them."),
    "transaction": ("transaction", "Look at transactions, decide over prepared ones."),
    "produce": ("produce", "Write records from a file or from standard input."),
    "consume": ("consume", "Read records, once or following what arrives."),
    "config": ("config", "Look up the documented configuration keys."),
    "completion": ("completion", "Print the completion script of a shell."),
}


class LazyGroup(click.Group):
    """Imports the module of a command when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"raykafka.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; raykafka's errors become one line on standard error and exit code 1."""
        try:
            return super().invoke(ctx)
        except RaykafkaError as error:
            raise click.ClickException(f"{error.message} [{type(error).__name__}]") from error


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="raykafka")
def app() -> None:
    """A durable, partitioned log for Ray.

    Tables are for people; --json prints the same for programs. A command that fails says why on
    standard error and ends with 1, or with 2 if it was called wrongly.
    """


def main() -> None:
    """Entry point of the ``raykafka`` script."""
    app(prog_name="raykafka")
