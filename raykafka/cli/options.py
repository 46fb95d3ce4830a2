"""Options that several commands share, and the clusters they lead to."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

import raykafka
from raykafka.clock import SystemClock
from raykafka.config import ConfigTable

if TYPE_CHECKING:
    from raykafka.runtime import Cluster

Command = TypeVar("Command", bound=Callable[..., Any])

_AGE = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def cluster_option(command: Command) -> Command:
    """``--name``: which cluster."""
    return click.option(
        "--name",
        "-n",
        default="default",
        envvar="RAYKAFKA_CLUSTER",
        show_default=True,
        show_envvar=True,
        help="Name of the cluster, or the data directory of one on this machine.",
    )(command)


def json_option(command: Command) -> Command:
    """``--json``: results for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def quiet_option(command: Command) -> Command:
    """``--quiet``: no progress and no remarks."""
    return click.option("--quiet", "-q", is_flag=True, help="Show no progress and no remarks.")(
        command
    )


def connect(name: str) -> Cluster:
    """The running cluster of that name; raises ``ClusterUnreachableError``."""
    return raykafka.connect(name)


def parse_settings(pairs: tuple[str, ...]) -> dict[str, str]:
    """``key=value`` options; raises ``click.BadParameter`` for one without ``=``."""
    settings = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found or not key:
            raise click.BadParameter(f"{pair!r} is not of the form key=value")
        settings[key.strip()] = value.strip()
    return settings


def complete_keys(
    table: ConfigTable,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Completion of ``key=`` for the keys of a table."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = (f"{key.name}=" for key in table)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


def moment(text: str) -> int:
    """Milliseconds since the epoch of an ISO time (local without zone), an age, or milliseconds."""
    text = str(text).strip()
    if text.isdigit():
        return int(text)
    age = _AGE.fullmatch(text)
    if age:
        return max(0, SystemClock().now_ms() - int(float(age[1]) * _UNIT_MS[age[2]]))
    try:
        # Python 3.10 does not read the Z of ISO 8601.
        stamp = datetime.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{text!r} is not a time: use 2013-01-31T18:00, milliseconds since the epoch, or an "
            "age such as 15m, 2h or 7d"
        ) from None
    return max(0, int(stamp * 1000))
