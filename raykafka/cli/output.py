"""How results are shown: tables for people, JSON for programs, progress on standard error."""

from __future__ import annotations

import base64
import datetime
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.status import Status
from rich.table import Table
from rich.text import Text


def print_json(value: object) -> None:
    """One JSON document on standard output, indented if a person looks at it."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(to_json(value, indent=indent))


def to_json(value: object, *, indent: int | None = None) -> str:
    """JSON text; bytes that are UTF-8 become text, others ``{"base64": ...}``."""
    return json.dumps(value, default=_jsonable, ensure_ascii=False, indent=indent)


def _jsonable(value: Any) -> object:
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(data).decode()}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)  # decimals, durations, UUIDs


def all_fields(value: Any) -> Any:
    """A message as dicts and lists, also with the fields that have their default: a program that
    looks for one must not have to know the defaults.
    """
    if isinstance(value, msgspec.Struct):
        return {name: all_fields(item) for name, item in msgspec.structs.asdict(value).items()}
    return [all_fields(item) for item in value] if isinstance(value, (list, tuple)) else value


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table for people; a column whose every value is a number is aligned to the right."""
    _print(table_of(columns, rows, title))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """The table that ``print_table`` prints."""
    shown = [[text_of(value) for value in row] for row in rows]
    numeric = [_is_numeric(row[index] for row in shown) for index in range(len(columns))]
    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in shown:
        table.add_row(*map(Text, row))
    return table


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in facts:
        # Text, because a string in brackets would be read as markup.
        grid.add_row(name, Text(text_of(value)))
    _print(grid)


def note(text: str) -> None:
    """A remark on standard error, so that standard output stays clean for pipes."""
    click.echo(text, err=True)


def progress(what: str, total: int | None, *, size: bool, quiet: bool) -> Progress:
    """A progress bar on standard error: of bytes (``size``) or of a count; unseen in pipes.

    ``total`` None shows activity only. The bar has one task, number 0.
    """
    counter: ProgressColumn = DownloadColumn() if size else TextColumn("{task.completed:,.0f}")
    bar = [BarColumn()] if total is not None else []
    console = Console(stderr=True)
    shown = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), *bar, counter, TimeElapsedColumn(),
        console=console, transient=True, disable=quiet or not console.is_terminal,
    )  # fmt: skip
    shown.add_task(what, total=total)
    return shown


def waiting(what: str, *, quiet: bool) -> Status | nullcontext[None]:
    """A sign of life on standard error while something takes its time; unseen in pipes."""
    console = Console(stderr=True)
    return nullcontext() if quiet or not console.is_terminal else console.status(what)


def text_of(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or "-"
    return str(value)


def size_text(count: int) -> str:
    """Bytes in the largest unit that leaves a number above 1."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _is_numeric(values: Iterable[str]) -> bool:
    found = [value for value in values if value != "-"]
    return bool(found) and all(value.replace(",", "").lstrip("-").isdigit() for value in found)


def _print(content: Table) -> None:
    # A pipe has no width of its own, and nobody there wants padding at the ends of lines.
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else 200)
    with console.capture() as captured:
        console.print(content)
    for line in captured.get().strip("\n").splitlines():
        if terminal or line.strip():
            click.echo(line if terminal else line.rstrip())
