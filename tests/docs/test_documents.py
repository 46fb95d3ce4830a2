"""Every command and every program in the documents is run, page by page, against a real cluster.

A fenced block of language ``python`` is executed; the blocks of a page share one namespace and one
working directory. A block of language ``console`` holds commands after ``$`` and, below each, lines
that its output must contain (``...`` stands for anything). ``text`` blocks are not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN_ELSEWHERE = {
    "make demo": "run by tests/docs/test_examples.py as examples/flights.py",
    "make test": "it is the command that runs this test",
    "make check": "the continuous integration script runs it",
    "make docs": "tests/unit/test_generated_docs.py compares its output",
    "ray up cluster.yaml": "needs machines; tests/docs/test_examples.py checks the file",
}


class Block(NamedTuple):
    language: str
    body: str


def blocks(page: Path) -> Iterator[Block]:
    for found in FENCE.finditer(page.read_text()):
        yield Block(found.group(1), found.group(2))


def commands(body: str) -> Iterator[tuple[str, list[str]]]:
    """(command, lines that must appear in its output), with ``\\`` continuations joined."""
    command, expected = "", []
    joined = body.replace("\\\n", "")
    for line in joined.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:].strip(), []
        elif line.strip() and line.strip() != "...":
            expected.append(line.strip())
    if command:
        yield command, expected


def run_console(body: str, cwd: Path, environment: dict[str, str]) -> None:
    for command, expected in commands(body):
        if command in RUN_ELSEWHERE or command.startswith(("python -m bench", "make bench")):
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {command}\nexited {done.returncode}\n{output}"
        for line in expected:
            pattern = ".*".join(re.escape(part) for part in re.split(r"\s*\.\.\.\s*", line))
            assert re.search(pattern, output), (
                f"$ {command}\nshould print {line!r}, printed\n{output}"
            )


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page: Path, tmp_path: Path, documents_home: Path) -> None:
    """The page's blocks run in the order in which a reader meets them."""
    found = [block for block in blocks(page) if block.language in ("python", "console")]
    environment = {
        **os.environ,
        "HOME": str(documents_home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "160",
    }
    namespace: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for block in found:
            if block.language == "console":
                run_console(block.body, tmp_path, environment)
            else:
                exec(compile(block.body, f"{page.name}", "exec"), namespace)
    finally:
        os.chdir(before)
