"""Runs seeds, one after the other or on all cores: ``python -m raykafka.testing.simulation``."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raykafka.testing.simulation.scenario import Result, run_seed, shape_of_seed

_SEEDS_PER_PROCESS = 200


@click.command()
@click.option("--seeds", default=200, show_default=True, help="How many seeds to run.")
@click.option("--first", default=1, show_default=True, help="The first of them.")
@click.option("--processes", default=0, help="Processes that run them; 0: one per core.")
@click.option("--log", is_flag=True, help="Show what the actors log, and run in one process.")
def main(seeds: int, first: int, processes: int, log: bool) -> None:
    """Run simulated clusters, each from a seed, and stop with 1 when an invariant did not hold."""
    console = Console(stderr=True)
    workers = 1 if log else min(processes or os.cpu_count() or 1, seeds)
    numbers = range(first, first + seeds)
    if log:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    failed = steps = faults = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=log) as progress:
        bar = progress.add_task("simulating", total=seeds)
        for result in _results(numbers, workers, log=log):
            steps += result.steps
            faults += sum(result.faults.values())
            failed += bool(result.violations)
            for line in _report(result, detailed=seeds == 1):
                progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
            progress.advance(bar)
    click.echo(
        f"{seeds} seeds from {first}: {steps:,} steps, {faults:,} faults injected, "
        f"{failed} violations"
    )
    sys.exit(1 if failed else 0)


def _results(numbers: range, workers: int, *, log: bool) -> Iterator[Result]:
    if workers == 1:
        yield from (run_seed(number, log=log) for number in numbers)
        return
    with multiprocessing.get_context("fork").Pool(
        workers, _begin, maxtasksperchild=_SEEDS_PER_PROCESS
    ) as pool:
        yield from pool.imap_unordered(run_seed, numbers)


def _begin() -> None:
    gc.collect()
    gc.freeze()


def _report(result: Result, *, detailed: bool) -> Iterator[str]:
    if detailed:
        yield f"seed {result.seed}: {shape_of_seed(result.seed)}"
        yield f"  {result.acknowledged} batches acknowledged, {result.read} read"
        yield f"  {result.virtual_s:.3f} virtual seconds, {result.steps} steps"
        yield from (f"  {when:9.6f} s  {name}" for when, name in result.timeline)
        yield f"  trace {result.trace}"
    if result.violations:
        yield f"seed {result.seed}: {result.violations[0]}"
        yield from (f"  and {violation}" for violation in result.violations[1:5])
        yield f"  again: make sim SEEDS=1 FIRST={result.seed}"


if __name__ == "__main__":
    main()
