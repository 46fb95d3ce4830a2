"""Run the cases, judge the rows, write the results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.headline import report
from bench.headline.cases import CASES
from bench.headline.session import Session
from bench.headline.targets import ROWS
from bench.measuring.environment import environment
from bench.peers.registry import PEERS

console = Console(stderr=True)


def run(cases: Sequence[str], runs: int, out: Path) -> list[dict[str, Any]]:
    """Measure ``cases`` (all when empty) and write ``headline.json``, ``.md`` and ``.png``.

    Every case is repeated ``runs`` times, its sides one after the other in each round, so that a
    noisy minute hits all of them. Rows of other cases keep their places without figures.
    """
    chosen = [name for name in CASES if not cases or name in cases]
    total = sum(CASES[name].rounds(runs) + CASES[name].warm_up for name in chosen)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    started = time.time()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=total)
        session = Session([make() for make in PEERS.values()], _teller(progress, task))
        try:
            for name in chosen:
                case = CASES[name]
                session.use_copies(case.copies)
                for round_ in range(-case.warm_up, case.rounds(runs)):
                    session.counting = round_ >= 0
                    case.measure(session)
                    progress.advance(task)
            facts = environment(session.folder)
        finally:
            session.close()
    rows = [row.judge(session.figures) for row in ROWS]
    result = {
        "environment": facts,
        "seconds": round(time.time() - started),
        "missing": session.missing,
        "void": session.void,
        "figures": session.figures,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "headline.json").write_text(json.dumps(rows, indent=2) + "\n")
    (out / "headline-run.json").write_text(json.dumps(result, indent=2) + "\n")
    (out / "headline.md").write_text(report.markdown(rows, result))
    report.plot(rows, out / "headline.png")
    report.show(rows, result)
    return rows


def _teller(progress: Progress, task: Any) -> Callable[[str], None]:
    def say(text: str) -> None:
        if text.startswith("void"):
            progress.console.print(text, style="red", highlight=False)
        progress.update(task, description=f"{text:<42.42}")

    return say
