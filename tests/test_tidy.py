"""What a linter does not check: size, unfinished work, and things that must not be there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN_PACKAGES = ("raykafka", "bench")
SOURCES = sorted(path for package in OWN_PACKAGES for path in (ROOT / package).rglob("*.py"))
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".ipynb", ".cfg", ".txt", ".sh", ""}
# Spelled in parts so that this file does not hold them.
REGISTRY_HOSTS = [
    "pypi" + ".org", "pythonhosted" + ".org", "anaconda" + ".org", "crates" + ".io",
]  # fmt: skip
# Files without a line of logic, which are read by looking things up.
TABLES_OF_DEFINITIONS = {"raykafka/protocol/messages.py": 700, "raykafka/errors.py": 500}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def every_text_file() -> Iterator[Path]:
    skipped = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
    skipped |= {".hypothesis", ".import_linter_cache", "node_modules", "build", "dist", "shared"}
    for path in ROOT.rglob("*"):
        parts = set(path.relative_to(ROOT).parts)
        if path.is_file() and path.suffix in TEXT_SUFFIXES and not parts & skipped:
            yield path


@pytest.fixture(params=SOURCES, ids=relative)
def source(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_file_is_at_most_400_lines(source: Path) -> None:
    limit = TABLES_OF_DEFINITIONS.get(relative(source), 400)
    assert len(source.read_text().splitlines()) <= limit


def test_functions_are_short_and_classes_narrow(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 70, f"{node.name} has {lines} lines"
        if isinstance(node, ast.ClassDef):
            public = [
                item.name
                for item in node.body
                if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
                and not item.name.startswith("_")
                and not item.decorator_list
            ]
            assert len(public) <= 20, f"{node.name} has {len(public)} public methods"


def test_nothing_is_left_unfinished(source: Path) -> None:
    text = source.read_text()
    assert not UNFINISHED.findall(text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            swallowed = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            assert not (swallowed and caught in ("everything", "Exception", "BaseException"))


def test_pickle_is_not_used(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {name.partition(".")[0] for name in names} & {"pickle", "cloudpickle", "dill"}


def test_own_modules_are_imported_at_the_top(source: Path) -> None:
    for function in ast.walk(ast.parse(source.read_text())):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith(OWN_PACKAGES), function.name
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith(OWN_PACKAGES) for alias in node.names)


def test_sub_packages_have_empty_init_files(source: Path) -> None:
    facades = {ROOT / "raykafka", ROOT / "raykafka" / "config"}  # what they gather is all pure
    if source.name == "__init__.py" and source.parent not in facades:
        body = ast.parse(source.read_text()).body
        assert len(body) == 1, "importing a module runs this file, so it may only hold a docstring"
        assert isinstance(body[0], ast.Expr)
        assert isinstance(body[0].value, ast.Constant)


def test_no_file_names_a_package_registry() -> None:
    for path in every_text_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not [host for host in REGISTRY_HOSTS if host in text], relative(path)
