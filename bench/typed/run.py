"""All cases about columns, repeated, with the median of every figure written down."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.measuring.environment import environment
from bench.measuring.verification import VoidRunError
from bench.measuring.worker import WorkerFailedError
from bench.peers.api import Peer
from bench.peers.registry import CLIENTS, PEERS
from bench.typed import columns, footprint, ray_data, tensors

FOOTPRINT_CLIENTS = ("raykafka", "raykafka tables", "confluent-kafka", "redis-py", "nats-py")

Figures = dict[str, Any]


def run(out: Path, runs: int, tell: Callable[[str], None]) -> Figures:
    """Measure columns, tensors, datasets and footprints; writes ``typed.json`` and ``typed.md``.

    Figures by case, then by what was measured; peers that are not installed are under
    ``missing``, runs that were void or failed under ``void``.
    """
    folder = Path(tempfile.mkdtemp(prefix="raykafka-bench-"))
    found: Figures = {"missing": {}, "void": []}
    running: dict[str, Peer] = {}
    try:
        for name, make in PEERS.items():
            peer = make()
            if (reason := peer.missing()) is not None:
                found["missing"][name] = reason
            elif name != "ray-queue":  # it keeps nothing that these cases could read again
                (folder / name).mkdir()
                running[name] = peer
                peer.start(folder / name)
        cases = _cases(running)
        for name, measure in cases.items():
            rounds = []
            for number in range(runs):
                tell(f"{name}, run {number + 1} of {runs}")
                try:
                    rounds.append(measure())
                except (VoidRunError, WorkerFailedError, TimeoutError) as error:
                    found["void"].append(f"{name}: {str(error).strip().splitlines()[-1]}")
            found[name] = medians(rounds)
        found["environment"] = environment(folder)
    finally:
        for peer in running.values():
            peer.stop()
        shutil.rmtree(folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "typed.json").write_text(json.dumps(found, indent=2) + "\n")
    (out / "typed.md").write_text(markdown(found))
    return found


def _cases(running: Mapping[str, Peer]) -> dict[str, Callable[[], Mapping[str, Any]]]:
    ours = running["raykafka"].address
    theirs = running["kafka"].address if "kafka" in running else None

    def costs() -> dict[str, Any]:
        chosen = [CLIENTS[name] for name in FOOTPRINT_CLIENTS if CLIENTS[name].peer in running]
        found: dict[str, Any] = {}
        for client in chosen:
            found |= footprint.measure(running[client.peer], [client])
        return found

    return {
        "columns": lambda: columns.measure(ours),
        "tensors": lambda: tensors.measure(ours, theirs),
        "ray.data": lambda: {"rows/s": ray_data.measure(ours, theirs)},
        "footprint": costs,
    }


def medians(rounds: list[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The median of every figure over the rounds; texts stay as they are."""
    gathered: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for each in rounds:
        for what, figures in each.items():
            for name, value in figures.items():
                gathered[what][name].append(value)
    return {
        what: {
            name: values[0] if isinstance(values[0], str) else statistics.median(values)
            for name, values in figures.items()
        }
        for what, figures in gathered.items()
    }


def markdown(found: Mapping[str, Any]) -> str:
    """A table per case."""
    facts = ", ".join(f"{key} {value}" for key, value in found["environment"].items())
    lines = [f"Machine: {facts}."]
    for case in ("columns", "tensors", "ray.data", "footprint"):
        table: Mapping[str, Mapping[str, Any]] = found.get(case) or {}
        names = list(dict.fromkeys(name for figures in table.values() for name in figures))
        lines += ["", f"## {case}", "", "| what | " + " | ".join(names) + " |"]
        lines.append("| --- |" + " ---: |" * len(names))
        for what, figures in table.items():
            cells = [_cell(figures.get(name)) for name in names]
            lines.append(f"| {what} | " + " | ".join(cells) + " |")
    for name, reason in found["missing"].items():
        lines += ["", f"Missing: {name}: {reason}."]
    for entry in found["void"]:
        lines += ["", f"Void: {entry}."]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
