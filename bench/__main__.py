"""``python -m bench``: raykafka and its peers side by side on one machine."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from bench.groups.run import run as run_groups
from bench.headline.cases import CASES
from bench.headline.run import run as run_headline
from bench.load import results, runner, suite, workload
from bench.measuring.environment import environment
from bench.peers.registry import CLIENTS, PEERS
from bench.typed.run import run as run_typed

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def _clients(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in CLIENTS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(CLIENTS)}")
    return names


clients_option = click.option(
    "--client",
    "clients",
    multiple=True,
    callback=_clients,
    metavar="NAME",
    help=f"Only this client; may be repeated. Known: {', '.join(CLIENTS)}.",
)
out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    show_default="bench/results",
    help="Folder for the results.",
)
minutes_option = click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Length of each timed phase."
)
scale_option = click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Factor for numbers of records and bytes.",
)


@click.group()
def main() -> None:
    """Benchmarks of raykafka beside real peers, on this machine, over loopback."""


@main.command()
@click.argument("cases", nargs=-1, type=click.Choice(tuple(CASES)), metavar="[CASE]...")
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
@out_option
def headline(cases: tuple[str, ...], runs: int, out: Path) -> None:
    """The rows with targets, interleaved with Apache Kafka: what `make bench` runs.

    CASE is any of cold-start, bulk, perf-tools, 1kb, one-record, transactions, partitions,
    one-record-batches, ray-data, cold-start-joining, three-copies, killed-leader, silent-leader,
    empty-disk; default: all. Writes headline.json, headline.md and headline.png.
    """
    run_headline(cases, runs, out)


@main.command()
@click.option(
    "--suite",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=HERE / "suites" / "full.yaml",
    show_default="bench/suites/full.yaml",
)
@clients_option
@click.option("--runs", type=click.IntRange(min=1), help="Repetitions of each case, for all alike.")
@scale_option
@minutes_option
@out_option
def full(
    path: Path,
    clients: tuple[str, ...],
    runs: int | None,
    scale: float,
    minutes: float | None,
    out: Path,
) -> None:
    """Every workload of a suite, for every client: sweeps, load curves, fan-out, catch-up."""
    chosen = clients or None
    try:
        suite.run(path, out / "full", clients=chosen, scale=scale, minutes=minutes, runs=runs)
    except workload.WorkloadError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True)
@out_option
def typed(runs: int, out: Path) -> None:
    """Tables of 20 columns, tensors, datasets, and what a million records cost."""
    console = Console(stderr=True)
    with console.status("starting") as status:
        run_typed(out / "full", runs, status.update)
    click.echo((out / "full" / "typed.md").read_text())


@main.command()
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@scale_option
def groups(rounds: int, scale: float) -> None:
    """Consumer groups: how fast they settle and commit, and get over a killed coordinator."""
    for name, value in run_groups(rounds=rounds, scale=scale).items():
        click.echo(f"{name:45} {value:8.3f}")


@main.command(name="run")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="WORKLOAD.yaml...",
)
@clients_option
@click.option("--runs", type=click.IntRange(min=1), default=1, show_default=True)
@scale_option
@minutes_option
@out_option
def run_files(
    files: tuple[Path, ...],
    clients: tuple[str, ...],
    runs: int,
    scale: float,
    minutes: float | None,
    out: Path,
) -> None:
    """Workload files of the OpenMessaging Benchmark, for every client."""
    chosen = clients or ("raykafka", "confluent-kafka")
    settings = runner.Settings(minutes=minutes, scale=scale)
    try:
        loads = [workload.load(file) for file in files]
    except workload.WorkloadError as error:
        raise click.ClickException(str(error)) from None
    with runner.Servers(runner.default_registry()) as servers:
        for load in loads:
            found = runner.run_workload(
                load, chosen, out / "workloads", settings, runs=runs, servers=servers
            )
            click.echo(results.table(found))


@main.command()
def peers() -> None:
    """What is installed here, and how to get what is not."""
    for name, make in PEERS.items():
        reason = make().missing()
        click.echo(f"{name:10} {'ready, ' + make().version() if reason is None else reason}")
    for name, found in CLIENTS.items():
        click.echo(f"{name:40} {found.missing() or 'ready'}")
    for key, value in environment(Path.cwd()).items():
        click.echo(f"{key:15} {value}")


if __name__ == "__main__":
    main(prog_name="python -m bench")
