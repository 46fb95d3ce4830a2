"""The headline as a table on the screen, as Markdown, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich.console import Console
from rich.table import Table

mpl.use("Agg")

from matplotlib import pyplot as plt

_TITLES = ("row", "peer", "unit", "raykafka", "peer's", "ratio", "target", "met")

_WIDTH = 180
"""Of the table where no terminal says how wide it is."""

Row = Mapping[str, Any]


def number(value: float | None) -> str:
    """A figure with three significant digits, or a dash."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {None: "-", True: "yes", False: "NO"}[row["met"]]
    figures = (number(row["ours"]), number(row["theirs"]), number(row["ratio"]))
    return (row["row"], row["peer"], row["unit"], *figures, row["target"] or "-", verdict)


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of Markdown."""
    titles = (*_TITLES, "spread of raykafka", "spread of the peer", "note")
    lines = ["| " + " | ".join(titles) + " |"]
    lines.append("| --- | --- | --- | ---: | ---: | ---: | --- | --- | --- | --- | --- |")
    for row in rows:
        spreads = (_spread(row["ours_spread"]), _spread(row["theirs_spread"]))
        lines.append("| " + " | ".join((*_cells(row), *spreads, row["note"])) + " |")
    return lines


def markdown(rows: Sequence[Row], result: Mapping[str, Any]) -> str:
    """The table with its environment, what was missing and what was void."""
    facts = ", ".join(f"{key} {value}" for key, value in result["environment"].items())
    runs = max((row["runs"] for row in rows), default=0)
    lines = [f"Machine: {facts}.", ""]
    lines += [
        f"Medians of {runs} interleaved runs; it took {result['seconds']} s.",
        "",
        *table(rows),
    ]
    for what, entries in (("Missing", result["missing"].items()), ("Void", result["void"])):
        told = [entry if isinstance(entry, str) else ": ".join(entry) for entry in entries]
        lines += ["", f"{what}: {'; '.join(told) or 'nothing'}."]
    return "\n".join(lines) + "\n"


def _spread(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"{number(bounds[0])} to {number(bounds[1])}"


def show(rows: Sequence[Row], result: Mapping[str, Any]) -> None:
    """Print the table."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    for key, value in result["environment"].items():
        console.print(f"{key}: {value}", highlight=False)
    shown = Table(*_TITLES)
    for row in rows:
        style = {None: "dim", True: "green", False: "red"}[row["met"]]
        shown.add_row(*_cells(row), style=style)
    console.print(shown)
    for row in rows:
        if row["note"] and row["ours"] is not None:
            console.print(f"{row['row']} ({row['peer']}): {row['note']}", highlight=False)
    for name, reason in result["missing"].items():
        console.print(f"missing: {name}: {reason}", highlight=False)
    for entry in result["void"]:
        console.print(f"void: {entry}", style="red", highlight=False)


def plot(rows: Sequence[Row], path: Path) -> None:
    """How many times better each row is, on a logarithmic axis, with its target as a tick."""
    shown = [row for row in rows if row["ratio"]]
    if not shown:
        return
    names = [f"{row['row']}\n{row['peer'].removeprefix('Apache Kafka, ')}" for row in shown]
    figure, axes = plt.subplots(figsize=(10, 0.45 * len(shown) + 1.2), layout="constrained")
    grey, green, red = "#8a8f98", "#2f7d4f", "#b5473c"
    colours = {None: grey, True: green, False: red}
    places = range(len(shown))
    better = [_times_better(row, row["ratio"]) for row in shown]
    axes.set_xscale("log")
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.axvline(1, color="black", linewidth=0.6)
    widths = [value - 1 for value in better]
    axes.barh(places, widths, left=1, color=[colours[row["met"]] for row in shown], height=0.62)
    for place, row, value in zip(places, shown, better, strict=True):
        bound = None if row["bound"] is None else _times_better(row, row["bound"])
        if bound is not None:
            axes.plot([bound, bound], [place - 0.4, place + 0.4], color="black", linewidth=1.4)
        furthest = max(value, 1.0, bound or 0.0)
        axes.text(furthest * 1.08, place, f"{value:.3g}x", va="center", fontsize=8)
    axes.set_yticks(places, names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("times better than the peer (tick: target; green: met; grey: no target)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _times_better(row: Row, ratio: float) -> float:
    return float(ratio if row["unit"].endswith("/s") else 1 / ratio)
