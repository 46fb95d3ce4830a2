"""A few rounds against a real group in processes of its own."""

from __future__ import annotations

import subprocess
import sys


def test_members_and_coordinators_come_and_go() -> None:
    words = [sys.executable, "-m", "raykafka.testing.membership", "--rounds", "4", "--seed", "7"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("0 problems")
