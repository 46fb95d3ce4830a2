"""Write the pages that come from definitions in the code: ``python docs/generate.py [--check]``.

``--check`` writes nothing and exits with 1 if a page is not what the code says.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from generate_protocol import protocol_page

from bench.headline import report
from raykafka.config import TABLES, ConfigKey, ConfigTable, Importance

DOCS = Path(__file__).parent

_CONFIGURATION_INTRODUCTION = """\
# Configuration

Every key that raykafka knows; any other key is refused by name. The names, meanings and defaults
are Kafka's, except where the text says otherwise.

<!-- Written by docs/generate.py from raykafka/config/: change those, then run `make docs`. -->

- **Topic** keys are set when a topic is created and altered with `raykafka topic alter` or
  `Admin.incremental_alter_configs`.
- **Broker** keys are given to `raykafka.start(configs=...)` or `raykafka up --config`; the dynamic
  ones can be altered while the cluster runs.
- **Producer** and **consumer** keys are keyword arguments: `linger.ms` is `linger_ms` in Python;
  both spellings are accepted everywhere. **Share consumers** have some of the consumers' keys.
- **Share group** keys are set with `raykafka share-group alter` or
  `Admin.alter_share_group_configs`, and can be changed while the group works.

The command `raykafka config list` shows the same keys in a terminal. Sizes are in bytes, times in
milliseconds.
"""


def configuration_page() -> str:
    """The text of docs/configuration.md."""
    return "\n".join([_CONFIGURATION_INTRODUCTION, *(_section(table) for table in TABLES)])


def _section(table: ConfigTable) -> str:
    lines = [f"## {table.scope.capitalize()}", ""]
    for key in sorted(table, key=lambda key: (list(Importance).index(key.importance), key.name)):
        lines += [f"### `{key.name}`", "", key.documentation, "", *_facts(table, key), ""]
    return "\n".join(lines)


def _facts(table: ConfigTable, key: ConfigKey) -> Iterator[str]:
    yield f"- Type: {key.type.value}"
    yield f"- Default: `{key.default_text}`" if key.default_text else "- Default: unset"
    if key.valid is not None:
        yield f"- Valid: {key.valid.description}"
    yield f"- Importance: {key.importance.value}"
    if table.scope in ("topic", "broker"):
        fixed = "at creation" if table.scope == "topic" else "at start"
        yield f"- Can be changed: {'while running' if key.dynamic else f'no, it is set {fixed}'}"
    if key.aliases:
        yield f"- Also spelled: {', '.join(f'`{alias}`' for alias in key.aliases)}"


def performance_page() -> str:
    """The text of docs/performance.md with the tables of the last results in it.

    A table stands between comments that name its file below bench/results.
    """
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    return _RESULT.sub(lambda found: found[1] + _result(found[2]) + found[3], text)


def _result(name: str) -> str:
    path = DOCS.parent / "bench" / "results" / name
    if path.suffix == ".json":
        return "\n".join(report.table(json.loads(path.read_text()))) + "\n"
    return path.read_text(encoding="utf-8")


_RESULT = re.compile(r"(<!-- results: ([\w./-]+) -->\n).*?(<!-- end of results -->\n)", re.DOTALL)

PAGES = {
    "configuration.md": configuration_page,
    "performance.md": performance_page,
    "protocol.md": protocol_page,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` compare them; returns the exit code."""
    stale = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"not up to date: {', '.join(stale)}; run `make docs`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
