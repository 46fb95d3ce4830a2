"""Runs a list of workloads, swept and repeated, and leaves results, a table and pictures."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from bench.load import plots, results, runner, workload
from bench.load.results import Result
from bench.load.runner import Registry, Servers, Settings
from bench.load.workload import Workload, WorkloadError

SETTINGS = ("copies", "fsync", "acks", "batch", "linger_ms", "minutes", "scale", "apart")
_SEARCH_RUNS = 1


@dataclass(frozen=True)
class Entry:
    """One line of a suite."""

    name: str
    workload: Workload
    clients: tuple[str, ...]
    runs: int = 2
    settings: Settings = field(default_factory=Settings)
    sweep: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values to try for fields of the workload or of the settings; all combinations."""
    load_curve: tuple[float, ...] = ()
    """Shares of the highest rate of each client, which is looked for first."""

    def cases(self) -> Iterator[tuple[dict[str, Any], Workload, Settings]]:
        """The swept values, and the workload and settings that they make."""
        for values in itertools.product(*self.sweep.values()):
            chosen = dict(zip(self.sweep, values, strict=True))
            fields = {name: value for name, value in chosen.items() if name not in SETTINGS}
            changed = {name: value for name, value in chosen.items() if name in SETTINGS}
            label = ", ".join(f"{name}={value}" for name, value in chosen.items())
            name = f"{self.name} [{label}]" if label else self.name
            yield (
                chosen,
                self.workload.changed({**fields, "name": name}),
                dataclasses.replace(self.settings, **changed),
            )

    @property
    def steps(self) -> int:
        """How many runs it takes."""
        cases = sum(1 for _ in self.cases())
        searches = _SEARCH_RUNS if self.load_curve else 0
        each = len(self.load_curve) * self.runs + searches if self.load_curve else self.runs
        return cases * each * len(self.clients)


def load(path: Path) -> list[Entry]:
    """Read a suite. Raises ``WorkloadError`` for anything in it that cannot be run."""
    found = yaml.safe_load(path.read_text())
    if not isinstance(found, dict) or not isinstance(found.get("entries"), list):
        raise WorkloadError(f"{path} must hold a list of entries")
    defaults = found.get("defaults", {})
    return [_entry(path, {**defaults, **given}) for given in found["entries"]]


def _entry(path: Path, given: Mapping[str, Any]) -> Entry:
    name = given.get("name", "an entry without a name")
    own = ("name", "workload", "overrides", "sweep", "load_curve", "clients", "runs")
    unknown = sorted(set(given) - set(own) - set(SETTINGS))
    lacking = sorted({"name", "workload", "clients"} - set(given))
    if unknown or lacking:
        wrong = f"no such key: {', '.join(unknown)}" if unknown else f"give {', '.join(lacking)}"
        raise WorkloadError(f"{path}: {name}: {wrong}; keys are {', '.join((*own, *SETTINGS))}")
    base = workload.load(path.parent / given["workload"])
    chosen = {key: given[key] for key in SETTINGS if key in given}
    entry = Entry(
        name,
        base.changed(given.get("overrides", {})),
        tuple(given["clients"]),
        int(given.get("runs", 2)),
        Settings(**chosen),
        given.get("sweep", {}),
        tuple(given.get("load_curve", ())),
    )
    list(entry.cases())  # every value of a sweep is looked at before anything runs
    return entry


def run(
    path: Path,
    out_dir: Path,
    clients: Sequence[str] | None = None,
    scale: float = 1.0,
    minutes: float | None = None,
    runs: int | None = None,
    *,
    registry: Registry | None = None,
) -> list[Result]:
    """Run the suite at ``path``; JSON, ``table.md`` and PNG files are in ``out_dir`` afterwards.

    ``clients`` leaves out the others; ``scale`` lengthens or shortens timed phases and backlogs,
    ``minutes`` sets the length of every timed phase, ``runs`` how often each case is repeated.
    """
    registry = registry or runner.default_registry()
    entries = [_adapted(entry, clients, scale, minutes, runs) for entry in load(path)]
    entries = [entry for entry in entries if entry.clients]
    for name in dict.fromkeys(name for entry in entries for name in entry.clients):
        registry.client(name)  # a misspelt one is better known now than in half an hour
    found: list[Result] = []
    with _progress() as progress, Servers(registry) as servers:
        task = progress.add_task("", total=sum(entry.steps for entry in entries))

        def tell(what: str) -> None:
            progress.update(task, description=what)

        def done() -> None:
            progress.advance(task)

        bench = _Bench(registry, servers, out_dir, tell, done)
        for entry in entries:
            mine = bench.curve(entry) if entry.load_curve else bench.sweep(entry)
            found.extend(mine)
            draw(entry, mine, out_dir)
            (out_dir / "table.md").write_text(report(found))
    return found


def _adapted(
    entry: Entry,
    clients: Sequence[str] | None,
    scale: float,
    minutes: float | None,
    runs: int | None,
) -> Entry:
    own = entry.settings
    length = own.minutes if own.minutes is not None else entry.workload.testDurationMinutes
    settings = dataclasses.replace(
        own, minutes=minutes if minutes is not None else length * scale, scale=own.scale * scale
    )
    kept = tuple(name for name in entry.clients if clients is None or name in clients)
    return dataclasses.replace(entry, settings=settings, clients=kept, runs=runs or entry.runs)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
        console=Console(stderr=True),
    )


class _Bench:
    """What the entries of a suite are run with."""

    def __init__(
        self, registry: Registry, servers: Servers, out_dir: Path, tell: Any, done: Any
    ) -> None:
        self._registry, self._servers, self._out_dir = registry, servers, out_dir
        self._tell, self._done = tell, done

    def sweep(self, entry: Entry) -> list[Result]:
        """Every case of an entry, on its clients in turn."""
        found: list[Result] = []
        for chosen, case, settings in entry.cases():
            labels = {"entry": entry.name, "sweep": chosen, "offeredRate": case.producerRate}
            found += self._run(case, entry.clients, settings, entry.runs, labels)
        return found

    def curve(self, entry: Entry) -> list[Result]:
        """Each client's highest rate, then shares of it, all clients in turn at each share."""
        found: list[Result] = []
        for chosen, case, settings in entry.cases():
            labels = {"entry": entry.name, "sweep": chosen}
            searched = case.changed({"producerRate": 0, "name": f"{case.name} [highest]"})
            highest: dict[str, float] = {}
            for name in entry.clients:
                tried = self._run(searched, [name], settings, _SEARCH_RUNS, labels)
                found += tried
                if results.usable(tried):
                    highest[name] = _held(tried[0])
            for share in entry.load_curve:
                for number, name in itertools.product(range(entry.runs), entry.clients):
                    if name not in highest:
                        self._done()
                        continue
                    rate = max(1, round(highest[name] * share))
                    loaded = case.changed(
                        {"producerRate": rate, "name": f"{case.name} [{share:.0%} load]"}
                    )
                    extra = {**labels, "loadShare": share, "offeredRate": rate}
                    found += self._run(loaded, [name], settings, 1, extra, first=number + 1)
        return found

    def _run(
        self,
        case: Workload,
        clients: Sequence[str],
        settings: Settings,
        runs: int,
        labels: Mapping[str, Any],
        first: int = 1,
    ) -> list[Result]:
        return runner.run_workload(
            case,
            clients,
            self._out_dir,
            settings,
            runs=runs,
            first=first,
            registry=self._registry,
            servers=self._servers,
            labels=labels,
            tell=self._tell,
            done=self._done,
        )


def _held(result: Result) -> float:
    """The rate that a client kept up: the one found, unless it did not last in the timed phase."""
    return float(min(result["foundRate"], results.mean_rate(result)))


def draw(entry: Entry, found: Sequence[Result], out_dir: Path) -> list[Path]:
    """The pictures that suit an entry."""
    label = re.sub(r"[^\w]+", "-", entry.name.lower()).strip("-")
    drawn: list[Path] = []
    shares = [result for result in found if "loadShare" in result]
    if shares:
        path = out_dir / f"{label}.png"
        if plots.load_curve(shares, entry.name, path):
            drawn.append(path)
    if entry.sweep:
        swept = max(entry.sweep, key=lambda name: len(entry.sweep[name]))
        others = [name for name in entry.sweep if name != swept]
        for rest in itertools.product(*(entry.sweep[name] for name in others)):
            fixed = dict(zip(others, rest, strict=True))
            chosen = [result for result in found if fixed.items() <= result["sweep"].items()]
            suffix = "".join(f", {name} {value}" for name, value in fixed.items())
            path = out_dir / (label + re.sub(r"[^\w]+", "-", suffix.lower()) + ".png")
            if plots.sweep(chosen, swept, entry.name + suffix, path):
                drawn.append(path)
    if not entry.sweep and not shares:
        path = out_dir / f"{label}-percentiles.png"
        if plots.percentiles(found, entry.name, path):
            drawn.append(path)
    return drawn


def report(found: Sequence[Result]) -> str:
    """The table under what must be known to read it."""
    facts: Mapping[str, str] = next(
        (result["environment"] for result in found if "environment" in result), {}
    )
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    notes = dict.fromkeys(
        f"- {result.get('entry', result['workload'])}: {note}"
        for result in found
        for note in result["overrides"]
    )
    return (
        "\n".join(
            ["Environment:", "", *lines, "", "Changed from the workload files:", "", *notes, ""]
        )
        + "\n"
        + results.table(found)
    )
