"""Where clusters of this user keep things: one directory per cluster name."""

from __future__ import annotations

import os
import re

from raykafka.errors import InvalidRequestError

HOME_VARIABLE = "RAYKAFKA_HOME"
"""Environment variable that replaces ``~/.raykafka``."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def home() -> str:
    """``$RAYKAFKA_HOME``, or ``~/.raykafka``."""
    return os.path.abspath(os.environ.get(HOME_VARIABLE) or os.path.expanduser("~/.raykafka"))


def cluster_home(name: str) -> str:
    """Directory of the cluster called ``name``: its data by default, and always its address.

    Raises ``InvalidRequestError`` for a name that could not be a directory.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{name!r} cannot name a cluster: use up to 100 letters, digits, dots, underscores and "
            "hyphens, beginning with a letter or digit"
        )
    return os.path.join(home(), name)
