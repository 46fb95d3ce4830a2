"""Every command and every program in the documents is run, page by page, against a real cluster.

The blocks of a page share one namespace, one working directory and one Ray, and run in the order in
which a reader meets them. What a fenced block's language means:

- ``python``: executed.
- ``output``: what the ``python`` block before it prints: its lines must appear there in order.
- ``console``: commands after ``$`` and, below each, lines that its output must contain.
- ``text``, ``yaml`` and others: not run.

In expected lines ``...`` stands for anything, and runs of spaces are all alike. A page leaves no
cluster behind.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from raykafka import RaykafkaError, ray_runtime

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN_ELSEWHERE = {
    "make demo": "run by tests/docs/test_examples.py as examples/flights.py",
    "make test": "it is the command that runs this test",
    "make check": "the continuous integration script runs it",
    "make bench": "tests/docs/test_examples.py runs one case of it",
    "make bench-full": "tests/bench runs its parts",
    "make bench-floor": "tests/docs/test_examples.py runs one case of it",
    "make bench-peers": "it needs root; tests use what is installed",
    "make docs": "tests/unit/test_generated_docs.py compares its output",
    "ray up cluster.yaml": "needs machines; tests/docs/test_examples.py checks the file",
}


class Block(NamedTuple):
    language: str
    body: str
    line: int
    """Of the page, where the body begins."""


def blocks(text: str) -> list[Block]:
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in FENCE.finditer(text)
    ]


def commands(body: str) -> Iterator[tuple[str, list[str]]]:
    """(command, lines that must appear in its output), with ``\\`` continuations joined."""
    command, expected = "", []
    joined = body.replace("\\\n", "")
    for line in joined.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:].strip(), []
        else:
            expected.append(line)
    if command:
        yield command, expected


def missing_line(expected: Sequence[str], output: str) -> str | None:
    """The first expected line that ``output`` lacks behind those before it."""
    place = 0
    for line in expected:
        parts = [r"\s+".join(map(re.escape, part.split())) for part in line.split("...")]
        found = re.compile(r"[ \t]*.*?[ \t]*".join(parts)).search(output, place)
        if found is None:
            return line
        place = found.end()
    return None


def run_console(block: Block, cwd: Path, environment: dict[str, str]) -> None:
    for command, expected in commands(block.body):
        if command in RUN_ELSEWHERE or command.startswith("python -m bench"):
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        printed = done.stdout
        assert done.returncode == 0, f"$ {command}\nexited {done.returncode}\n{printed}"
        missing = missing_line(expected, printed)
        assert missing is None, f"$ {command}\nshould print {missing!r}, printed\n{printed}"


def run_python(page: Path, block: Block, namespace: dict[str, Any]) -> str:
    """Execute the block; what it printed."""
    source = "\n" * (block.line - 1) + block.body  # so that tracebacks name the page's lines
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, str(page), "exec"), namespace)
    return printed.getvalue()


def stop_clusters() -> list[str]:
    """Stop what still runs; the names."""
    names = ray_runtime.running_clusters()
    for name in names:
        try:
            ray_runtime.stop_controller(name, 30)
        except RaykafkaError:  # it may never have started
            ray_runtime.find_controller(name).kill()
    return names


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page: Path, tmp_path: Path, documents_home: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "160",
    }
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for block in blocks(page.read_text()):
            if block.language == "console":
                run_console(block, tmp_path, environment)
            elif block.language == "python":
                printed = run_python(page, block, namespace)
            elif block.language == "output":
                missing = missing_line(block.body.splitlines(), printed)
                assert missing is None, (
                    f"{page.name}:{block.line}: should print {missing!r}, printed\n{printed}"
                )
    except BaseException:
        stop_clusters()
        raise
    finally:
        os.chdir(before)
    assert stop_clusters() == [], f"{page.name} does not stop its clusters"


def anchors(page: Path) -> set[str]:
    """Of the page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page.name} links to {target}, and there is no {name}"
        assert not anchor or anchor in anchors(found), f"{page.name} links to {target}"


class TestTheRunnerItself:
    PAGE = "# A\n\n```python\nx = 1\n```\n\n```console\n$ a \\\n  b\none\n\n$ c\n```\n"

    def test_blocks_know_their_line(self) -> None:
        assert [(b.language, b.line) for b in blocks(self.PAGE)] == [("python", 4), ("console", 8)]

    def test_commands_are_joined_and_keep_their_output(self) -> None:
        assert list(commands(blocks(self.PAGE)[1].body)) == [("a   b", ["one", ""]), ("c", [])]

    @pytest.mark.parametrize(
        ("expected", "missing"),
        [
            (["a b", "c"], None),
            (["a...", "...c..."], None),
            (["", "c"], None),
            (["c", "a b"], "a b"),
            (["a ... z"], "a ... z"),
            (["a ... c"], "a ... c"),
        ],
    )
    def test_expected_lines(self, expected: list[str], missing: str | None) -> None:
        assert missing_line(expected, "a   b\nxcx\n") == missing

    def test_a_failing_command_fails(self, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match="exited 3"):
            run_console(Block("console", "$ exit 3\n", 1), tmp_path, dict(os.environ))

    def test_an_error_names_the_line_of_the_page(self) -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            run_python(Path("page.md"), Block("python", "x = 1\n1 / 0\n", 10), {})
        assert caught.traceback[-1].lineno == 10  # counted from 0: line 11
