from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from raykafka import __version__
from raykafka.cli.main import app
from raykafka.config import TABLES


def run(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == exit_code, result.output
    return result


def test_help_lists_all_commands() -> None:
    text = run("--help").stdout
    commands = ("up", "down", "status", "topic", "partition", "broker", "rebalance", "produce")
    for command in (*commands, "consume", "config", "completion"):
        assert f"\n  {command} " in text
        assert "Usage: " in run(command, "--help").stdout


def test_version() -> None:
    assert __version__ in run("--version").stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    assert "No such command 'tpoic'" in run("tpoic", exit_code=2).stderr


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    program = (
        "import sys, time; start = time.process_time()\n"
        "from raykafka.cli.main import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'ray', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "print(time.process_time() - start, sorted(heavy))"
    )
    done = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    last = [each.stdout.splitlines()[-1].split(" ", 1) for each in done]
    assert min(float(seconds) for seconds, _ in last) < 0.3
    assert {heavy for _, heavy in last} == {"[]"}


@pytest.mark.parametrize(
    "command", ["topic", "produce", "consume", "config", "up", "broker", "partition"]
)
def test_help_of_a_command_does_not_load_arrow(command: str) -> None:
    program = (
        "import sys\nfrom raykafka.cli.main import app\n"
        f"app(['{command}', '--help'], standalone_mode=False)\n"
        "assert not {'ray', 'pyarrow'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_keys_are_listed_by_scope() -> None:
    found = json.loads(run("config", "list", "--json").stdout)
    assert len(found) == sum(len(table.keys) for table in TABLES)
    topics = json.loads(run("config", "list", "topic", "--json").stdout)
    assert {entry["scope"] for entry in topics} == {"topic"}
    assert "linger.ms" in run("config", "list", "producer").stdout


def test_keys_are_explained_in_every_scope() -> None:
    found = json.loads(run("config", "describe", "compression.type", "--json").stdout)
    assert [entry["scope"] for entry in found] == ["topic", "broker", "producer"]
    text = run("config", "describe", "linger_ms").stdout
    assert "linger.ms (producer)" in text
    assert "at least 0" in text


def test_unknown_keys_are_answered_with_the_nearest() -> None:
    assert (
        'did you mean "linger.ms"?' in run("config", "describe", "linger.mss", exit_code=1).stderr
    )
    assert "config list" in run("config", "describe", "~~~", exit_code=1).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_RAYKAFKA_COMPLETE" in script
    assert "raykafka" in script


@pytest.mark.parametrize(
    ("words", "word", "expected"),
    [
        ("raykafka to", 1, "topic"),
        ("raykafka topic create x -c retention.m", 5, "retention.ms="),
        ("raykafka produce x -X linge", 4, "linger.ms="),
        ("raykafka config describe segment.b", 3, "segment.bytes"),
    ],
)
def test_completion_of_commands_and_keys(words: str, word: int, expected: str) -> None:
    environment = {
        "_RAYKAFKA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(word),
    }  # fmt: skip
    result = CliRunner().invoke(app, [], env=environment, prog_name="raykafka")
    assert f"plain,{expected}" in result.stdout.split("\n")


def test_wrong_settings_of_up_are_refused_before_anything_starts() -> None:
    refused = run("up", "-c", "partition.actor=1", exit_code=1)
    assert 'did you mean "partition.actors"?' in refused.stderr
