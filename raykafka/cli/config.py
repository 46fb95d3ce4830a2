"""``raykafka config``: the documented keys."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from raykafka.cli.output import print_facts, print_json, print_table
from raykafka.config import TABLES, ConfigKey, ConfigTable, Importance
from raykafka.errors import InvalidConfigError

_SCOPES = [table.scope.replace(" ", "-") for table in TABLES]


@click.group()
def config() -> None:
    """Look up the documented configuration keys.

    The values of a running topic are shown by `raykafka topic describe`.
    """


def _as_json(table: ConfigTable, key: ConfigKey) -> dict[str, object]:
    return {
        "scope": table.scope,
        "name": key.name,
        "python_name": key.field_name,
        "type": key.type.value,
        "default": key.default_text,
        "valid": key.valid.description if key.valid else "",
        "importance": key.importance.value,
        "dynamic": _can_change(table) and key.dynamic,
        "documentation": key.documentation,
    }


def _by_importance(table: ConfigTable) -> list[ConfigKey]:
    order = list(Importance)
    return sorted(table, key=lambda key: (order.index(key.importance), key.name))


@config.command("list")
@click.argument("scope", type=click.Choice(_SCOPES), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(scope: str | None, as_json: bool) -> None:
    """List all keys, or those of SCOPE."""
    tables = [table for table in TABLES if scope in (None, table.scope.replace(" ", "-"))]
    if as_json:
        print_json([_as_json(table, key) for table in tables for key in _by_importance(table)])
        return
    for table in tables:
        rows = [
            (key.name, key.type.value, key.default_text or "-", key.importance.value)
            for key in _by_importance(table)
        ]
        print_table(("key", "type", "default", "importance"), rows, title=table.scope.capitalize())


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    names = sorted({key.name for table in TABLES for key in table})
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@config.command()
@click.argument("key", shell_complete=_complete)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def describe(key: str, as_json: bool) -> None:
    """Explain KEY, wherever it can be set."""
    found = [(table, table.find(key)) for table in TABLES if key in table]
    if not found:
        _refuse(key)
    if as_json:
        print_json([_as_json(table, definition) for table, definition in found])
        return
    for table, definition in found:
        print_facts(
            [
                ("key", f"{definition.name} ({table.scope})"),
                ("meaning", definition.documentation),
                ("type", definition.type.value),
                ("default", definition.default_text or None),
                ("valid", definition.valid.description if definition.valid else None),
                ("importance", definition.importance.value),
                ("can be changed while running", _can_change(table) and definition.dynamic),
            ]
        )
        click.echo()


def _can_change(table: ConfigTable) -> bool:
    """Clients keep the settings that they were made with; those of servers may change."""
    return table.scope in ("topic", "broker", "share group")


def _refuse(key: str) -> None:
    everything = ConfigTable("", tuple({k.name: k for table in TABLES for k in table}.values()))
    try:
        everything.find(key)
    except InvalidConfigError as error:
        hint = error.message.partition("; ")[2]
        hint = hint if hint.startswith("did you mean") else "`raykafka config list` shows all"
        raise InvalidConfigError(f'unknown configuration "{key}"; {hint}') from None
