"""Controllers on three Ray nodes: SIGKILL the active one while a producer keeps producing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("three_nodes.py")


def test_the_active_controller_is_killed_while_a_producer_produces(tmp_path: Path) -> None:
    """In a process of its own: a Ray of three nodes, beside the one of the other tests."""
    environment = {**os.environ, "RAYKAFKA_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "data")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
