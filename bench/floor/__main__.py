"""Run benchmarks and print the table: ``python -m bench.floor [case ...]``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from bench.floor import consume, produce, scale
from bench.floor.measure import Row, environment, print_rows, write_json

CASES: dict[str, Callable[[int], list[Row]]] = {
    "one-record": produce.one_record,
    "tables": produce.tables,
    "send": produce.send_loop,
    "poll": consume.poll,
    "end-to-end": consume.end_to_end,
    "mapped": consume.mapped,
    "idle": scale.idle_connections,
    "partitions": scale.partitions,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.floor", description=__doc__)
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="case",
        help=f"any of {', '.join(CASES)}, endurance; default: all but endurance",
    )
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs per case (default 5)")
    parser.add_argument(
        "--minutes", type=float, default=10, help="length of the endurance case (default 10)"
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES) - {"endurance"}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    print("  ".join(f"{key}={value}" for key, value in environment().items()))
    rows: list[Row] = []
    for name in options.cases or CASES:
        found = (
            scale.endurance(options.minutes) if name == "endurance" else CASES[name](options.runs)
        )
        print_rows(found)
        rows += found
    if options.json:
        write_json(rows, options.json)


if __name__ == "__main__":
    main()
